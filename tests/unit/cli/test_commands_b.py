"""plan, why, diff, artifact, graph, gc, doctor and serve as a person types them, in one process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from penstock.cli.app import main
from penstock.ports.records import RunRecord, RunState, RunSummary

FLOW = """
from pathlib import Path

import pandas as pd
from penstock import context, pipeline, step, when

FACTOR = 2


@step(isolation="thread")
def table(count: int) -> pd.DataFrame:
    return pd.DataFrame({"number": range(count), "name": [f"row {n}" for n in range(count)]})


@step(isolation="thread")
def total(rows: pd.DataFrame) -> int:
    context().metric("total", float(rows["number"].sum()) * FACTOR)
    return int(rows["number"].sum()) * FACTOR


@step(isolation="thread")
def note(text: str, times: int) -> Path:
    place = Path(context().checkpoint_dir) / "note.txt"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text * times)
    return place


@step(isolation="thread")
def large(number: int) -> bool:
    return number > 100


@step(isolation="thread")
def cheer(number: int) -> str:
    return "hooray"


@pipeline
def flow(count: int = 5, times: list[int] = [1, 2]) -> int:
    number = total(table(count))
    note.partial(text="ab").map(times=times)
    with when(large(number)):
        cheer(number)
    return number
"""

MAPPED = """
from penstock import pipeline, step


@step(isolation="thread")
def each(number: int) -> int:
    return number * 10


@step(isolation="thread")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def flow(numbers: list[int] = [1, 2, 3]) -> int:
    return total(each.map(number=numbers))
"""


class Shell:
    """Types commands in a project's folder."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capture = capture

    def __call__(self, *words: str, code: int = 0) -> str:
        forget_modules(self.root)
        assert main(list(words)) == code, self._capture.readouterr()
        return self._capture.readouterr().out

    def fails(self, *words: str, code: int) -> str:
        forget_modules(self.root)
        assert main(list(words)) == code, self._capture.readouterr()
        return self._capture.readouterr().err

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    def edit(self, old: str, new: str) -> None:
        path = self.root / "flow.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def forget_modules(root: Path) -> None:
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(root)):
            del sys.modules[name]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "penstock.toml").write_text("workers = 2\n")
    (tmp_path / "flow.py").write_text(FLOW)
    yield Shell(tmp_path, capsys)
    forget_modules(tmp_path)


@pytest.fixture
def ran(shell: Shell) -> Shell:
    shell("run", "flow.py", "--quiet")
    return shell


# -- plan ----------------------------------------------------------------------------------------------------------


def test_plan_makes_nothing_and_says_what_runs(shell: Shell) -> None:
    text = shell("plan", "flow.py")
    assert text.startswith("flow: 6 steps; 3 run, 3 depend on these\n")
    assert not (shell.root / ".penstock").exists()


def test_plan_takes_parameters_as_run_does(ran: Shell) -> None:
    found = ran.json("plan", "flow.py", "--count", "7")
    assert found["counts"]["hit"] == 2
    table = next(step for step in found["steps"] if step["step"] == "table")
    assert (table["verdict"], table["why"]) == ("run", "parameter count: 5 → 7")


def test_plan_shows_changed_lines_when_asked(ran: Shell) -> None:
    ran.edit("FACTOR = 2", "FACTOR = 3")
    assert "+FACTOR = 3" in ran("plan", "flow.py", "--diff")
    assert "+FACTOR = 3" not in ran("plan", "flow.py")


def test_plan_obeys_no_cache_and_from(ran: Shell) -> None:
    assert ran.json("plan", "flow.py", "--no-cache")["counts"]["hit"] == 0
    found = ran.json("plan", "flow.py", "--from", "total")
    assert {step["step"] for step in found["steps"] if step["verdict"] == "run"} == {"total"}


def test_plan_refuses_a_wrong_flag_and_a_missing_file(shell: Shell) -> None:
    assert "did you mean '--count'" in shell.fails("plan", "flow.py", "--cuont", "3", code=2)
    assert "which file?" in shell.fails("plan", code=2)
    assert "has no step 'totl'" in shell.fails("plan", "flow.py", "--from", "totl", code=2)


# -- why and diff --------------------------------------------------------------------------------------------------


def test_why_shows_the_changed_line(ran: Shell) -> None:
    ran.edit("FACTOR = 2", "FACTOR = 3")
    ran("run", "flow.py", "--quiet")
    text = ran("why", "total")
    assert "FACTOR in flow.py changed" in text
    assert "-FACTOR = 2\n" in text
    assert "+FACTOR = 3\n" in text


def test_why_takes_a_run_an_element_and_an_index(ran: Shell) -> None:
    ran("run", "flow.py", "--quiet")
    assert ran.json("why", "last", "note[1]")["state"] == "cached"
    assert ran.json("why", "last", "note", "--index", "1")["origin"]["index"] == "1"
    assert ran.json("why", "last", "cheer")["why"] == "skipped: large is false"
    assert "did you mean 'total'" in ran.fails("why", "totl", code=4)


def test_why_tells_a_map_as_a_whole_its_elements_by_what_they_have_in_common(ran: Shell) -> None:
    ran("run", "flow.py", "--quiet")
    page = ran("why", "note")
    assert "note of run" in page
    assert ": 2 elements  ≡ 2 cached" in page
    assert "2 x ≡ cached: note[0], note[1]" in page
    assert "taken from run" in page
    found = ran.json("why", "note")
    assert (found["elements"], found["counts"], found["left_out"]) == (2, {"cached": 2}, 0)
    assert [(each["indices"], each["first"]["state"]) for each in found["groups"]] == [(["0", "1"], "cached")]


def test_why_and_artifact_take_the_only_element_of_a_map_for_the_map(shell: Shell) -> None:
    (shell.root / "flow.py").write_text(MAPPED)
    shell("run", "flow.py", "--numbers", "7", "--quiet")
    assert shell.json("why", "each")["index"] == "0"
    assert "each[0]" in shell("artifact", "show", "last", "each")
    assert shell("artifact", "get", "last", "each") == "70\n"


def test_why_tells_the_elements_of_a_map_apart_by_what_changed(shell: Shell) -> None:
    (shell.root / "flow.py").write_text(MAPPED)
    shell("run", "flow.py", "--quiet")
    shell("run", "flow.py", "--numbers", "1,2,4,5", "--quiet")
    groups = shell.json("why", "each")["groups"]
    assert [each["indices"] for each in groups] == [["0", "1"], ["2"], ["3"]]
    assert groups[1]["first"]["changes"][0]["text"] == "argument number: 3 → 4"
    assert "this element of the map is new" in groups[2]["first"]["why"]


def test_diff_of_the_last_run_alone_compares_it_with_the_one_before_of_its_pipeline(ran: Shell) -> None:
    ran("run", "flow.py", "--count", "6", "--quiet")
    (ran.root / "other.py").write_text(MAPPED.replace("def flow", "def other"))
    ran("run", "other.py", "--quiet")
    ran("run", "flow.py", "--count", "7", "--quiet")
    for name in ("last", ran.json("ls")[0]["run"]):
        assert ran.json("diff", name)["parameters"] == {"count": ["6", "7"]}


def test_diff_puts_metrics_and_data_side_by_side(ran: Shell) -> None:
    ran("run", "flow.py", "--count", "6", "--quiet")
    first = ran.json("ls")[1]["run"]
    text = ran("diff", first)
    assert "count  5  →  6" in text
    assert "DataFrame, 5 rows" in text
    found = ran.json("diff", first, "last")
    assert (found["metrics"][0]["before"], found["metrics"][0]["after"], found["metrics"][0]["delta"]) == (20, 30, 10)
    assert found["parameters"] == {"count": ["5", "6"]}
    assert not found["same"]


def test_diff_leaves_out_the_values_of_a_list_that_are_equal(shell: Shell) -> None:
    (shell.root / "flow.py").write_text(MAPPED)
    shell("run", "flow.py", "--quiet")
    shell("run", "flow.py", "--numbers", "1,2,4", "--quiet")
    ids = [each["run"] for each in shell.json("ls")]
    (pair,) = [each for each in shell.json("diff", ids[1], ids[0])["data"] if each["step"] == "total"]
    old, new = (shell.json("artifact", "show", run, "each[2]")[0]["digest"] for run in (ids[1], ids[0]))
    assert (pair["before"]["digest"], pair["after"]["digest"]) == (old, new)
    assert f"{old[:8]} (int)  →  {new[:8]} (int)" in shell("diff", ids[1], ids[0])


def test_diff_of_a_run_with_itself_says_so(ran: Shell) -> None:
    assert "the same code, parameters, data" in ran("diff", "last", "last")


# -- artifact ------------------------------------------------------------------------------------------------------


def test_artifact_show_tells_a_map_as_a_whole(shell: Shell) -> None:
    (shell.root / "flow.py").write_text(MAPPED)
    shell("run", "flow.py", "--numbers", ",".join(str(at % 7) for at in range(30)), "--quiet")
    page = shell("artifact", "show", "last", "each")
    lines = page.splitlines()
    assert lines[0].startswith("each: 30 elements  ✓ 7 succeeded, 23 cached")
    assert lines[2] == "output  30 x int, 55 B, 7 different"
    assert [line.split()[0] for line in lines[3:5]] == ["each[0]", "each[1]"]
    assert "and 20 elements more" in page
    assert len(lines) < 20
    values = shell.json("artifact", "show", "last", "each")
    assert [each["value"] for each in values] == [at % 7 * 10 for at in range(30)]
    assert shell.json("artifact", "show", "last", "each.output") == values


def test_artifact_show_previews_a_table_with_its_lineage(ran: Shell) -> None:
    text = ran("artifact", "show", "last", "table")
    for words in ("DataFrame, 5 rows", "number", "int64", "row 4", "used by  total", "made by  table in run"):
        assert words in text
    facts = ran.json("artifact", "show", "last", "total")
    assert (facts[0]["value"], facts[0]["metrics"], facts[0]["from"]) == (20, {"total": 20.0}, {"rows": "table.output"})


def test_artifact_get_writes_tables_by_suffix(ran: Shell) -> None:
    import pandas as pd

    assert ran("artifact", "get", "last", "table").splitlines()[:2] == ["number,name", "0,row 0"]
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        ran("artifact", "get", "last", "table", "-o", f"out{suffix}")
        assert list(read(ran.root / f"out{suffix}")["number"]) == [0, 1, 2, 3, 4]
    ran("artifact", "get", "last", "table", "-o", "out.json")
    assert json.loads((ran.root / "out.json").read_text())[1] == {"number": 1, "name": "row 1"}


def test_artifact_get_gives_json_and_files_back(ran: Shell) -> None:
    assert json.loads(ran("artifact", "get", "last", "total")) == 20
    ran("artifact", "get", "last", "note[1]", "-o", "note.txt")
    assert (ran.root / "note.txt").read_text() == "abab"


def test_artifact_refuses_what_is_not_there(ran: Shell) -> None:
    assert "no step 'tabel'" in ran.fails("artifact", "show", "last", "tabel", code=4)
    assert "no output 'rows'" in ran.fails("artifact", "get", "last", "table.rows", code=4)
    assert "map of 2 elements" in ran.fails("artifact", "get", "last", "note", code=4)
    assert "has no output" in ran.fails("artifact", "get", "last", "cheer", code=4)
    assert "cannot be written" in ran.fails("artifact", "get", "last", "total", "-o", "no/such/folder.json", code=2)


ONES = """
import pandas as pd
from penstock import pipeline, step


@step(isolation="thread")
def left() -> int:
    return 1


@step(isolation="thread")
def right() -> int:
    return 1


@step(isolation="thread")
def same(number: int) -> int:
    return 1


@step(isolation="thread")
def each(number: int, factor: int) -> int:
    return 1


@step(isolation="thread")
def after(number: int) -> int:
    return number


@step(isolation="thread")
def wide() -> pd.DataFrame:
    return pd.DataFrame({f"column_{at}": [at] for at in range(30)})


@step(isolation="thread")
def refused() -> pd.DataFrame:
    return pd.DataFrame({"age": [-1] * 12, "reasons": [f"age: -1 is below 0, seen in reading {n}" for n in range(12)]})


@pipeline
def flow(factors: list[int] = [3, 4]) -> None:
    left()
    same(right())
    after.map(number=each.partial(number=left.named("third")()).map(factor=factors))
    wide()
    refused()
"""


def test_equal_values_of_independent_steps_are_not_each_others_inputs(shell: Shell) -> None:
    (shell.root / "flow.py").write_text(ONES)
    shell("run", "flow.py", "--quiet")

    def lineage(step: str) -> tuple[dict[str, str], list[str]]:
        facts = shell.json("artifact", "show", "last", step)[0]
        return facts["from"], facts["used_by"]

    assert lineage("left") == ({}, [])
    assert lineage("right") == ({}, ["same"])
    assert lineage("same") == ({"number": "right.output"}, [])
    assert lineage("third") == ({}, ["each[0]", "each[1]"])
    assert lineage("each[1]") == ({"number": "third.output"}, ["after[1]"])
    assert lineage("after[0]") == ({"number": "each[0].output"}, [])


def test_a_wide_table_is_previewed_as_far_as_the_terminal_goes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.root / "flow.py").write_text(ONES)
    shell("run", "flow.py", "--quiet")
    monkeypatch.setenv("COLUMNS", "80")
    lines = shell("artifact", "show", "last", "wide").splitlines()
    header = next(line for line in lines if "column_0" in line)
    assert "column_6" in header
    assert len(header) <= 80
    assert "more: column_7 (int64)" in lines[-1] or "more: column_8 (int64)" in lines[-1]
    assert "column_29 (int64)" in lines[-1]


def test_a_quarantine_tells_why_each_row_is_in_it(shell: Shell) -> None:
    (shell.root / "flow.py").write_text(ONES)
    shell("run", "flow.py", "--quiet")
    text = shell("artifact", "show", "last", "refused")
    assert "  row 9: age: -1 is below 0, seen in reading 9\n  and 2 rows more" in text


def test_a_table_is_written_under_no_suffix_that_it_does_not_have(ran: Shell) -> None:
    text = ran.fails("artifact", "get", "last", "table", "-o", "t.xlsx", code=2)
    assert "'.xlsx'" in text
    assert ".csv, .parquet, .json" in text
    assert not (ran.root / "t.xlsx").exists()


def test_a_run_is_found_by_its_name_the_newest_first(ran: Shell) -> None:
    for count in ("6", "7"):
        ran("run", "flow.py", "--name", "nightly", "--count", count, "--quiet")
    ran("run", "flow.py", "--quiet")
    ids = [each["run"] for each in ran.json("ls")]
    assert ran.json("show", "nightly")["run"] == ids[1]
    assert "did you mean 'nightly'" in ran.fails("show", "nightli", code=4)
    assert f"known: {', '.join(ids)}" in ran.fails("show", "zzzz", code=4)


def test_a_gate_is_named_once(shell: Shell) -> None:
    (shell.root / "flow.py").write_text(
        "from typing import NamedTuple\nfrom penstock import pipeline, step\n"
        "class Verdict(NamedTuple):\n    passed: bool\n    reasons: list[str]\n"
        "@step(isolation='thread')\ndef gate() -> Verdict:\n    return Verdict(False, ['too low'])\n"
        "@pipeline\ndef flow() -> None:\n    gate()\n"
    )
    shell("run", "flow.py", "--quiet")
    assert "\n  gate refused: too low" in shell("show")


def test_a_map_that_is_partly_cached_succeeded_and_one_wholly_cached_says_what_was_saved(ran: Shell) -> None:
    assert "✓ note x 3: 1 succeeded, 2 cached" in ran.fails("run", "flow.py", "--times", "1,2,3", code=0)
    text = ran.fails("run", "flow.py", "--times", "1,2,3", code=0)
    assert "≡ note x 3: 3 cached, saved " in text


# -- graph ---------------------------------------------------------------------------------------------------------


def test_graph_draws_in_three_forms(ran: Shell) -> None:
    assert ran("graph", "flow.py").startswith("flow(count: int = 5")
    assert ran("graph", "flow.py", "--format", "mermaid").startswith("flowchart TD\n")
    ran("graph", "flow.py", "-o", "flow.svg")
    assert ElementTree.parse(ran.root / "flow.svg").getroot().get("aria-label") == "pipeline flow"


def test_graph_of_a_run_shows_its_states(ran: Shell) -> None:
    assert "○ cheer" in ran("graph", "--run", "last")
    assert ran.json("graph", "--run", "last")["states"]["note"] == "succeeded"
    assert "which pipeline?" in ran.fails("graph", code=2)


# -- gc ------------------------------------------------------------------------------------------------------------


def a_run(name: str, pipeline: str, days_ago: float, state: RunState = RunState.SUCCEEDED) -> RunSummary:
    at = 10**16 - int(days_ago * 86_400 * 1_000_000)
    record = RunRecord(id=name, pipeline=pipeline, project="", manifest="", parameters={}, created_at=at)
    return RunSummary(record, state, at, None if state is RunState.RUNNING else at)


def test_gc_spares_the_newest_the_young_and_the_running() -> None:
    from penstock.cli.commands.gc import doomed_runs

    runs = [
        a_run("young", "a", 1),
        a_run("old but second", "a", 50),
        a_run("old", "a", 60),
        a_run("old and running", "a", 70, RunState.RUNNING),
        a_run("old and interrupted", "a", 80, RunState.INTERRUPTED),
        a_run("old but the only one of b", "b", 90),
    ]
    found = doomed_runs(runs, 10**16, 30 * 86_400, keep_last=2)
    assert [run.record.id for run in found] == ["old", "old and interrupted"]


def test_gc_deletes_nothing_without_yes_and_nothing_young_with_it(ran: Shell) -> None:
    before = ran.json("ls")
    found = ran.json("gc", "--older-than", "0s", "--keep-last", "0", "--yes")
    assert (found["runs"], found["blobs"]) == ([], 0)
    assert ran.json("ls") == before
    assert "nothing to delete" in ran("gc")
    assert "not an age" in ran.fails("gc", "--older-than", "soon", code=2)


def test_gc_says_what_it_frees_and_frees_it(ran: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from penstock.core.clock import SystemClock

    later = 40 * 86_400
    now_us = SystemClock.now_us
    monkeypatch.setattr(SystemClock, "now_us", lambda clock: now_us(clock) + later * 1_000_000)
    planned = ran.json("gc", "--keep-last", "0")
    assert (len(planned["runs"]), planned["deleted"]) == (1, False)
    assert planned["bytes"] > 0
    assert "nothing was deleted: add --yes" in ran("gc", "--keep-last", "0")
    objects = ran.root / ".penstock" / "artifacts" / "objects"
    assert any(files for _, _, files in os.walk(objects))
    done = ran.json("gc", "--keep-last", "0", "--yes")
    assert (done["runs"], done["bytes"]) == (planned["runs"], planned["bytes"])
    assert not any(files for _, _, files in os.walk(objects))
    assert ran.json("ls") == []


# -- doctor and serve ----------------------------------------------------------------------------------------------


def findings(shell: Shell, code: int = 0) -> dict[str, dict[str, Any]]:
    found = json.loads(shell("doctor", "--json", code=code))
    return {each["what"]: each for each in found["findings"]}


def test_doctor_finds_a_fresh_folder_healthy_and_makes_nothing(shell: Shell) -> None:
    found = findings(shell)
    assert found["run log"]["text"].startswith("none yet")
    assert not (shell.root / ".penstock").exists()
    assert "everything that a run needs is here" in shell("doctor")


def test_doctor_probes_the_stores_and_leaves_no_trace(ran: Shell) -> None:
    def blobs() -> list[Path]:
        return sorted(path for path in (ran.root / ".penstock" / "artifacts").rglob("*") if path.is_file())

    before = blobs()
    found = findings(ran)
    assert found["run log"]["text"].endswith("schema version 2, writable")
    assert found["artifacts"]["verdict"] == "ok"
    assert blobs() == before


def test_doctor_says_no_to_a_broken_configuration_and_an_unreachable_store(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_RUNS", "postgresql://nobody:geheim@127.0.0.1:1/none?connect_timeout=1")
    found = findings(shell, code=1)
    assert found["run log"]["verdict"] == "broken"
    assert "geheim" not in json.dumps(found)
    (shell.root / "penstock.toml").write_text("wrokers = 2\n")
    assert "did you mean 'workers'" in findings(shell, code=1)["configuration"]["hint"]


def test_serve_refuses_before_it_loads_anything(shell: Shell) -> None:
    assert "does not say which version" in shell.fails("serve", "churn", code=2)
    assert "not a port" in shell.fails("serve", "churn@champion", "--port", "99999", code=2)
    assert "no token is set" in shell.fails("serve", "churn@champion", "--host", "0.0.0.0", code=5)


@pytest.mark.parametrize("command", ["plan", "why", "diff", "artifact", "graph", "gc", "doctor", "serve"])
def test_every_command_has_help_with_examples(command: str, shell: Shell) -> None:
    text = shell(command, "--help")
    assert text.startswith("usage: penstock")
    assert f"penstock {command}" in text.partition("examples:")[2]


@pytest.mark.parametrize("words", [("why", "x"), ("diff", "x"), ("artifact", "show", "last", "x"), ("gc",)])
def test_looking_where_nothing_was_run_makes_no_store(words: tuple[str, ...], shell: Shell) -> None:
    assert "nothing has been run here yet" in shell.fails(*words, code=4)
    assert not (shell.root / ".penstock").exists()
