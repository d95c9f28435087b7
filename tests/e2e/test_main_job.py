"""The main job, as a user would try it: each test is a sentence of what the first release promises."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import postgres
from tests.conformance.s3 import s3_bucket, s3_server

__all__ = ["s3_bucket", "s3_server"]  # fixtures

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "tumours"


class Project:
    """A copy of the example in a folder of its own."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.root = root
        root.mkdir(parents=True)
        for name in ("pipeline.py", "make_data.py", "penstock.toml"):
            shutil.copy(EXAMPLE / name, root / name)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **environment}
        subprocess.run([sys.executable, "make_data.py"], cwd=root, check=True, stdout=subprocess.DEVNULL)

    def penstock(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "penstock", *arguments],
            cwd=self.root, env=self.environment, text=True, capture_output=True,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """One run; gives what `show --json` says of it."""
        self.penstock("run", "pipeline.py", *arguments, code=code)
        return dict(json.loads(self.penstock("show", "--json")))

    def replace(self, old: str, new: str) -> None:
        source = (self.root / "pipeline.py").read_text()
        assert old in source
        (self.root / "pipeline.py").write_text(source.replace(old, new))


def states(shown: dict[str, Any]) -> dict[str, str]:
    return {name(step): step["state"] for step in shown["steps"]}


def name(step: dict[str, Any]) -> str:
    return step["step"] + (f"[{step['index']}]" if step.get("index") else "")


def digests(shown: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        name(step): {output: ref["digest"] for output, ref in step["outputs"].items()}
        for step in shown["steps"]
        if step["outputs"]
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any]]:
    """A project in which the main job has run once."""
    project = Project(tmp_path_factory.mktemp("trained") / "job")
    return project, project.run()


@pytest.fixture
def project(trained: tuple[Project, dict[str, Any]], tmp_path: Path) -> Iterator[Project]:
    """That project, to be changed at will; put back afterwards."""
    original, _ = trained
    kept = tmp_path / "kept"
    shutil.copytree(original.root, kept)
    yield original
    shutil.rmtree(original.root)
    shutil.copytree(kept, original.root)


def test_raw_data_becomes_a_registered_champion(trained: tuple[Project, dict[str, Any]]) -> None:
    project, shown = trained
    assert shown["state"] == "succeeded"
    assert set(states(shown).values()) == {"succeeded"}
    with sqlite3.connect(project.root / ".penstock" / "mlflow.db") as db:
        assert db.execute("SELECT alias, version FROM registered_model_aliases").fetchall() == [("champion", 1)]
        parameters = dict(db.execute("SELECT key, value FROM params").fetchall())
        metrics = dict(db.execute("SELECT key, value FROM metrics").fetchall())
        tags = dict(db.execute("SELECT key, value FROM tags").fetchall())
    assert parameters["strengths"] == "[0.001,0.01,0.1]"
    assert metrics["auc"] > 0.95
    assert tags["penstock.run"] == shown["run"]


def test_a_second_run_hits_and_effects_say_that_they_are_done(project: Project) -> None:
    second = project.run()
    assert {step for step, state in states(second).items() if state != "cached"} == {"gate", "register"}
    notes = {step["step"]: step["note"] for step in second["steps"]}
    assert notes["register"] == "already registered as version 1"
    assert notes["deploy"].startswith("already done")
    third = project.run()  # the champion has not moved since the second: the gate hits too
    assert set(states(third).values()) == {"cached"}


def test_a_changed_source_is_noticed_and_a_touched_one_is_not(project: Project) -> None:
    source = project.root / "data" / "measurements.csv"
    source.write_bytes(source.read_bytes())  # other times, same bytes
    assert states(project.run())["ingest"] == "cached"
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join(lines[:-1]))
    assert states(project.run())["ingest"] == "succeeded"


def test_a_change_in_a_helper_reruns_exactly_what_it_reaches(project: Project) -> None:
    project.run()
    project.run()
    project.replace("return 4 * np.pi *", "return 4.001 * np.pi *")
    plan = json.loads(project.penstock("plan", "pipeline.py", "--json"))
    ran = {step for step, state in states(project.run()).items() if state == "succeeded"}
    assert {"ingest", "validate"}.isdisjoint(ran)
    assert {"features", "split", "fit[0]", "fit[1]", "fit[2]", "pick", "gate"} <= ran
    planned = {item["step"]: item["verdict"] for item in plan["steps"]}
    assert (planned["ingest"], planned["validate"], planned["features"]) == ("hit", "hit", "run")
    assert planned["split"] == "depends"
    why = project.penstock("why", "last", "features")
    assert "-    return 4 * np.pi *" in why
    assert "+    return 4.001 * np.pi *" in why


def test_a_comment_reruns_nothing(project: Project) -> None:
    project.run()
    project.run()
    project.replace("    return 4 * np.pi *", "    # a circle is one\n    return 4 * np.pi *")
    assert set(states(project.run()).values()) == {"cached"}


def test_a_worse_model_leaves_the_champion_alone_and_says_why(project: Project) -> None:
    shown = project.run("--strengths", "0.00001")
    assert (states(shown)["register"], states(shown)["deploy"]) == ("skipped", "skipped")
    gate = next(step for step in shown["steps"] if step["step"] == "gate")
    assert "is worse than tumour@champion (version 1)" in gate["note"]
    project.penstock("run", "pipeline.py", "--strengths", "0.00001", "--fail-on-gate", code=3)
    with sqlite3.connect(project.root / ".penstock" / "mlflow.db") as db:
        assert db.execute("SELECT alias, version FROM registered_model_aliases").fetchall() == [("champion", 1)]


def test_bad_rows_are_set_aside_with_their_reasons(project: Project) -> None:
    shown = project.run("--source", "data/dirty.csv")
    validate = next(step for step in shown["steps"] if step["step"] == "validate")
    assert validate["metrics"] == {"output.bad_rows": 5.0}
    table = project.penstock("artifact", "get", "last", "validate.output.quarantine", "-o", "-")
    for reason in ("mean_texture: missing", "-14.2", "n/a?", "malignant"):
        assert reason in table


def test_too_many_bad_rows_stop_the_run(project: Project) -> None:
    project.replace("Quarantine(max_fraction=0.1)", "Quarantine(max_rows=4)")
    shown = project.run("--source", "data/dirty.csv", code=1)
    assert states(shown)["validate"] == "failed"
    assert states(shown)["features"] == "upstream_failed"
    validate = next(step for step in shown["steps"] if step["step"] == "validate")
    assert "5" in validate["failure"]["message"]


def test_a_great_expectations_suite_serves_in_the_same_place(project: Project) -> None:
    columns = {"mean_radius": 60, "mean_texture": 100, "mean_area": 5000, "mean_smoothness": 1, "malignant": 1}
    expectations = [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": column, "min_value": 0, "max_value": top}}
        for column, top in columns.items()
    ] + [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": column}} for column in columns]
    (project.root / "suite.json").write_text(json.dumps({"name": "cells", "expectations": expectations}))
    project.replace(
        "def validate(raw: pd.DataFrame) -> DataFrame[Measurements]:",
        'def validate(raw: pd.DataFrame) -> Annotated[pd.DataFrame, Expectations("suite.json")]:',
    )
    project.replace("from typing import NamedTuple", "from typing import Annotated, NamedTuple")
    project.replace("from penstock import Quarantine", "from penstock import Expectations, Quarantine")
    shown = project.run("--source", "data/dirty.csv")
    validate = next(step for step in shown["steps"] if step["step"] == "validate")
    assert validate["metrics"]["output.bad_rows"] == 5.0
    assert states(shown)["pick"] == "succeeded"


def test_one_process_per_step_makes_the_same_artifacts_digest_for_digest(
    trained: tuple[Project, dict[str, Any]], tmp_path: Path
) -> None:
    _, shown = trained
    other = Project(tmp_path / "job")
    separate = other.run("--one-process-per-step")
    assert states(separate) == states(shown)
    ours, theirs = digests(shown), digests(separate)
    for made in (ours, theirs):
        del made["register"]  # it names its run
    assert theirs == ours


def test_a_source_may_be_a_query_or_a_bucket(project: Project, s3_bucket: str) -> None:
    import boto3
    import pandas as pd

    rows = pd.read_csv(project.root / "data" / "measurements.csv")
    with sqlite3.connect(project.root / "cells.db") as db:
        rows.to_sql("cells", db, index=False)
    project.replace("return read(source)", 'return read(source, query="SELECT * FROM cells")')
    from_sql = project.run("--source", "sqlite:///cells.db")
    assert from_sql["state"] == "succeeded"
    bucket, _, prefix = s3_bucket.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    client.upload_file(str(project.root / "data" / "measurements.csv"), bucket, f"{prefix}/cells.csv")
    client.close()
    project.environment |= {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    project.replace('return read(source, query="SELECT * FROM cells")', "return read(source)")
    from_bucket = project.run("--source", f"{s3_bucket}/cells.csv")
    assert digests(from_bucket)["validate"] == digests(from_sql)["validate"]
    assert states(project.run("--source", f"{s3_bucket}/cells.csv"))["ingest"] == "cached"


def test_postgresql_and_s3_hold_the_same_run(
    trained: tuple[Project, dict[str, Any]], tmp_path: Path, s3_bucket: str
) -> None:
    folder = postgres.binaries()
    if folder is None:
        pytest.skip("missing capability: a PostgreSQL server (initdb and postgres) on this machine")
    _, shown = trained
    with postgres.server(folder) as url:
        aws = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        shared = Project(tmp_path / "job", PENSTOCK_RUNS=url, PENSTOCK_ARTIFACTS=s3_bucket, **aws)
        there = shared.run()
        assert {k: v for k, v in digests(there).items() if k != "register"} == {
            k: v for k, v in digests(shown).items() if k != "register"
        }
        assert not (shared.root / ".penstock" / "runs.db").exists()
        again = shared.run()
        assert states(again)["pick"] == "cached"
