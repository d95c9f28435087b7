"""One definition, same meaning everywhere: every case on every backend against one step at a time in one process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.authoring.identity import load_file
from penstock.wiring.config import load_settings
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner
from penstock.wiring.runs import Run

from . import postgres
from .cases import CASES, HEAD, Case

ORACLE = {"workers": 1}
MODES: dict[str, dict[str, Any]] = {
    "workers": {"workers": 2},
    "processes": {"workers": 2, "one_process_per_step": True},
}


def meaning(run: Run) -> dict[str, Any]:
    """What must not differ. Which of several twins computes for the others is nobody's business."""
    steps = {}
    for each in run.steps:
        twin = each.origin is not None and each.origin[0] == run.id
        steps[each.step, each.index] = {
            "state": "succeeded" if twin else each.state.value,
            "attempts": 1 if twin else each.attempts,
            "failure": each.failure and (each.failure.kind.value, each.failure.message, each.failure.types),
            "inputs": None if each.failure is not None else each.inputs,
            "outputs": {name: (ref.codec, ref.digest) for name, ref in each.outputs.items()},
            "key": each.key,
            "metrics": each.metrics,
            "note": each.note,
            "observations": each.observations,
        }
    return {"state": run.state.value, "steps": steps}


class Bench:
    """One case's file, run in one mode after another, each with stores of its own."""

    def __init__(self, root: Path, case: Case) -> None:
        self.root = root
        (root / "penstock.toml").write_text("")
        file = root / f"case_{case.name}_{uuid.uuid4().hex[:6]}.py"
        file.write_text(HEAD + case.source)
        self._pipeline = load_file(str(file)).main
        self._case = case
        self._projects: list[Project] = []

    def close(self) -> None:
        for project in self._projects:
            project.store.close()

    def run(self, home: str, options: dict[str, Any], runs: str | None = None) -> Run:
        texts = self._pipeline.parameters(self._case.parameters)
        project = Project(load_settings(str(self.root), home=home, runs=runs))
        self._projects.append(project)
        return LocalRunner(project=project).run(self._pipeline.trace(texts), texts, echo=False, check=False, **options)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    folder = postgres.binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.server(folder) as url:
        yield url


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    case: Case = request.param
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    bench = Bench(tmp_path, case)
    yield bench
    bench.close()


every_case = pytest.mark.parametrize(
    ("bench", "case"), [(c, c) for c in CASES], indirect=["bench"], ids=[c.name for c in CASES]
)


@every_case
def test_a_case_means_the_same_in_worker_processes_and_in_one_process_per_step(bench: Bench, case: Case) -> None:
    oracle = bench.run("oracle", ORACLE)
    assert oracle.state.value == case.state
    if case.output is not None:
        assert oracle.output == case.output
    for name, options in MODES.items():
        run = bench.run(name, options)
        assert meaning(run) == meaning(oracle), name
        if case.output is not None:
            assert run.output == case.output, name


@every_case
def test_a_case_means_the_same_on_postgresql(bench: Bench, case: Case, database: str) -> None:
    oracle = bench.run("oracle", ORACLE)
    run = bench.run("database", MODES["workers"] | {"cache": False, "tags": {"case": case.name}}, runs=database)
    alone = bench.run("oracle_uncached", ORACLE | {"cache": False})
    assert meaning(run) == meaning(alone)
    assert {key: each["state"] for key, each in meaning(run)["steps"].items()} == {
        key: each["state"] for key, each in meaning(oracle)["steps"].items()
    }


@every_case
def test_a_second_run_hits_everything_that_may_be_cached_on_any_mode(bench: Bench, case: Case) -> None:
    first = bench.run("shared", MODES["workers"])
    second = bench.run("shared", MODES["processes"])
    for each in second.steps:
        before = first.step(each.step, each.index)
        if before.state.has_output and not any(seen.kind == "nowhere" for seen in before.observations):
            assert each.state.value == "cached", each
            assert {name: ref.digest for name, ref in each.outputs.items()} == {
                name: ref.digest for name, ref in before.outputs.items()
            }
        elif before.state.has_output:
            assert each.state.value == "succeeded", "what was observed cannot be looked at again"
        else:
            assert each.state is before.state
