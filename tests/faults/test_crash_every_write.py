"""A process that dies before or after any write to the run log or the artifact store: resumed, the run ends as if calm.

The production runner on SQLite and a local folder, everything behind one fuse. What ran is counted outside of it, in a
file that the steps themselves write.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.authoring.identity import load_file
from penstock.core.errors import NotFoundError
from penstock.ports.records import RunState
from penstock.ports.runlog import Store
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs
from penstock.stores.runlog import open_store
from penstock.testing import Crash, Fuse, TurnedClock
from penstock.testing.faults import crashing_blobs, crashing_store
from penstock.wiring.config import Settings
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner

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


class FusedProject(Project):
    """A project whose stores are behind a fuse."""

    def __init__(self, root: Path, fuse: Fuse, clock: TurnedClock) -> None:
        super().__init__(Settings(root=str(root), home=str(root / ".penstock")), clock)
        self._fuse = fuse

    @cached_property
    def store(self) -> Store:
        self.make_home()
        return crashing_store(open_store(self.settings.runs_url, home=self.home, clock=self.clock), self._fuse)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(crashing_blobs(open_blobs(self.settings.artifacts_url, home=self.home), self._fuse))


class Flow:
    """One project folder, over the lives of several processes."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        (root / "penstock.toml").touch()
        (root / "flow.py").write_text(FLOW, encoding="utf-8")
        self.root = root
        self.clock = TurnedClock()
        self.module: ModuleType = load_file(str(root / "flow.py"))

    def start(self, fuse: Fuse) -> Any:
        project = FusedProject(self.root, fuse, self.clock)
        try:
            pipeline = self.module.flow
            parameters = pipeline.parameters({})
            return LocalRunner(project=project).run(
                pipeline.trace(parameters), parameters, check=False, workers=1, echo=False
            )
        finally:
            project.store.close()

    def resume(self, fuse: Fuse) -> Any:
        """As the next process does: finish the run, or start one where nothing of it was stored."""
        self.clock.advance("1m")  # between storing a run and locking it, only its lease says whether its owner lives
        project = FusedProject(self.root, fuse, self.clock)
        try:
            run = project.store.find_run(project.store.match_runs("")[0])
            assert run is not None
            assert run.state in (RunState.INTERRUPTED, RunState.SUCCEEDED)
            if run.state is RunState.SUCCEEDED:  # it died after the last write that matters
                return None
            return LocalRunner(project=project).resume("last", str(self.root), check=False, workers=1, echo=False)
        except (NotFoundError, IndexError):
            return self.start(fuse)
        finally:
            project.store.close()

    def ended(self) -> tuple[RunState, dict[tuple[str, str], tuple[str, int, dict[str, str]]]]:
        """The newest run as another process reads it, every byte checked."""
        project = FusedProject(self.root, Fuse(), self.clock)
        try:
            summary = project.store.find_run(project.store.match_runs("")[0])
            assert summary is not None
            steps = project.store.step_runs(summary.record.id)
            for run in steps:
                for ref in run.outputs.values():
                    project.artifacts.load(ref)
            made = {
                (run.step, run.index): (run.state.value, run.attempts, {n: r.digest for n, r in run.outputs.items()})
                for run in steps
            }
            return summary.state, made
        finally:
            project.store.close()

    def finished(self) -> set[tuple[str, str]]:
        project = FusedProject(self.root, Fuse(), self.clock)
        try:
            known = project.store.match_runs("")
            runs = project.store.step_runs(known[0]) if known else []
            return {(run.step, run.index) for run in runs if run.state.has_output}
        finally:
            project.store.close()

    def ran(self) -> list[tuple[str, str, str]]:
        place = self.root / "ran"
        lines = place.read_text().splitlines() if place.exists() else []
        return [tuple(line.split("|")) for line in lines]  # type: ignore[misc]


@pytest.fixture
def forget() -> Iterator[None]:
    path = list(sys.path)
    known = set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        if name == "flow" or name.endswith("_flow"):
            del sys.modules[name]


@pytest.mark.usefixtures("forget")
def test_a_run_that_died_at_any_write_resumes_to_the_calm_end_and_repeats_nothing_finished(tmp_path: Path) -> None:
    calm = Flow(tmp_path / "calm")
    counted = Fuse()
    assert calm.start(counted).output == ["told 21", None]
    state, expected = calm.ended()
    assert state is RunState.SUCCEEDED
    assert len(counted.writes) > 20
    assert any("blobs" in write for write in counted.writes)
    for at in range(1, len(counted.writes) + 1):
        for after in (False, True):
            flow, fuse = Flow(tmp_path / f"{at}-{after}"), Fuse(at, after=after)
            with pytest.raises(Crash):
                flow.start(fuse)
            finished, before = flow.finished(), len(flow.ran())
            again = Fuse(1 + at % 7, after=not after)  # and the next process dies too
            try:
                flow.resume(again)
            except Crash:
                finished_again, before_again = flow.finished(), len(flow.ran())
                assert finished <= finished_again, fuse
                flow.resume(Fuse())
                assert not finished_again & {each[:2] for each in flow.ran()[before_again:]}, (fuse, again)
            assert not finished & {each[:2] for each in flow.ran()[before:]}, fuse
            ended, made = flow.ended()
            assert ended is RunState.SUCCEEDED, fuse
            assert {key: (state, digests) for key, (state, _, digests) in made.items()} == {
                key: (state, digests) for key, (state, _, digests) in expected.items()
            }, fuse
            assert max(Counter(flow.ran()).values()) == 1, fuse  # no attempt has the number of another one
