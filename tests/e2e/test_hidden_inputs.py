"""A step that looks at something undeclared runs every time, wherever it runs, and says why; a declared one hits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import ConfigError, DefinitionError
from penstock.wiring.config import load_settings
from penstock.wiring.runs import Run

from .engine_lab import Lab, states

STEPS = """
import random

@step(ISOLATION)
DEF loose(n: int) -> str:
    mark("loose")
    return (HERE / "data.txt").read_text() + os.environ.get("LAB_REGION", "") + str(n)

@step(ISOLATION, reads="data.txt", env="LAB_REGION")
DEF declared(n: int) -> str:
    mark("declared")
    return Path("data.txt").read_text() + os.environ.get("LAB_REGION", "") + str(n)

@step(ISOLATION)
DEF named_late(path: str) -> str:
    mark("named_late")
    return context().reads(path).read_text()

@step(ISOLATION, cache_despite=("file", "environment", "random"))
DEF despite(n: int) -> str:
    mark("despite")
    random.random()
    return Path("data.txt").read_text() + os.environ.get("LAB_REGION", "")

@step(ISOLATION)
DEF plain(n: int) -> int:
    mark("plain")
    return n + 1

@pipeline
def main(n: int = 1) -> None:
    others = loose(n), declared(n), named_late("data.txt"), plain(n)
    despite.after(*others)(n)  # a draw belongs to all that run in its process at the time
"""
PLACES = {
    "one after another on the main thread": ("", "def", {"workers": 1}),
    "worker processes": ('isolation="process"', "def", {}),
    "threads": ('isolation="thread"', "def", {}),
    "one loop": ("", "async def", {}),
    "a process per step": ("", "def", {"one_process_per_step": True}),
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("1")
    with Lab(tmp_path) as found:
        yield found


def hidden(run: Run) -> dict[str, list[tuple[str, str]]]:
    return {each.step: [(found.kind, found.name) for found in each.hidden] for each in run.steps if each.hidden}


@pytest.mark.parametrize("place", PLACES)
def test_everywhere_the_undeclared_runs_again_and_the_rest_hits(lab: Lab, place: str) -> None:
    isolation, keyword, options = PLACES[place]
    lab.write(STEPS.replace("(ISOLATION, ", f"({isolation}, " if isolation else "(").replace("ISOLATION", isolation)
              .replace("DEF", keyword))  # fmt: skip
    first = lab.run(**options)
    assert hidden(first) == {"loose": [("file", "data.txt"), ("environment", "LAB_REGION")]}
    second = lab.run(**options)
    assert states(second) == {
        "loose": "succeeded", "declared": "cached", "named_late": "cached", "despite": "cached", "plain": "cached",
    }  # fmt: skip
    (lab.root / "data.txt").write_text("2")
    third = lab.run(**options)
    assert states(third) == {
        "loose": "succeeded", "declared": "succeeded", "named_late": "succeeded", "despite": "cached",
        "plain": "cached",
    }  # fmt: skip
    assert third.step("loose").key is None
    assert third.step("declared").key is not None


FLOW = """
from datetime import datetime
import uuid
import numpy
import pandas

@step
def table() -> int:
    return len(pandas.read_parquet("table.parquet"))

@step(reads="table.parquet")
def declared_table() -> int:
    return len(pandas.read_parquet("table.parquet"))

@step
def stamp() -> str:
    return datetime.now().isoformat()

@step
def unseeded() -> float:
    return float(numpy.random.default_rng().random())

@step
def seeded() -> float:
    return float(numpy.random.default_rng(context().seed).random())

@step
def took() -> int:
    return int(time.perf_counter() < 0)

@pipeline
def main() -> None:
    table(), declared_table(), stamp(), unseeded(), seeded(), took()
"""


def test_what_raises_no_event_is_found_in_the_code(lab: Lab) -> None:
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet("table.parquet")
    lab.write(FLOW)
    lab.run()
    again = lab.run()
    assert hidden(again) == {
        "table": [("file", "pandas.read_parquet()")],
        "stamp": [("clock", "datetime.datetime.now()")],
        "unseeded": [("random", "numpy.random.default_rng()")],
    }
    assert states(again) == {
        "table": "succeeded", "declared_table": "cached", "stamp": "succeeded", "unseeded": "succeeded",
        "seeded": "cached", "took": "cached",
    }  # fmt: skip


ONE = """
@step
def look() -> str:
    mark("look")
    return Path("data.txt").read_text()

@pipeline
def main() -> str:
    return look()
"""


@pytest.mark.parametrize(
    ("setting", "second", "told"), [("on", "succeeded", 1), ("warn", "cached", 1), ("off", "cached", 0)]
)
def test_the_setting_says_what_becomes_of_it(lab: Lab, setting: str, second: str, told: int) -> None:
    (lab.root / "penstock.toml").write_text(f'hidden_inputs = "{setting}"\n')
    lab.write(ONE)
    assert len(lab.run().step("look").hidden) == told
    assert states(lab.run()) == {"look": second}


def test_a_setting_that_is_none_is_told_with_the_near_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HIDDEN_INPUTS", "wran")
    with pytest.raises(ConfigError, match="hidden_inputs is 'wran'") as error:
        load_settings(str(tmp_path))
    assert "warn" in (error.value.hint or "")


def test_without_its_cache_a_step_is_not_watched(lab: Lab) -> None:
    lab.write(ONE.replace("@step\n", "@step(cache=False)\n"))
    assert lab.run().step("look").hidden == ()


def test_an_effect_is_not_watched_and_not_done_again(lab: Lab) -> None:
    lab.write(ONE.replace("@step\n", '@step(effect="at-least-once")\n'))
    lab.run()
    assert states(lab.run()) == {"look": "cached"}
    assert lab.ran() == ["look"]


def test_a_run_without_cache_keeps_nothing_hidden_for_later_ones(lab: Lab) -> None:
    lab.write(ONE)
    lab.run(cache=False)
    assert states(lab.run()) == {"look": "succeeded"}


def test_a_declared_file_that_changes_under_the_step_is_not_kept(lab: Lab) -> None:
    lab.write("""
@step(reads="data.txt")
def look() -> str:
    content = Path("data.txt").read_text()
    Path("data.txt").write_text(content + "1")
    return content

@pipeline
def main() -> str:
    return look()
""")
    first = lab.run()
    assert hidden(first) == {"look": [("file", "data.txt (changed while the step ran)")]}
    assert lab.run().output == "11"


def test_a_declared_file_that_is_not_there_counts_until_it_comes(lab: Lab) -> None:
    lab.write("""
@step(reads="settings.txt")
def look() -> str:
    path = Path("settings.txt")
    return path.read_text() if path.exists() else "none"

@pipeline
def main() -> str:
    return look()
""")
    assert lab.run().output == "none"
    assert states(lab.run()) == {"look": "cached"}
    (lab.root / "settings.txt").write_text("some")
    assert lab.run().output == "some"


def test_a_declared_folder_is_what_lies_in_it(lab: Lab) -> None:
    lab.write("""
@step(reads="parts")
def look() -> list[str]:
    return sorted(path.read_text() for path in Path("parts").rglob("*.txt"))

@pipeline
def main() -> list[str]:
    return look()
""")
    (lab.root / "parts" / "inner").mkdir(parents=True)
    (lab.root / "parts" / "inner" / "a.txt").write_text("a")
    assert lab.run().output == ["a"]
    assert states(lab.run()) == {"look": "cached"}
    (lab.root / "parts" / "b.txt").write_text("b")
    assert lab.run().output == ["a", "b"]
    (lab.root / "parts" / "inner" / "a.txt").write_text("c")
    assert lab.run().output == ["b", "c"]


def test_read_and_observe_and_artifacts_are_no_hidden_inputs(lab: Lab) -> None:
    (lab.root / "data.csv").write_text("a\n1\n")
    lab.write("""
from penstock import read
import pandas as pd

@step
def table() -> pd.DataFrame:
    return read("data.csv")

@step
def file(rows: pd.DataFrame) -> Path:
    rows.to_csv("out.csv")
    return Path("out.csv")

@step
def back(path: Path, rows: pd.DataFrame) -> int:
    return len(path.read_text()) + len(rows)

@step
def observed() -> str:
    from penstock.data.files import FileObserver
    context().observe("file", "data.txt", FileObserver().version("data.txt"))
    return Path("data.txt").read_text()

@pipeline
def main() -> None:
    rows = table()
    back(file(rows), rows), observed()
""")
    lab.run()
    again = lab.run()
    assert set(states(again).values()) == {"cached"}, hidden(again)


def test_an_early_cut_off_follows_a_step_that_runs_every_time(lab: Lab) -> None:
    lab.write(
        ONE.replace("    return look()", "    return after(look())")
        + """
@step
def after(text: str) -> str:
    mark("after")
    return text + "!"
"""
    )
    lab.run()
    assert states(lab.run()) == {"look": "succeeded", "after": "cached"}


@pytest.mark.parametrize(
    ("options", "problem", "hint"),
    [
        ('cache_despite="netwrok"', "'netwrok' is no kind of hidden input", "network"),
        ('reads="s3://bucket/x"', "is a URL", "penstock.read"),
        ("reads=(1,)", "is not the path of a file or folder", None),
    ],
)  # fmt: skip
def test_an_option_that_is_wrong_is_told_where_it_is_written(
    lab: Lab, options: str, problem: str, hint: str | None
) -> None:
    lab.write(f"@step({options})\ndef f() -> int:\n    return 1\n")
    with pytest.raises(DefinitionError, match=problem) as error:
        lab.load()
    assert error.value.where is not None
    assert hint is None or hint in (error.value.hint or "")


# -- told --------------------------------------------------------------------------------------------------------------

CHURN = """
import os
from pathlib import Path
from penstock import pipeline, step

@step
def score(n: int) -> str:
    return Path("data.csv").read_text() + os.environ.get("REGION", "")

@pipeline
def churn() -> None:
    score.partial().map(n=[1, 2])
"""
FOUND = "read data.csv and REGION undeclared"


def penstock(*words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    done = subprocess.run(
        [sys.executable, "-m", "penstock", *words], capture_output=True, text=True, timeout=120, check=False,
        env={**environment, "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(*words: str) -> Any:
    return json.loads(penstock(*words, "--json"))


def test_show_plan_and_why_tell_what_was_found_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("churn.py").write_text(CHURN)
    Path("data.csv").write_text("a\n")
    penstock("run", "churn.py")
    assert f"score[0] and 1 more {FOUND}: not cached" in penstock("show")
    page = penstock("show", "last", "score[1]")
    assert "hidden inputs, not cached" in page
    assert "churn.py:8" in page
    assert '@step(reads="data.csv", env="REGION"), or @step(cache_despite=("file", "environment"))' in page
    records = [{"kind": "file", "name": "data.csv", "where": "churn.py:8"},
               {"kind": "environment", "name": "REGION", "where": "churn.py:8"}]  # fmt: skip
    assert told("show", "last", "score[0]")[0]["hidden"] == records
    plan = penstock("plan", "churn.py")
    assert f"runs every time: it {FOUND}" in plan
    items = told("plan", "churn.py")["steps"]
    assert [(each["verdict"], each["hidden"]) for each in items] == [("run", records), ("run", records)]
    penstock("run", "churn.py")
    assert f"where it {FOUND}" in penstock("why", "score[0]")
    assert told("why", "score[0]")["hidden"] == records

    declared = CHURN.replace("@step", '@step(reads="data.csv", env="REGION")')
    Path("churn.py").write_text(declared)
    assert "undeclared" not in penstock("plan", "churn.py")
    penstock("run", "churn.py")
    assert {each["verdict"] for each in told("plan", "churn.py")["steps"]} == {"hit"}


def test_a_plan_tells_of_what_is_in_the_code_before_it_ever_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("churn.py").write_text(
        "import time\nfrom penstock import pipeline, step\n\n@step\ndef now(n: int) -> float:\n"
        "    return time.time()\n\n"
        "@pipeline\ndef churn() -> list[float]:\n    return [now(1), now(1)]\n"
    )
    plan = penstock("plan", "churn.py")
    assert "nothing will be kept: asked the clock with time.time() undeclared" in plan
    assert {each["verdict"] for each in told("plan", "churn.py")["steps"]} == {"run"}


HIDING = """
import glob
import os
import random
import subprocess
import sys
from pathlib import Path

from penstock import pipeline, step


@step
def folder() -> list[str]:
    os.makedirs("raw", exist_ok=True)
    return [Path(name).read_text() for name in sorted(glob.glob("raw/*.csv"))]


@step(cache_despite="file")
def many() -> str:
    for number in range(60):
        Path(f"parts/{number}.txt").read_text()
    return subprocess.run([sys.executable, "-c", "print(open('data.txt').read())"], stdout=-1, text=True).stdout


@step
def appends() -> str:
    with open("log.txt", "a") as log:
        log.write("more")
    return Path("log.txt").read_text()


@step
def forks() -> int:
    child = os.fork()
    if child == 0:
        os._exit(int(Path("data.txt").read_text()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@step
def draws() -> float:
    return random.random()


@pipeline
def hiding() -> None:
    folder(), many(), appends(), forks(), draws()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_nothing_hides_behind_what_the_step_makes_or_waives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hiding.py").write_text(HIDING)
    for name in ("raw", "parts"):
        Path(name).mkdir()
    for name in ("raw/a.csv", "data.txt", "log.txt", *(f"parts/{number}.txt" for number in range(60))):
        Path(name).write_text("1")
    penstock("run", "hiding.py")
    wanted = {
        "folder": [("folder", "raw"), ("file", "raw/a.csv")],
        "many": [("process", os.path.basename(sys.executable))],
        "appends": [("file", "log.txt")],
        "forks": [("process", "fork")],
        "draws": [("random", "random")],
    }
    for step, hidden in wanted.items():
        (shown,) = told("show", "last", step)
        assert [(each["kind"], each["name"]) for each in shown["hidden"]] == hidden
    assert "random  the global random generator" in penstock("show", "last", "draws")
    assert "process  a child process (what it reads cannot be seen)" in penstock("show", "last", "forks")
    assert {each["verdict"] for each in told("plan", "hiding.py")["steps"]} == {"run"}
