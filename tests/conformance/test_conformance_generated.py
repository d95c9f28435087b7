"""Pipelines that hypothesis draws, on the modes of the local engine."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from penstock.authoring.identity import load_file
from penstock.authoring.pipeline import Pipeline
from penstock.testing.conformance.comparing import compare
from penstock.testing.conformance.generating import Program, generated_cases, programs
from penstock.testing.conformance.observing import Observed, observe
from penstock.wiring.config import load_settings
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner

CALM = {"workers": 1}
SIDE_BY_SIDE = {"workers": 2}
APART = {"workers": 2, "one_process_per_step": True}
EXAMPLES = int(os.environ.get("PENSTOCK_TEST_EXAMPLES", "25"))
# An example takes a second, so making a failing one small takes minutes: only where somebody asks for more examples.
PHASES = tuple(Phase) if "PENSTOCK_TEST_EXAMPLES" in os.environ else (Phase.explicit, Phase.generate)

drawn = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


class Folder:
    """Where examples are written and run, each in a project of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = count()

    def pipeline(self, program: Program) -> tuple[Path, Pipeline[..., Any]]:
        project = self._root / str(next(self._numbers))
        project.mkdir()
        (project / "penstock.toml").write_text("")
        file = project / f"{program.name}.py"
        file.write_text(program.source, encoding="utf-8")
        found: Pipeline[..., Any] = getattr(load_file(str(file)), program.name)
        return project, found

    def observed(self, root: Path, pipeline: Pipeline[..., Any], options: dict[str, Any]) -> Observed:
        name = "-".join(options)
        project = Project(load_settings(str(root), home=f"{name}-{options['workers']}"))
        texts = pipeline.parameters({})
        try:
            run = LocalRunner(project=project).run(pipeline.trace(texts), texts, echo=False, check=False, **options)
            return observe(project, run.id, [run.id])
        finally:
            project.store.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("generated"))


@drawn
@given(program=programs())
def test_a_drawn_pipeline_means_the_same_side_by_side(folder: Folder, program: Program) -> None:
    root, pipeline = folder.pipeline(program)
    calm = folder.observed(root, pipeline, CALM)
    assert list(calm.broken) == []
    assert [str(each) for each in compare(calm, folder.observed(root, pipeline, SIDE_BY_SIDE))] == []


@settings(drawn, max_examples=max(EXAMPLES // 5, 1))
@given(program=programs())
def test_a_drawn_pipeline_means_the_same_with_a_process_for_each_step(folder: Folder, program: Program) -> None:
    root, pipeline = folder.pipeline(program)
    calm = folder.observed(root, pipeline, CALM)
    assert [str(each) for each in compare(calm, folder.observed(root, pipeline, APART))] == []


def test_seeds_draw_every_shape_and_the_same_files_again(tmp_path: Path) -> None:
    first = generated_cases(range(60), tmp_path / "first")
    again = generated_cases(range(60), tmp_path / "again")
    assert [case.path.read_bytes() for case in first] == [case.path.read_bytes() for case in again]
    ideas = {shape for case in first for shape in case.idea.removeprefix("Generated: ").rstrip(".").split(", ")}
    wanted = "condition, failure, map, nested map, nested pipeline, order without data, retry, several outputs"
    assert ideas >= set(wanted.split(", "))
