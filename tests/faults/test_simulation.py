"""Random pipelines, random mishaps, thousands of seeds in virtual time: what a run comes to is what its graph means.

The engine, the run log and the artifact store are the real ones; `reference.py` foretells every calm life from the
graph alone. More seeds: PENSTOCK_SEEDS=20000. One seed: PENSTOCK_SEED=1234.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.errors import RunFailedError
from penstock.core.jsonvalue import dumps
from penstock.ports.events import RunView
from penstock.ports.records import RunState, StepRun
from penstock.stores.runlog import open_store
from penstock.testing import Bench, TurnedClock
from penstock.testing.bench import BenchRun
from penstock.testing.mishaps import Story
from penstock.testing.simulation import Play, Simulated, played

from .drawn_pipelines import Drawn
from .reference import BLOCKED, CACHED, FAILED, SUCCEEDED, Before, Ending, Key, Reference

SEEDS = int(os.environ.get("PENSTOCK_SEEDS", "2040"))
_PARTS = 24
_ON_DISK = 12  # one seed of so many has its run log in a file


class World:
    """One drawn pipeline, and the judge of its calm lives."""

    def __init__(self, seed: int, size: int, folder: Path) -> None:
        self.drawn = Drawn(seed, size)
        self.seed = seed
        self.folder = folder

    def bench(self) -> Bench:
        clock = TurnedClock()
        if self.seed % _ON_DISK:
            return Bench(cache=self.drawn.cache, clock=clock)
        home = Path(tempfile.mkdtemp(dir=self.folder))
        store = open_store(f"sqlite:///{home}/runs.db", home=home, clock=clock)
        return Bench(cache=self.drawn.cache, clock=clock, store=store)

    def play(self, story: Story) -> Play:
        drawn = self.drawn
        return Play(drawn.pipeline, drawn.parameters, self.bench, self.seed, story, self.judge, drawn.behaviour)

    def judge(self, before: RunView, run: BenchRun) -> Iterator[str]:
        computed: set[str] = set()
        for other in run.bench.store.match_runs(""):
            found = run.bench.store.step_runs(other) if other != run.id else before.steps.values()
            made = self._foretold(run, _before(found, frozenset())).endings
            computed |= {made[each.step, each.index].same or "" for each in found if each.state.has_output}
        foretold = self._foretold(run, _before(before.steps.values(), frozenset(computed)))
        ended = {(each.step, each.index): each for each in run.bench.store.step_runs(run.id)}
        yield from _misjudged(foretold.endings, ended, fail_fast=run.graph.fail_fast)
        bad = any(each.state in (FAILED, BLOCKED) for each in foretold.endings.values())
        if run.state is not (RunState.FAILED if bad else RunState.SUCCEEDED):
            yield f"the run {run.state.value}, and its steps {Counter(each.state.value for each in ended.values())}"
        if not bad and dumps(_output(run)) != dumps(foretold.result()):
            yield f"the run gave {_output(run)!r} instead of {foretold.result()!r}"

    def _foretold(self, run: BenchRun, before: Before) -> Reference:
        functions = self.drawn.functions(run.graph)
        cache = self.drawn.cache
        return Reference(run.graph, run.record.parameters, functions, self.drawn.behaviour, before, cache=cache)


def _before(steps: Iterator[StepRun], computed: frozenset[str]) -> Before:
    found = list(steps)
    return Before(
        done={(each.step, each.index): each.state.value for each in found if each.state.has_output},
        attempts={(each.step, each.index): each.attempts for each in found},
        computed=computed,
    )


def _output(run: BenchRun) -> object:
    try:
        return run.output
    except RunFailedError:  # what it returns was skipped
        return None


def _misjudged(endings: dict[Key, Ending], ended: dict[Key, StepRun], *, fail_fast: bool) -> Iterator[str]:
    stopped = fail_fast and any(each.state in (FAILED, BLOCKED) for each in endings.values())
    computing: dict[str, list[Key]] = defaultdict(list)
    for key in [*endings, *(key for key in ended if key not in endings)]:
        name, wanted, found = f"{key[0]}[{key[1]}]", endings.get(key), ended.get(key)
        if found is None or wanted is None:
            if not stopped:
                yield f"{name} should be {wanted and wanted.state}, and is {found and found.state.value}"
            continue
        if stopped and found.state.value == "cancelled":
            continue
        if wanted.state == SUCCEEDED and wanted.same is not None and wanted.inputs is not None:
            computing[wanted.same].append(key)
            took = found.state.value == CACHED
            wanted = wanted._replace(state=found.state.value, attempts=wanted.attempts - took) if took else wanted
        if (found.state.value, found.attempts) != (wanted.state, wanted.attempts):
            yield (
                f"{name} should be {wanted.state} after {wanted.attempts} attempts, and is {found.state.value} after "
                f"{found.attempts} ({found.note or found.failure})"
            )
        if {output: ref.digest for output, ref in found.outputs.items()} != {
            output: digest_bytes(dumps(value).encode()) for output, value in wanted.fields.items()
        }:
            yield f"{name} made something else than {str(wanted.fields)[:200]}"
        if wanted.inputs is not None and found.inputs != wanted.inputs and found.state.value != FAILED:
            yield f"{name} was given {found.inputs} instead of {wanted.inputs}"
    for keys in computing.values():
        states = Counter(ended[key].state.value for key in keys if ended[key].state.value != "cancelled")
        if states and states[SUCCEEDED] != 1:
            yield f"{keys} compute the same, and ended {dict(states)}"


def lived(seed: int, folder: Path) -> Simulated:
    """The pipeline and the story of one seed; where something breaks, of the smallest size at which it still does."""
    size = 1 + Random(f"size {seed}").randrange(9)
    call = f"PENSTOCK_SEED={seed} python -m pytest tests/faults/test_simulation.py -k one_seed"

    def at_size(size: int) -> Simulated:
        world = World(seed, size, folder)
        return played(Story.drawn(Random(f"story {seed}"), 10 + 4 * size), world.play, f"{call} (size {size})")

    try:
        return at_size(size)
    except AssertionError:
        for smaller in range(1, size):
            at_size(smaller)
        raise


@pytest.mark.parametrize("part", range(_PARTS))
def test_whatever_happens_a_run_comes_to_what_its_graph_means(part: int, tmp_path: Path) -> None:
    for seed in range(part, SEEDS, _PARTS):
        lived(seed, tmp_path)


@pytest.mark.skipif("PENSTOCK_SEED" not in os.environ, reason="missing capability: a seed to replay, in PENSTOCK_SEED")
def test_one_seed(tmp_path: Path) -> None:
    lived(int(os.environ["PENSTOCK_SEED"]), tmp_path)
