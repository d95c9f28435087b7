"""A plan tells the truth, over hundreds of generated edits of generated projects.

Every `run` is executed, no `hit` is, and every `depends` is resolved as it was stated: on something that was open, by
its outcome. What was executed is counted by the steps themselves. `PENSTOCK_EDITS=10` makes ten times as many edits.
"""

from __future__ import annotations

import copy
import os
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.authoring.identity import load_file
from penstock.core.jsonvalue import loads
from penstock.engine.plan import PlanItem
from penstock.ports.records import StepRun, StepState
from penstock.wiring.config import Settings
from penstock.wiring.planning import plan_run
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner
from penstock.wiring.runs import Run

from .plan_projects import Generated, edit, generate

PROJECTS = int(22 * float(os.environ.get("PENSTOCK_EDITS", "1")))
EDITS_OF_EACH = 25
SEED = os.environ.get("PENSTOCK_SEED", "0")


class Desk:
    """One generated project on disk; its code is loaded anew for every plan and every run."""

    def __init__(self, root: Path, project: Generated) -> None:
        self.root = root
        self.project = project
        self.settings = Settings(root=str(root), home=str(root / ".penstock"), workers=2)
        (root / "penstock.toml").write_text("")

    def write(self) -> None:
        for name, text in self.project.files().items():
            (self.root / name).write_text(text)
        (self.root / "rows.txt").write_text(self.project.data)
        os.environ["TRUTH_REGION"] = self.project.region

    def traced(self) -> tuple[Any, dict[str, str]]:
        forget_modules(self.root)
        flow = load_file(str(self.root / "flow.py")).flow
        parameters = flow.parameters({**self.project.parameters, "uri": str(self.root / "rows.txt")})
        return flow.trace(parameters), parameters

    def plan(self, options: dict[str, Any]) -> list[PlanItem]:
        traced, parameters = self.traced()
        return plan_run(traced, parameters, settings=self.settings, **options)

    def run(self, options: dict[str, Any]) -> Run:
        traced, parameters = self.traced()
        project = Project(self.settings)
        try:
            return LocalRunner(project=project).run(traced, parameters, check=False, echo=False, **options)
        finally:
            project.store.close()

    def lose_bytes(self) -> None:
        objects = self.root / ".penstock" / "artifacts" / "objects"
        for blob in objects.rglob("*") if objects.exists() else ():
            if blob.is_file():
                blob.unlink()


def forget_modules(root: Path) -> None:
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(root)):
            del sys.modules[name]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each step's function was called, as the functions tell."""
    trace = ModuleType("truth_trace")
    counts: Counter[str] = Counter()
    trace.ran = lambda name: counts.update([name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "truth_trace", trace)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("TRUTH_REGION", "north")
    return counts


class Verdicts:
    """A plan beside the run that followed it."""

    def __init__(self, items: list[PlanItem], run: Run, executed: Counter[str], told: str) -> None:
        self.items = items
        self.told = told
        self.executed = executed
        self.runs = {(each.step, each.index): each for each in run.steps}
        self.by_step: dict[str, list[StepRun]] = {}
        for each in run.steps:
            self.by_step.setdefault(each.step, []).append(each)
        self.open = {item.step for item in items if item.verdict in ("run", "depends")}
        self.run = run

    def hold(self) -> Counter[str]:
        """Every item to its word; gives how many there were of each verdict."""
        for item in self.items:
            match item.verdict:
                case "depends":
                    self._depends(item)
                case _ if not item.index.endswith("*"):
                    self._promised(item)
                case "skip" | "blocked":
                    assert self._states(item) <= {StepState.SKIPPED, StepState.UPSTREAM_FAILED}, self._say(item)
        self._nothing_else()
        return Counter(item.verdict for item in self.items)

    def _promised(self, item: PlanItem) -> None:
        happened = self.runs[item.step, item.index]
        match item.verdict:
            case "run":
                assert happened.state in (StepState.SUCCEEDED, StepState.FAILED), self._say(item)
                assert happened.attempts > 0
            case "hit":
                assert happened.state is StepState.CACHED, self._say(item)
                assert happened.origin == item.origin
                assert happened.attempts == 0
            case "skip":
                assert happened.state is StepState.SKIPPED, self._say(item)
            case "blocked":
                assert happened.state is StepState.UPSTREAM_FAILED, self._say(item)

    def _depends(self, item: PlanItem) -> None:
        """It names something that was open, and what became of that decides."""
        assert item.on is not None, self._say(item)
        on = item.on.partition("[")[0]
        assert on in self.open, f"'{on}' is not open\n{self._say(item)}"
        assert item.on != item.step, self._say(item)
        first = [each for each in self.by_step[on] if not item.on.endswith("]") or f"{on}[{each.index}]" == item.on]
        assert first, self._say(item)
        if "computes the same" in item.why:
            succeeded = all(each.state.has_output for each in first)
            state = self.runs[item.step, item.index].state
            assert (state is StepState.CACHED) == succeeded, self._say(item)
        elif "size of the map" in item.why:
            self._size(item, first)
        elif "whether it runs" in item.why and all(each.state.has_output for each in first):
            held = all(ref.inline == "true" for each in first for ref in each.outputs.values())
            assert held or self._states(item) == {StepState.SKIPPED}, self._say(item)
        if all(each.state in (StepState.FAILED, StepState.UPSTREAM_FAILED) for each in first) and "same" in item.why:
            assert not any(state.has_output for state in self._states(item)) or "computes" in item.why, self._say(item)

    def _size(self, item: PlanItem, first: list[StepRun]) -> None:
        """A map has as many elements as the list that it waited for."""
        elements = [each for each in self.by_step.get(item.step, ()) if each.index]
        if len(first) > 1 or first[0].index:
            assert len(elements) == len(first) or self._states(item) == {StepState.UPSTREAM_FAILED}, self._say(item)
        elif first[0].state.has_output:
            (ref,) = first[0].outputs.values()
            assert len(elements) == (3 if ref.inline is None else len(loads(ref.inline))), self._say(item)

    def _nothing_else(self) -> None:
        """Every instance was planned, and the functions were called as often as the run says."""
        planned = {(item.step, item.index) for item in self.items}
        for step, index in self.runs:
            parent = index.rpartition(".")[0]
            every = f"{parent}.*" if parent else "*"
            below = f"{index}.*" if index else "*"
            assert {(step, index), (step, every), (step, below)} & planned, (
                f"{step}[{index}] was not planned\n{self.told}"
            )
        attempts: Counter[str] = Counter()
        for (step, _), each in self.runs.items():
            attempts[step.removesuffix("b")] += each.attempts
        assert +attempts == +self.executed, self.told

    def _states(self, item: PlanItem) -> set[StepState]:
        below = item.index.removesuffix("*")
        found = [each for each in self.by_step.get(item.step, ()) if each.index.startswith(below.rstrip("."))]
        exact = [each for each in found if each.index == item.index]
        return {each.state for each in exact or found}

    def _say(self, item: PlanItem) -> str:
        happened = [(each.index, str(each.state), each.attempts) for each in self.by_step.get(item.step, ())]
        return f"{item}\nhappened: {happened}\n{self.told}"


@pytest.mark.parametrize("number", range(PROJECTS))
def test_what_is_planned_is_what_happens(number: int, tmp_path: Path, executed: Counter[str]) -> None:
    chance = random.Random(f"{SEED} {number}")
    desk = Desk(tmp_path, generate(chance))
    history, told, total = [copy.deepcopy(desk.project)], ["as generated"], Counter[str]()
    known: set[str] = set()  # keys of what was computed at any time
    kept: set[str] = set()  # of these, whose bytes are there
    for turn in range(EDITS_OF_EACH + 1):
        options: dict[str, Any] = {}
        if turn:
            words, options = edit(desk.project, history, chance)
            told.append(words)
            history.append(copy.deepcopy(desk.project))
        desk.write()
        if told[-1].startswith("lost bytes"):
            desk.lose_bytes()
            kept.clear()
        elif told[-1].startswith("a touched file"):
            os.utime(tmp_path / "rows.txt", (turn, turn))
        items = desk.plan(options)
        executed.clear()
        run = desk.run(options)
        verdicts = Verdicts(items, run, executed, f"seed {SEED} {number}, after: {', '.join(told[-4:])}, {options}")
        total += verdicts.hold()
        if not options:
            what_follows_goes_by_its_key(run, items, known, kept, verdicts.told)
        computed = {each.key for each in run.steps if each.state.has_output and each.key}
        known |= computed
        kept |= computed
    forget_modules(tmp_path)
    assert total["run"], "edits that change nothing prove nothing"
    assert total["hit"]


def what_follows_goes_by_its_key(run: Run, items: list[PlanItem], known: set[str], kept: set[str], told: str) -> None:
    """What followed an open step ran if its input or code was new, and hit if both were known."""
    depends = {(item.step, item.index) for item in items if item.verdict == "depends" and "follows" in item.why}
    for each in run.steps:
        if (each.step, each.index) in depends and each.key and not each.observations:
            if each.state is StepState.CACHED and each.origin is not None:
                assert each.key in known or each.origin[0] == run.id, told
            elif each.state is StepState.SUCCEEDED:
                assert each.key not in kept, f"{each.step}[{each.index}] ran on a known key\n{told}"
