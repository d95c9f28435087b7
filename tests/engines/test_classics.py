"""The classics of examples/: what their README says of each pair of a pipeline and an engine, and that all of them run.

Away from its own engine a pipeline runs over shorter lists: that it runs is the point there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engines import images, objects, podman, postgres
from engines.airflow import Airflow
from engines.places import clean_environment, program, python
from engines.prefect import Prefect

from . import airflow_lab, kubeflow_lab, prefect_lab

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parents[2] / "examples" / "classics"
ENGINES = ("airflow", "prefect", "kubeflow")


class Classic(NamedTuple):
    pipeline: str
    mapped: dict[str, int]  # steps with an instance for each value -> how many values there are
    single: tuple[str, ...]
    short: tuple[str, str]  # a parameter, and a value of it that is quickly done
    dataset: str

    def states(self, *, is_short: bool) -> dict[str, str]:
        """What a run comes to: every step has run, the one that a good score is asked for, too."""
        instances = [f"{name}[{at}]" for name, count in self.mapped.items() for at in range(1 if is_short else count)]
        return dict.fromkeys([*self.single, *instances], "succeeded")


CLASSICS = {
    "airflow": Classic(
        "wine", {"fit": 3, "evaluate": 3}, ("ingest", "split", "pick", "publish"), ("--depths", "[4]"), "load_wine"
    ),
    "prefect": Classic(
        "digits", {"train": 4, "score": 4}, ("read", "clean", "split", "pick", "publish"), ("--strengths", "[1.0]"),
        "load_digits",
    ),
    "kubeflow": Classic(
        "digits", {}, ("load", "split", "train", "score", "good_enough", "card"), ("--trees", "30"), "load_digits"
    ),
}  # fmt: skip
PAIRS = [(classic, engine) for classic in CLASSICS for engine in ENGINES]


def accepted() -> dict[tuple[str, str], list[str]]:
    """Classic, engine -> the options that the README names."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| ({'|'.join(CLASSICS)}) \|(.*)\|$", text, re.MULTILINE)
    cells = {(name, engine): cell for name, row in rows for engine, cell in zip(ENGINES, row.split("|"), strict=True)}
    return {pair: [] if cell.strip() == "nothing" else cell.strip(" `").split() for pair, cell in cells.items()}


def source(classic: str) -> str:
    return (FOLDER / classic / "pipeline.py").read_text(encoding="utf-8")


def words_of(classic: str, engine: str) -> list[str]:
    """What a run is given: on its own engine nothing, so that it is the one that the README shows."""
    return [] if classic == engine else list(CLASSICS[classic].short)


def states_of(steps: list[dict[str, Any]]) -> dict[str, str]:
    return {f"{each['step']}[{each['index']}]" if each["index"] else each["step"]: each["state"] for each in steps}


def penstock(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "penstock", *words], cwd=folder, env={**variables, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


# -- what the README says --------------------------------------------------------------------------------------------


def test_the_readme_has_a_word_on_every_pair() -> None:
    assert set(accepted()) == set(PAIRS)


@pytest.mark.parametrize(("classic", "engine"), PAIRS)
def test_an_engine_takes_a_classic_with_what_the_readme_names_and_not_with_less(
    classic: str, engine: str, tmp_path: Path
) -> None:
    shutil.copytree(FOLDER / classic, tmp_path, dirs_exist_ok=True)
    words = accepted()[classic, engine]
    done = penstock(tmp_path, "check", "pipeline.py", "--on", engine, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    for at in range(0, len(words), 2):
        less = penstock(tmp_path, "check", "pipeline.py", "--on", engine, *words[:at], *words[at + 2 :])
        assert less.returncode == 1, less.stdout
        assert " ".join(words[at : at + 2]) in less.stdout + less.stderr


def test_in_pods_airflow_takes_the_classic_of_kubeflow_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "kubeflow", tmp_path, dirs_exist_ok=True)
    (tmp_path / "penstock.toml").write_text(
        '[profiles.pods]\nbackend = "airflow"\nform = "kubernetes"\nimage = "r.example/digits:1"\n'
        'runs = "postgresql://ml@db/penstock"\nartifacts = "s3://ml/penstock"\n',
        encoding="utf-8",
    )
    done = penstock(tmp_path, "check", "pipeline.py", "--profile", "pods")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("classic", CLASSICS)
def test_every_version_of_a_classic_reads_a_data_set_that_scikit_learn_ships(classic: str) -> None:
    for file in (FOLDER / classic).glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert f"from sklearn.datasets import {CLASSICS[classic].dataset}\n" in text, file
        assert "fetch_" not in text, file


# -- penstock's versions, on every engine ----------------------------------------------------------------------------


@pytest.mark.parametrize("classic", CLASSICS)
def test_a_classic_runs_on_this_machine(classic: str, tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("", encoding="utf-8")
    (tmp_path / "pipeline.py").write_text(source(classic), encoding="utf-8")
    done = penstock(tmp_path, "run", "pipeline.py", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(penstock(tmp_path, "show", kubeflow_lab.run_id(done.stdout), "--json").stdout)
    assert states_of(shown["steps"]) == CLASSICS[classic].states(is_short=False)


@pytest.mark.parametrize("classic", CLASSICS)
def test_a_classic_runs_on_airflow(classic: str, airflow_server: Airflow, tmp_path: Path) -> None:
    lab = airflow_lab.Lab(airflow_server, tmp_path)
    lab.write("pipeline.py", source(classic))
    run = lab.run("pipeline.py", *accepted()[classic, "airflow"], *words_of(classic, "airflow"))
    assert lab.states(run) == CLASSICS[classic].states(is_short=classic != "airflow")
    assert lab.server.wait_for_run(CLASSICS[classic].pipeline, run)["state"] == "success"
    if classic == "airflow":
        assert (tmp_path / "current.skops").exists()


@pytest.mark.parametrize("classic", CLASSICS)
def test_a_classic_runs_on_prefect(classic: str, prefect_server: Prefect, tmp_path: Path) -> None:
    assert accepted()[classic, "prefect"] == []  # `flow` compiles without any
    lab = prefect_lab.Lab(prefect_server, tmp_path)
    lab.write("pipeline.py", source(classic))
    done = lab.run_flow(lab.flow("pipeline.py"), *words_of(classic, "prefect"))
    assert done.returncode == 0, done.stdout + done.stderr
    there = lab.newest(CLASSICS[classic].pipeline)
    states = CLASSICS[classic].states(is_short=classic != "prefect")
    assert states_of(lab.shown(there["name"])["steps"]) == states
    assert lab.states(there["id"]) == dict.fromkeys(states, "Completed")


@pytest.fixture(scope="module")
def kubeflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kubeflow_lab.Lab]:
    """One image that holds all of them, with the libraries that they import."""
    work = tmp_path_factory.mktemp("classics")
    project = work / "project"
    project.mkdir()
    (project / "penstock.toml").write_text("", encoding="utf-8")
    for classic in CLASSICS:
        (project / f"{classic}_classic.py").write_text(source(classic), encoding="utf-8")
    image = f"localhost/classics-{os.getpid()}:latest"
    with (
        postgres.server(work / "postgres") as database,
        objects.server(work / "s3") as store,
        podman.service(work / "podman") as service,
    ):
        settings = {
            **store.environment, **service.environment, "PENSTOCK_RUNS": database.create_database(),
            "PENSTOCK_ARTIFACTS": f"{store.url}/penstock", "PENSTOCK_ENDPOINT": "local", "PENSTOCK_IMAGE": image,
            "PENSTOCK_ENGINE_PYTHON": str(python("kubeflow")),
        }  # fmt: skip
        images.build(image, project, work, "pandas", "pyarrow", "scikit-learn", "skops")
        try:
            yield kubeflow_lab.Lab(project, settings, service, database)
        finally:
            service.remove_containers()
            images.remove(image)


@pytest.mark.parametrize("classic", CLASSICS)
def test_a_classic_runs_in_containers_under_kfp_local(classic: str, kubeflow: kubeflow_lab.Lab) -> None:
    words = [*accepted()[classic, "kubeflow"], *words_of(classic, "kubeflow")]
    done = kubeflow.call("run", f"{classic}_classic.py", "--on", "kubeflow", "--json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    run = kubeflow_lab.run_id(done.stdout)
    assert kubeflow.states(run) == CLASSICS[classic].states(is_short=classic != "kubeflow")


# -- the native versions, each on its own engine ---------------------------------------------------------------------


def test_the_native_dag_is_read_and_run_by_airflow(airflow_server: Airflow, tmp_path: Path) -> None:
    text = (FOLDER / "airflow" / "native_dag.py").read_text(encoding="utf-8")
    for there, here in (("/srv/wine/.venv/bin/python", sys.executable), ("/srv/wine/data", str(tmp_path))):
        assert text.count(there) == 1
        text = text.replace(there, here)
    (airflow_server.dags / "native_dag.py").write_text(text, encoding="utf-8")
    assert airflow_server.wait_for_dag("wine_native")["dag_id"] == "wine_native"
    airflow_server.unpause("wine_native")  # as Airflow takes up every new DAG
    started = airflow_server.trigger("wine_native")
    state = airflow_server.wait_for_run("wine_native", started)["state"]
    states = airflow_server.states("wine_native", started)
    assert (state, states["publish"]) == ("success", "success"), states
    assert (tmp_path / "current.pickle").exists()


def test_the_native_flow_is_run_by_prefect(prefect_server: Prefect, tmp_path: Path) -> None:
    """The engine's environment holds none of the project's libraries, so those of this one stand behind its own."""
    theirs = subprocess.run(
        [prefect_server.python, "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    if theirs != sysconfig.get_config_var("SOABI"):
        pytest.skip(f"scikit-learn for Prefect's Python ({theirs}) is missing")
    code = "import runpy, sys; sys.path.append(sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
    file = FOLDER / "prefect" / "native_flow.py"
    done = prefect_server.run(["-c", code, sysconfig.get_path("purelib"), file], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = prefect_server.flow_runs("digits-native")
    assert prefect_server.wait_for_flow_run(run["id"])["state_type"] == "COMPLETED"
    assert len(prefect_server.task_runs(run["id"])) == 12
    assert (tmp_path / "model.pickle").exists()


def test_the_native_pipeline_is_compiled_by_kubeflows_compiler(tmp_path: Path) -> None:
    done = subprocess.run(
        [program("kubeflow", "python"), FOLDER / "kubeflow" / "native_pipeline.py"], cwd=tmp_path,
        env=clean_environment("KFP"), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "digits_native.yaml").read_text(encoding="utf-8")
    assert "name: digits-native" in text
    assert {f"comp-{name}" for name in ("load", "split", "train", "score", "card")} <= set(
        re.findall(r"^  (comp-\w+):$", text, re.MULTILINE)
    )
