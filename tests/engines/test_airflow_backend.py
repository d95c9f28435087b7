"""A pipeline as a DAG on a real Airflow: what its users see is what the run log says, whatever goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.airflow import Airflow

from .airflow_lab import Lab

SHOP = """
import os, sys, time
from pathlib import Path
from penstock import Retry, context, optional, pipeline, step, when

@step
def upto(n: int) -> list[int]:
    print("up to", n)
    return list(range(n))

@step
def square(x: int) -> int: return x * x

@step
def total(xs: list[int]) -> int: return sum(xs)

@step(retry=Retry(3, base="100ms", factor=1))
def flaky(x: int) -> int:
    if context().attempt < 3: raise OSError(f"attempt {context().attempt}")
    return x

@step
def half(x: int) -> int:
    if x == 1 and not Path("mended").exists(): raise ValueError("odd")
    return x // 2

@step
def label(word: str, n: int) -> str: return f"{word}{n}"

@step
def told(a: str | None, b: int) -> str: return f"{a} {b}"

@pipeline
def per_word(word: str) -> list[str]:
    return label.partial(word).map(n=upto.named("letters")(2))

@pipeline(tags={"team": "growth"})
def shop(n: int = 3, words: list[str] = ["a", "b"], go: bool = False) -> dict:
    squares = square.map(x=upto(n))
    nothing = square.named("nothing").map(x=upto.named("zero")(0))
    with when(go):
        extra = label.named("extra")("x", 1)
    return {
        "flaky": flaky(total(squares)),
        "none": total.named("sum_of_nothing")(nothing),
        "told": told(optional(extra), n),
        "nested": per_word.map(word=words),
    }

@pipeline
def mending(n: int = 3) -> int:
    return total(half.map(x=upto(n)))

@step(cache=False)
def nap(seconds: float) -> int:
    child = os.fork()
    if not child:
        time.sleep(seconds)
        os._exit(0)
    Path("pids").write_text(f"{os.getpid()} {child}")
    time.sleep(seconds)
    return 1

@step(cache=False, retry=Retry(2, base="100ms"))
def once_killed() -> int:
    Path("pids").write_text(f"{os.getpid()} 0")
    if context().attempt == 1: time.sleep(60)
    return context().attempt

@pipeline
def sleeping(seconds: float = 60.0) -> int:
    return total([nap(seconds)])

@pipeline
def killed() -> int:
    return once_killed()
"""


@pytest.fixture
def lab(airflow_server: Airflow, tmp_path: Path) -> Lab:
    lab = Lab(airflow_server, tmp_path)
    lab.write("shop.py", SHOP)
    return lab


def alive(pid: int) -> bool:
    """A child whose parent is gone may stay as a zombie where nobody reaps orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(lab: Lab) -> tuple[int, int]:
    first, second = lab.wait_until("the step says who it is", lambda: (lab.folder / "pids").exists() and (
        (lab.folder / "pids").read_text().split() or None))  # fmt: skip
    return int(first), int(second)


# -- what its users see ------------------------------------------------------------------------------------------


def test_a_dag_shows_elements_retries_skips_and_what_the_steps_print(lab: Lab) -> None:
    run = lab.run("shop.py:shop")
    there = lab.server.states("shop", run)
    assert {name: state for name, state in there.items() if state != "success"} == {
        "extra": "skipped", "nothing": "skipped",
    }  # fmt: skip
    assert {"square[0]", "square[2]", "per_word.label[3]", "penstock_end"} <= set(there)
    mapped = [each for each in lab.server.task_instances("shop", run) if each["task_id"] == "per_word.label"]
    assert sorted(each["rendered_map_index"] for each in mapped) == ["0.0", "0.1", "1.0", "1.1"]
    assert lab.server.xcom("shop", run, "square_elements") == ["0", "1", "2"]  # references, never data
    assert "up to 3" in lab.server.logs("shop", run, "upto")
    assert "extra is skipped: go is false" in lab.server.logs("shop", run, "extra")
    assert "OSError: attempt 2" in lab.server.logs("shop", run, "flaky", 2)
    assert len(lab.server.tries("shop", run, "flaky")) == 3
    ours = lab.states(run)
    assert ours["extra"] == "skipped"
    assert ours["sum_of_nothing"] == "succeeded"


def test_a_run_that_somebody_triggers_in_airflow_gets_the_values_of_the_form(lab: Lab) -> None:
    lab.penstock("deploy", "shop.py:shop", "--on", "airflow", "--name", "shop_triggered")
    started = lab.server.trigger("shop_triggered", {"n": 2, "words": [], "go": True})
    assert lab.server.wait_for_run("shop_triggered", started)["state"] == "success"
    run = json.loads(lab.penstock("ls", "--json").stdout)[0]
    assert (run["state"], run["parameters"]) == ("succeeded", {"n": 2, "words": [], "go": True})
    assert lab.states(run["run"])["extra"] == "succeeded"


def test_a_value_that_does_not_fit_is_refused_before_anything_runs(lab: Lab) -> None:
    lab.penstock("deploy", "shop.py:shop", "--on", "airflow", "--name", "shop_strict")
    with pytest.raises(Exception, match="not of type 'integer'"):
        lab.server.trigger("shop_strict", {"n": "many"})


def test_a_failed_element_blocks_what_needs_it_and_clearing_it_resumes_the_run(lab: Lab) -> None:
    run = lab.run("shop.py:mending", fails=True)
    lab.server.wait_for_run("mending", run)
    there = lab.server.states("mending", run)
    assert (there["half[0]"], there["half[1]"], there["total"]) == ("success", "failed", "upstream_failed")
    assert lab.states(run)["total"] == "upstream_failed"
    (lab.folder / "mended").touch()
    body = {"dry_run": False, "dag_run_id": run, "only_failed": True, "include_downstream": True}
    lab.server.ask("POST", "dags/mending/clearTaskInstances", body)
    assert lab.server.wait_for_run("mending", run)["state"] == "success"
    after = lab.show(run)
    assert after["state"] == "succeeded"
    attempts = {(each["step"], each["index"]): each["attempts"] for each in after["steps"]}
    assert attempts["half", "0"] == 1
    assert attempts["half", "1"] == 2


# -- faults ------------------------------------------------------------------------------------------------------


def test_a_run_marked_as_failed_is_closed_and_its_step_stopped_with_its_children(lab: Lab) -> None:
    watching = lab.start("run", "shop.py:sleeping", "--on", "airflow", "--json")
    step, child = pids(lab)
    run = json.loads(lab.penstock("ls", "--json").stdout)[0]["run"]
    lab.server.ask("PATCH", f"dags/sleeping/dagRuns/{run}", {"state": "failed"})
    out, _ = watching.communicate(timeout=120)
    assert watching.returncode == 1, out
    assert lab.server.wait_for_run("sleeping", run)["state"] == "failed"
    assert (lab.states(run)["nap"], lab.states(run)["total"]) == ("failed", "upstream_failed")
    lab.wait_until("the step and its child are gone", lambda: not alive(step) and not alive(child))


def test_a_cancelled_run_is_cancelled_here_and_failed_there(lab: Lab) -> None:
    watching = lab.start("run", "shop.py:sleeping", "--on", "airflow", "--json")
    pids(lab)
    run = json.loads(lab.penstock("ls", "--json").stdout)[0]["run"]
    lab.penstock("cancel", run)
    watching.communicate(timeout=120)
    assert watching.returncode == 130
    assert lab.server.wait_for_run("sleeping", run)["state"] == "failed"


def test_the_attempt_of_a_killed_step_counts_and_the_next_one_succeeds(lab: Lab) -> None:
    watching = lab.start("run", "shop.py:killed", "--on", "airflow", "--json")
    step, _ = pids(lab)
    os.kill(step, signal.SIGKILL)
    out, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0, out
    run = json.loads(lab.penstock("ls", "--json").stdout)[0]["run"]
    assert lab.show(run)["steps"][0]["attempts"] == 2


def test_airflows_api_server_may_go_and_come_back_while_a_step_is_at_work(lab: Lab) -> None:
    watching = lab.start("run", "shop.py:sleeping", "--on", "airflow", "--json", "--seconds", "15")
    pids(lab)
    lab.server.processes.stop_one("api-server", signal.SIGKILL)
    time.sleep(5)
    lab.server.start("api-server")
    lab.server.wait_until_ready()
    out, _ = watching.communicate(timeout=180)
    run = json.loads(lab.penstock("ls", "--json").stdout)[0]["run"]
    there = lab.server.wait_for_run("sleeping", run)["state"]
    assert (watching.returncode, there, lab.show(run)["state"]) == (0, "success", "succeeded"), out


def test_a_file_that_somebody_wrote_by_hand_is_not_replaced(lab: Lab) -> None:
    (lab.server.dags / "mine_dag.py").write_text("# no DAG of mine yet\n", encoding="utf-8")
    told = lab.penstock("deploy", "shop.py:mending", "--on", "airflow", "--name", "mine", fails=True)
    assert "mine_dag.py is there already, and is no file that penstock has written" in told.stderr
    assert (lab.server.dags / "mine_dag.py").read_text(encoding="utf-8") == "# no DAG of mine yet\n"


def test_a_run_keeps_its_graph_when_the_pipeline_is_deployed_again(lab: Lab) -> None:
    watching = lab.start("run", "shop.py:sleeping", "--on", "airflow", "--json", "--seconds", "12")
    pids(lab)
    changed = SHOP.replace("return total([nap(seconds)])", 'return total([nap(seconds), upto.named("more")(1)[0]])')
    lab.write("shop.py", changed.replace('upto.named("more")(1)[0]', 'total.named("more")(upto(1))'))
    lab.penstock("deploy", "shop.py:sleeping", "--on", "airflow")
    out, _ = watching.communicate(timeout=120)
    run = json.loads(lab.penstock("ls", "--json").stdout)[0]["run"]
    assert lab.states(run) == {"nap": "succeeded", "total": "succeeded"}, out
    assert "began before there was 'more': nothing to do" in lab.server.logs("sleeping", run, "more")
    assert lab.server.wait_for_run("sleeping", run)["state"] == "success"


@pytest.mark.long
def test_a_step_that_a_new_deployment_starts_too_early_says_so_and_clearing_it_finishes_the_run(lab: Lab) -> None:
    watching = lab.start("run", "shop.py:sleeping", "--on", "airflow", "--json", "--seconds", "25")
    pids(lab)
    lab.write("shop.py", SHOP.replace("return total([nap(seconds)])", "nap(seconds)\n    return total([5])"))
    lab.penstock("deploy", "shop.py:sleeping", "--on", "airflow")
    out, _ = watching.communicate(timeout=120)
    run = json.loads(lab.penstock("ls", "--json").stdout)[0]["run"]
    assert lab.server.wait_for_run("sleeping", run)["state"] == "failed", out
    told = lab.server.logs("sleeping", run, "total")
    assert "step total did not start: something that it needs is not done yet" in told
    assert f"needs in run {run} is not done" in told
    body = {"dry_run": False, "dag_run_id": run, "only_failed": True, "include_downstream": True}
    lab.server.ask("POST", "dags/sleeping/clearTaskInstances", body)
    assert lab.server.wait_for_run("sleeping", run)["state"] == "success"
    assert lab.states(run) == {"nap": "succeeded", "total": "succeeded"}
    assert json.loads(lab.penstock("artifact", "get", run, "total").stdout) == 1  # of `nap`, as in the run's own graph


def test_two_deployments_at_once_leave_a_file_and_the_manifest_that_belongs_to_it(lab: Lab) -> None:
    def deploy(words: tuple[str, str]) -> None:
        folder, source = words
        (lab.folder / folder).mkdir()
        (lab.folder / folder / "penstock.toml").write_text("", encoding="utf-8")
        (lab.folder / folder / "twice.py").write_text(source, encoding="utf-8")
        lab.penstock("deploy", f"{folder}/twice.py:mending", "--on", "airflow", "--name", "twice")

    other = SHOP.replace("def half(", "def halved(").replace("half.map", "halved.map")
    with ThreadPoolExecutor(2) as both:
        failures = [each.exception() for each in [both.submit(deploy, each) for each in (("a", SHOP), ("b", other))]]
    assert all(each is None or "another deployment" in str(each) for each in failures), failures
    text = (lab.server.dags / "twice_dag.py").read_text(encoding="utf-8")
    lab.server.wait_for_dag("twice")
    (lab.folder / "mended").touch()
    for folder in ("a", "b"):
        (lab.folder / folder / "mended").touch()
    started = lab.server.trigger("twice")
    assert lab.server.wait_for_run("twice", started)["state"] == "success"
    assert 'step("half"' in text or 'step("halved"' in text


# -- bad input ---------------------------------------------------------------------------------------------------


def test_a_file_that_airflow_cannot_import_is_told_in_its_words(lab: Lab) -> None:
    far = {
        "PENSTOCK_FORM": "kubernetes", "PENSTOCK_IMAGE": "localhost/none:1", "PENSTOCK_ARTIFACTS": "memory://ml",
        "PENSTOCK_RUNS": lab.server.database.create_database(),
    }  # fmt: skip
    told = lab.penstock("deploy", "shop.py:mending", "--on", "airflow", "--name", "no_provider", fails=True, more=far)
    assert "Airflow cannot read no_provider_dag.py" in told.stderr
    assert "cncf" in told.stderr


def test_a_pool_that_airflow_does_not_know_is_named_with_the_command_that_makes_it(lab: Lab) -> None:
    lab.write(
        "pooled.py", SHOP.replace("@step(cache=False)\ndef nap", '@step(cache=False, pool="gpus_nowhere")\ndef nap')
    )
    told = lab.penstock(
        "deploy",
        "pooled.py:sleeping",
        "--on",
        "airflow",
        "--name",
        "pooled",
        fails=True,
        more={"PENSTOCK_POOLS": "gpus_nowhere=1"},
    )
    assert "has no pool 'gpus_nowhere'" in told.stderr
    assert "airflow pools set gpus_nowhere" in told.stderr


def test_a_paused_dag_starts_no_run_that_would_wait_for_ever(lab: Lab) -> None:
    lab.write("paused.py", SHOP.replace("def mending", "def paused"))
    lab.penstock("deploy", "paused.py:paused", "--on", "airflow")
    lab.server.pause("paused")
    told = lab.penstock("run", "paused.py:paused", "--on", "airflow", fails=True)
    assert "DAG 'paused' is paused" in told.stderr


def test_a_dag_of_the_same_name_from_another_file_is_not_taken_over(lab: Lab) -> None:
    taken = 'from airflow.sdk import dag\n\n\n@dag(dag_id="taken", schedule=None)\ndef made():\n    pass\n\n\nmade()\n'
    (lab.server.dags / "somebody_elses.py").write_text(taken, encoding="utf-8")
    lab.server.wait_for_dag("taken")
    told = lab.penstock("deploy", "shop.py:mending", "--on", "airflow", "--name", "taken", fails=True)
    assert "has another DAG named 'taken'" in told.stderr


def test_an_interpreter_that_is_not_on_the_worker_is_named_in_the_tasks_log(lab: Lab) -> None:
    nowhere = {"PENSTOCK_PYTHON": "/nowhere/python"}
    lab.penstock("deploy", "shop.py:mending", "--on", "airflow", "--name", "no_python", more=nowhere)
    started = lab.server.trigger("no_python")
    assert lab.server.wait_for_run("no_python", started)["state"] == "failed"
    path = f"dags/no_python/dagRuns/{started}/taskInstances/upto/logs/1?full_content=true".replace("+", "%2B")
    assert "/nowhere/python" in json.dumps(lab.server.ask("GET", path))


def test_an_altered_manifest_is_refused_by_the_step(lab: Lab) -> None:
    lab.penstock("deploy", "shop.py:mending", "--on", "airflow", "--name", "altered")
    manifest = next(lab.server.dags.glob("altered.*.manifest.json"))
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"half"', '"hulf"'), encoding="utf-8")
    started = lab.server.trigger("altered")
    assert lab.server.wait_for_run("altered", started)["state"] == "failed"
    assert "is not the manifest that was deployed" in lab.server.logs("altered", started, "upto")


def test_data_that_a_step_updates_starts_the_pipeline_that_waits_for_it(lab: Lab) -> None:
    lab.write(
        "data.py",
        """
from penstock import OnData, pipeline, step

@step(updates=("s3://lake/orders",), cache=False)
def write() -> int: return 1

@step(cache=False)
def read() -> int: return 2

@pipeline
def writer() -> int: return write()

@pipeline(schedule=OnData("s3://lake/orders"))
def reader() -> int: return read()
""",
    )
    lab.penstock("deploy", "data.py:reader", "--on", "airflow")
    lab.run("data.py:writer")
    started = lab.server.wait_for_runs("reader", 1)[0]["dag_run_id"]
    assert lab.server.wait_for_run("reader", started)["state"] == "success"


def test_where_nothing_listens_the_endpoint_and_the_fix_are_named(lab: Lab) -> None:
    nowhere = {"PENSTOCK_ENDPOINT": "http://127.0.0.1:9"}
    told = lab.penstock("deploy", "shop.py:mending", "--on", "airflow", fails=True, more=nowhere)
    assert "http://127.0.0.1:9 cannot be reached" in told.stderr
    assert "endpoint" in told.stderr


def test_a_server_that_is_no_airflow_3_is_refused(lab: Lab) -> None:
    words = [lab.command()[0], "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(words, cwd=lab.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "PYTHONUNBUFFERED": "1"}) as other:  # fmt: skip
        try:
            assert other.stdout is not None
            url = other.stdout.readline().split("(")[1].split(")")[0].rstrip("/")
            told = lab.penstock("deploy", "shop.py:mending", "--on", "airflow", fails=True,
                                more={"PENSTOCK_ENDPOINT": url})  # fmt: skip
        finally:
            other.terminate()
    assert "does not answer like Airflow 3" in told.stderr
