"""A process that dies before or after any write to the run log or the artifact store: resumed, the run ends as if calm.

The production runner on SQLite and a local folder, everything behind one fuse. What ran is counted outside of it, in a
file that the steps themselves write.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.authoring.identity import load_file
from penstock.core.canonical import digest_file
from penstock.ports.records import RunState, StepState
from penstock.ports.runlog import Store
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs
from penstock.stores.runlog import open_store
from penstock.testing import Crash, Death, Fuse, TurnedClock
from penstock.testing.faults import crashing_blobs, crashing_store
from penstock.wiring.config import Settings
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner

Step = tuple[str, str]  # name, index

FLOW = """
from pathlib import Path
from typing import NamedTuple

from penstock import Retry, context, optional, pipeline, step, when


def ran():
    now = context()
    with open(Path(__file__).parent / "ran", "a") as log:
        log.write(f"{now.step}|{now.index}|{now.attempt}\\n")
    return now


class Split(NamedTuple):
    train: list[int]
    test: list[int]


@step
def extract() -> list[int]:
    ran()
    print("extracting")
    return list(range(4000))  # more than a run log keeps: a file


@step
def split(rows: list[int]) -> Split:
    ran()
    return Split(rows[:3000], rows[:2])


@step(retry=Retry(3, base="1h"))
def fit(row: int, plus: int) -> list[int]:
    now = ran()
    if row == 1 and now.attempt < 3:
        raise OSError("busy")
    return [row + plus] * 3000


@step
def pick(models: list[list[int]]) -> int:
    ran()
    return sum(model[0] for model in models)


@step
def good(score: int) -> bool:
    ran()
    return score > 5


@step
def tell(score: int) -> str:
    ran()
    return f"told {score}"


@step
def end(said: str | None, not_said: str | None) -> list[str | None]:
    ran()
    return [said, not_said]


@pipeline
def fitted(rows: list[int], plus: int) -> int:
    return pick(fit.partial(plus=plus).map(row=rows))


@pipeline
def flow(plus: int = 10) -> list[str | None]:
    train, test = split(extract())
    score = fitted(test, plus)
    with when(good(score)):
        said = tell(score)
    with when(good(score), is_=False):
        not_said = tell.named("refuse")(score)
    return end(optional(said), optional(not_said)).after(train)
"""

BOUNDED = """
from pathlib import Path

from penstock import Retry, context, pipeline, step


def ran():
    now = context()
    with open(Path(__file__).parent / "ran", "a") as log:
        log.write(f"{now.step}|{now.index}|{now.attempt}\\n")
    return now


@step(pool="one", retry=Retry(2, base="1m"))
def fit(row: int) -> int:
    if ran().attempt == 1 and row == 1:
        raise OSError("busy")
    return row


@step(max_parallel=1)
def check(row: int) -> int:
    ran()
    return row


@step
def total(rows: list[int]) -> int:
    ran()
    return sum(rows)


@pipeline(max_active_runs=1)
def flow() -> int:
    return total(check.map(row=fit.map(row=[1, 2])))
"""


class FusedProject(Project):
    """A project whose stores are behind a fuse."""

    def __init__(self, root: Path, fuse: Fuse, clock: TurnedClock) -> None:
        super().__init__(Settings(root=str(root), home=str(root / ".penstock"), pools={"one": 1}), clock)
        self._fuse = fuse

    @cached_property
    def store(self) -> Store:
        self.make_home()
        return crashing_store(open_store(self.settings.runs_url, home=self.home, clock=self.clock), self._fuse)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(crashing_blobs(open_blobs(self.settings.artifacts_url, home=self.home), self._fuse))


Ended = dict[Step, tuple[str, dict[str, str]]]  # state, digests of the outputs


class Flow:
    """One project folder, over the lives of several processes."""

    def __init__(self, root: Path, *, cache: bool = True, source: str = FLOW) -> None:
        root.mkdir()
        (root / "penstock.toml").touch()
        (root / "flow.py").write_text(source, encoding="utf-8")
        self.root = root
        self.clock = TurnedClock()
        self._cache = cache
        self._module: ModuleType = load_file(str(root / "flow.py"))

    @contextmanager
    def process(self, fuse: Fuse) -> Iterator[FusedProject]:
        project = FusedProject(self.root, fuse, self.clock)
        try:
            yield project
        finally:
            project.store.close()

    def start(self, fuse: Fuse) -> Any:
        with self.process(fuse) as project:
            pipeline = self._module.flow
            parameters = pipeline.parameters({})
            runner = LocalRunner(project=project)
            traced = pipeline.trace(parameters)
            return runner.run(traced, parameters, check=False, workers=1, echo=False, cache=self._cache)

    def resume(self, fuse: Fuse, run: str | None) -> None:
        """As the next process does: finish the run, or start one where nothing of it was stored."""
        self.clock.advance("1m")  # between storing a run and locking it, only its lease says whether its owner lives
        if run is None:
            self.start(fuse)
            return
        with self.process(fuse) as project:
            found = project.store.find_run(run)
            assert found is not None
            assert found.state in (RunState.INTERRUPTED, RunState.SUCCEEDED)
            if found.state is RunState.INTERRUPTED:  # else it died after the last write that matters
                runner = LocalRunner(project=project)
                runner.resume(run, str(self.root), check=False, workers=1, echo=False)

    def newest(self) -> str | None:
        with self.process(Fuse()) as project:
            return next(iter(project.store.match_runs("")), None)

    def ended(self, run: str | None = None) -> tuple[RunState, Ended]:
        """A run, or the newest one, as another process reads it; every byte of what it made is checked."""
        with self.process(Fuse()) as project:
            summary = project.store.find_run(run or project.store.match_runs("")[0])
            assert summary is not None
            steps = project.store.step_runs(summary.record.id)
            for each in steps:
                for ref in each.outputs.values():
                    project.artifacts.load(ref)
            finished = (StepState.SUCCEEDED.value, StepState.CACHED.value)
            return summary.state, {
                (each.step, each.index): (
                    finished[0] if each.state.value in finished else each.state.value,
                    {name: ref.digest for name, ref in each.outputs.items()},
                )
                for each in steps
            }

    def finished(self, run: str | None) -> set[Step]:
        if run is None:
            return set()
        with self.process(Fuse()) as project:
            return {(each.step, each.index) for each in project.store.step_runs(run) if each.state.has_output}

    def ran(self, after: int = 0) -> list[Step]:
        """What was entered, in order, by the steps' own account."""
        return [(step, index) for step, index, _ in self.attempts()[after:]]

    def attempts(self) -> list[tuple[str, ...]]:
        place = self.root / "ran"
        return [tuple(line.split("|")) for line in place.read_text().splitlines()] if place.exists() else []

    def check_blobs(self) -> int:
        """Whatever bears a digest's name has that digest; says how many half-written ones lie where nobody reads."""
        objects = self.root / ".penstock" / "artifacts" / "objects"
        for blob in objects.glob("*/*"):
            assert digest_file(str(blob))[0] == blob.parent.name + blob.name
        with self.process(Fuse()) as project:
            return project.artifacts.blobs.sweep(-1e12)


@pytest.fixture
def forget() -> Iterator[None]:
    path = list(sys.path)
    known = set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name == "flow" or name.endswith("_flow"):
            del sys.modules[name]


def deaths(writes: list[str]) -> Iterator[Fuse]:
    """Before, in the middle of and after every write; a transaction of the run log has no middle that shows."""
    for at, write in enumerate(writes, 1):
        for death in Death:
            if death is not Death.MIDWAY or write.startswith("blobs.put"):
                yield Fuse(at, death=death)


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
def test_a_run_that_died_at_any_write_resumes_to_the_calm_end_and_repeats_nothing_finished(
    tmp_path: Path, cache: bool
) -> None:
    calm, counted = Flow(tmp_path / "calm", cache=cache), Fuse()
    assert calm.start(counted).output == ["told 21", None]
    expected = calm.ended()
    assert expected[0] is RunState.SUCCEEDED
    assert len(counted.writes) > 20
    assert sum("blobs" in write for write in counted.writes) >= 4
    left = 0
    for number, fuse in enumerate(deaths(counted.writes)):
        if not cache and number % 3:
            continue  # what is cached costs writes of its own, so every write is taken with the cache on
        flow = Flow(tmp_path / f"{number}", cache=cache)
        with pytest.raises(Crash):
            flow.start(fuse)
        again = Fuse(1 + number % 13, death=list(Death)[number % 3])  # and the next process dies too
        for next_fuse in (again, Fuse()):
            run = flow.newest()
            finished, before = flow.finished(run), len(flow.ran())
            try:
                flow.resume(next_fuse, run)
            except Crash:
                pass
            assert finished <= flow.finished(run or flow.newest()), (fuse, again)
            assert not finished & set(flow.ran(before)), (fuse, again)
        assert flow.ended() == expected, (fuse, again)
        assert max(Counter(flow.attempts()).values()) == 1, (fuse, again)  # no attempt has the number of another one
        left += flow.check_blobs()
    assert left >= 1  # else nothing was ever left half-written


@pytest.mark.usefixtures("forget")
def test_a_process_that_died_at_any_write_leaves_its_places_to_those_that_come_after(tmp_path: Path) -> None:
    calm, counted = Flow(tmp_path / "calm", source=BOUNDED), Fuse()
    assert calm.start(counted).output == 3
    expected = calm.ended()
    assert sum("lease" in write for write in counted.writes) > 10
    for number, fuse in enumerate(deaths(counted.writes)):
        if "lease" not in counted.writes[(fuse.at or 1) - 1] and number % 3:
            continue  # other writes are taken one by one above
        flow = Flow(tmp_path / f"{number}", source=BOUNDED)
        with pytest.raises(Crash):
            flow.start(fuse)
        dead = flow.newest()
        if number % 2:
            flow.start(Fuse())  # another run finds a place, though the dead one had it
            assert flow.ended() == expected, fuse
        flow.resume(Fuse(), dead)
        assert flow.ended(dead) == expected, fuse


@pytest.mark.usefixtures("forget")
def test_another_run_on_the_store_of_a_dead_one_takes_what_is_finished_and_waits_for_nothing_for_ever(
    tmp_path: Path,
) -> None:
    calm, counted = Flow(tmp_path / "calm"), Fuse()
    calm.start(counted)
    expected = calm.ended()
    for number, fuse in enumerate(deaths(counted.writes)):
        if number % 3 != 1:
            continue
        flow = Flow(tmp_path / f"{number}")
        with pytest.raises(Crash):
            flow.start(fuse)
        dead = flow.newest()
        finished, before = flow.finished(dead), len(flow.ran())
        flow.start(Fuse())
        assert not finished & set(flow.ran(before)), fuse
        assert flow.ended() == expected, fuse
        before = len(flow.ran())
        flow.resume(Fuse(), dead)
        assert not set(flow.ran(before)) & _CACHED, fuse  # all of it had been computed by then
        assert flow.ended(dead) == expected, fuse
        flow.check_blobs()


_CACHED = {("extract", ""), ("split", ""), ("fitted/fit", "0"), ("fitted/fit", "1"), ("fitted/pick", ""), ("end", "")}
