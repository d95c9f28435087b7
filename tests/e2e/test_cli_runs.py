"""The command line with real processes: what a user sees, and what survives Ctrl-C and kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HELLO = """
import os
from penstock import pipeline, step

@step(cache_despite="process")
def extract() -> list[int]:
    print("three rows")
    os.system("echo from a child")
    return [1, 2, 3]

@step
def train(data: list[int]) -> int:
    return sum(data)

@pipeline
def sums() -> int:
    return train(extract())
"""

# `hold` stands still until somebody lets it go; the first step must not run again when the run is resumed.
HOLDING = """
import os
import threading
from penstock import pipeline, step

@step
def before() -> int:
    with open("before.txt", "a") as file:
        file.write("ran\\n")
    return 1

@step
def hold(x: int, stubborn: bool) -> int:
    print("holding")
    while not os.path.exists("go"):
        try:
            open("holding", "w").close()  # inside the try: who sees it may send a signal at once
            threading.Event().wait(60)
        except KeyboardInterrupt:
            if not stubborn:
                raise
            open("interrupted", "w").close()
    return x + 1

@pipeline
def held(stubborn: bool = False) -> int:
    return hold(before(), stubborn)
"""

FAILING = """
from penstock import Retry, pipeline, step

def parse(text):
    return int(text)

@step(retry=Retry(attempts=2, base="10ms"))
def load() -> int:
    print("trying")
    return parse("twelve")

@step
def other() -> int:
    return 1

@step
def after(x: int) -> int:
    return x

@pipeline
def failing() -> int:
    other()
    return after(load())
"""

GATED = """
from typing import NamedTuple
from penstock import pipeline, step, when

class Verdict(NamedTuple):
    passed: bool
    reasons: list[str]

@step
def judge(auc: float) -> Verdict:
    return Verdict(auc >= 0.8, [f"auc {auc} is below the minimum 0.8"] if auc < 0.8 else [])

@step
def ship() -> str:
    return "shipped"

@pipeline
def gated(auc: float = 0.7) -> None:
    verdict = judge(auc)
    with when(verdict.passed):
        ship()
"""


CHATTY = """
from penstock import pipeline, step

@step
def count(n: int) -> int:
    return n + 1

@step
def shout(n: int, broken: bool) -> int:
    for at in range(5000):
        print("a long line, so that the pipe is full soon and its reader is missed", at, flush=at % 100 == 0)
    if broken:
        raise ValueError("broken")
    return n

@pipeline
def chatty(broken: bool = False) -> int:
    return count(shout(count.named("second")(count.named("first")(1)), broken))
"""


class Shell:
    """A folder, and commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self.environment = {**kept, "NO_COLOR": "1", "TERM": "dumb"}
        self.children: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "penstock", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.children.append(child)
        return child

    def __call__(self, *words: str) -> tuple[int, str, str]:
        child = self.start(*words)
        out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def json(self, *words: str) -> Any:
        code, out, err = self(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    def wait_for(self, name: str) -> None:
        _until(lambda: (self.folder / name).exists(), f"the file {name}")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    for name, text in {"hello": HELLO, "held": HOLDING, "failing": FAILING, "gated": GATED}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "penstock.toml").write_text("workers = 2\n")
    made = Shell(tmp_path)
    yield made
    for child in made.children:
        if child.poll() is None:
            child.kill()
        child.communicate()


def _until(true: Any, what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        os.sched_yield()


def test_stdout_is_the_users_and_facts_are_plain_lines_on_stderr(shell: Shell) -> None:
    code, out, err = shell("run", "hello.py")
    assert code == 0
    assert sorted(out.splitlines()) == ["from a child", "three rows"]
    assert "\x1b" not in err
    lines = err.splitlines()
    assert lines[0].startswith("run sums-")
    assert lines[0].endswith(": sums, 2 steps")
    assert [line.split()[1] for line in lines[1:5]] == ["extract", "extract", "train", "train"]
    assert "succeeded in" in lines[5]
    assert lines[6:] == ["  output: 6", f"  next: penstock show {lines[0].split()[1].rstrip(':')}"]


def test_a_second_run_says_what_the_cache_saved_and_no_cache_runs_again(shell: Shell) -> None:
    shell("run", "hello.py")
    assert ": 2 cached" in shell("run", "hello.py")[2]
    assert ": 2 succeeded" in shell("run", "hello.py", "--no-cache")[2]
    assert ": 1 succeeded, 1 cached" in shell("run", "hello.py", "--from", "train")[2]
    assert shell("run", "hello.py", "--quiet")[2] == ""


def test_json_is_one_object_per_line_whatever_a_step_prints(shell: Shell) -> None:
    code, out, err = shell("run", "hello.py", "--json")
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == [
        "run", "text", "attempt_started", "step_succeeded", "attempt_started", "step_succeeded", "run_finished",
        "summary",
    ] or [event["type"] for event in events if event["type"] != "text"] == [
        "run", "attempt_started", "step_succeeded", "attempt_started", "step_succeeded", "run_finished", "summary",
    ]  # fmt: skip
    assert events[-1]["counts"] == {"succeeded": 2}
    assert events[-1]["output"] == "6"
    assert [event["text"] for event in events if event["type"] == "text"] == ["three rows\n"]


def test_a_run_is_found_by_last_prefix_suffix_and_filters(shell: Shell) -> None:
    shell("run", "hello.py", "--tag", "team=growth", "--name", "first")
    shell("run", "gated.py")
    newest, first = shell.json("ls")
    assert (newest["pipeline"], first["pipeline"]) == ("gated", "sums")
    assert [run["run"] for run in shell.json("ls", "--tag", "team=growth")] == [first["run"]]
    assert [run["run"] for run in shell.json("ls", "--pipeline", "gated", "--limit", "1")] == [newest["run"]]
    assert shell.json("ls", "--state", "failed") == []
    assert shell.json("show")["run"] == newest["run"]
    assert shell.json("show", "sums")["run"] == shell.json("show", first["run"][-4:])["run"] == first["run"]
    code, out, _ = shell("show", "sums")
    assert code == 0
    assert "first" in out
    assert "team=growth" in out
    assert shell("logs", "sums", "extract")[1].splitlines() == ["── extract", "three rows"]
    assert shell("logs", "sums", "train")[1] == f"step 'train' of run {first['run']} printed nothing\n"


def test_a_failure_names_the_users_line_and_what_to_do_next(shell: Shell) -> None:
    code, _, err = shell("run", "failing.py")
    assert code == 1
    assert "load attempt 1 of 2 failed: ValueError" in err
    assert "load failed on attempt 2: ValueError: invalid literal for int() with base 10: 'twelve'" in err
    assert "at failing.py:5" in err
    run = shell.json("ls")[0]
    assert run["counts"] == {"succeeded": 1, "failed": 1, "upstream_failed": 1}
    assert f"next: penstock resume {run['run']}" in err
    page = shell("show")[1]
    assert 'failing.py", line 5, in parse' in page
    assert "site-packages" not in page
    why = "(ValueError: invalid literal for int() with base 10: 'twelve')"
    assert shell("logs", "last", "load", "--attempt", "2")[1].splitlines() == [f"── load attempt 2 {why}", "trying"]

    (shell.folder / "failing.py").write_text(FAILING.replace('"twelve"', '"12"'))
    code, _, err = shell("resume", "last")
    assert code == 0, err
    assert "ran with changed code: failing.py:load" in err
    assert ": 2 succeeded, 1 finished before" in err
    assert "other" not in err  # it had succeeded
    assert shell.json("show", "last", "load")[0]["attempts"] == 3


def test_a_refusing_gate_says_why_and_ends_with_3_where_asked(shell: Shell) -> None:
    code, _, err = shell("run", "gated.py")
    assert code == 0
    assert "judge refused: auc 0.7 is below the minimum 0.8" in err
    assert shell("run", "gated.py", "--fail-on-gate")[0] == 3
    assert shell("run", "gated.py", "--fail-on-gate", "--auc", "0.9")[0] == 0


def test_ctrl_c_once_stops_cleanly_and_resume_goes_on(shell: Shell) -> None:
    child = shell.start("run", "held.py")
    shell.wait_for("holding")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "stopping cleanly; press again to stop at once" in err
    run = shell.json("ls")[0]
    assert run["state"] == "cancelled"
    assert f"penstock resume {run['run']}" in err

    (shell.folder / "go").touch()
    code, _, err = shell("resume", run["run"])
    assert code == 0, err
    assert "output: 2" in err
    assert (shell.folder / "before.txt").read_text() == "ran\n"


def test_ctrl_c_twice_stops_at_once(shell: Shell) -> None:
    child = shell.start("run", "held.py", "--stubborn")
    shell.wait_for("holding")
    child.send_signal(signal.SIGINT)
    shell.wait_for("interrupted")
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    run = shell.json("ls")[0]
    assert run["state"] == "interrupted"
    assert f"stopped at once; penstock resume {run['run']}" in err


def test_a_killed_run_is_interrupted_cannot_be_cancelled_and_can_be_resumed(shell: Shell) -> None:
    child = shell.start("run", "held.py")
    shell.wait_for("holding")
    assert shell.json("ls")[0]["state"] == "running"
    child.kill()
    child.communicate()
    run = shell.json("ls", "--state", "interrupted")[0]
    code, out, _ = shell("cancel", "last")
    assert code == 1
    assert "is not running: its process on" in out
    assert f"penstock resume {run['run']} finishes it" in out

    (shell.folder / "go").touch()
    assert shell("resume", "last")[0] == 0
    assert shell.json("ls")[0]["state"] == "succeeded"
    assert (shell.folder / "before.txt").read_text() == "ran\n"


def test_cancel_from_another_terminal_stops_a_run(shell: Shell) -> None:
    child = shell.start("run", "held.py")
    shell.wait_for("holding")
    code, out, _ = shell("cancel", "last")
    assert code == 0
    assert "is asked to stop" in out
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert shell.json("ls")[0]["state"] == "cancelled"
    assert shell("cancel", "last")[1].endswith("is over already: it was cancelled\n")


def test_logs_follow_until_the_run_ends(shell: Shell) -> None:
    running = shell.start("run", "held.py")
    shell.wait_for("holding")
    following = shell.start("logs", "last", "--follow")
    (shell.folder / "go").touch()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    out, _ = following.communicate(timeout=30)
    assert "── hold\nholding\n" in out


def test_one_process_per_step_gives_the_same_digests(shell: Shell) -> None:
    shell("run", "hello.py", "--no-cache")
    inside = [step["outputs"] for step in shell.json("show")["steps"]]
    code, out, err = shell("run", "hello.py", "--no-cache", "--one-process-per-step", "--json")
    assert code == 0, err
    assert {json.loads(line)["type"] for line in out.splitlines()} >= {"run", "step_succeeded", "summary"}
    assert [step["outputs"] for step in shell.json("show")["steps"]] == inside


def test_an_idempotency_key_gives_the_run_that_has_it(shell: Shell) -> None:
    assert shell("run", "hello.py", "--idempotency-key", "k1")[0] == 0
    assert shell("run", "hello.py", "--idempotency-key", "k1")[0] == 0
    assert len(shell.json("ls")) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [("p.yaml", "auc: 0.9\n"), ("p.toml", "auc = 0.9\n"), ("p.json", '{"auc": 0.9}')],
)
def test_parameters_come_from_a_file_and_flags_win(shell: Shell, name: str, text: str) -> None:
    (shell.folder / name).write_text(text)
    assert shell("run", "gated.py", "--params", name)[0] == 0
    assert shell.json("show")["parameters"] == {"auc": 0.9}
    assert shell("run", "gated.py", "--params", name, "--auc", "0.5")[0] == 0
    assert shell.json("show")["parameters"] == {"auc": 0.5}


def test_a_reader_that_leaves_early_is_no_error(shell: Shell) -> None:
    shell("run", "hello.py")
    child = shell.start("ls")
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (0, "")


def _left_early(shell: Shell, words: str, lines: int = 1) -> tuple[int, str]:
    """The exit code of a command whose reader leaves after some lines, and what came through."""
    script = f"{sys.executable} -m penstock {words} 2>&1 | head -{lines}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=shell.folder, env=shell.environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("how", ["--workers 1", "--workers 2", "--workers 1 --json", "--one-process-per-step"])
def test_a_run_whose_reader_leaves_goes_on_to_its_own_end(shell: Shell, how: str) -> None:
    (shell.folder / "chatty.py").write_text(CHATTY)
    code, out = _left_early(shell, f"run chatty.py {how}")
    assert code == 0
    assert len(out.splitlines()) == 1
    run = shell.json("ls")[0]
    assert (run["state"], run["counts"]) == ("succeeded", {"succeeded": 4})
    assert shell("logs", "last", "shout")[1].count("a long line") >= 5000
    code, _ = _left_early(shell, f"run chatty.py {how} --broken")
    assert code == 1
    assert shell.json("ls")[0]["state"] == "failed"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_run_without_any_output_is_a_run(shell: Shell, closed: str) -> None:
    script = f"exec {sys.executable} -m penstock run hello.py --workers 1 {closed}"
    assert subprocess.run(["bash", "-c", script], cwd=shell.folder, env=shell.environment, check=False).returncode == 0
    assert shell.json("ls")[0]["state"] == "succeeded"
    assert "three rows" in shell("logs", "last", "extract")[1]


def test_an_error_that_nobody_hears_keeps_its_exit_code(shell: Shell) -> None:
    child = shell.start("show", "nothing")
    assert child.stderr is not None
    child.stderr.close()
    child.stderr = None
    child.communicate(timeout=30)
    assert child.returncode == 4


def test_a_port_in_use_is_told_and_ends_with_5(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = shell("serve", "churn@champion", "--port", port)
    assert (code, "error[serving]: cannot listen on 127.0.0.1" in err) == (5, True)


def test_init_makes_a_project_that_runs_at_once_and_overwrites_nothing(shell: Shell) -> None:
    code, out, _ = shell("init", "mything")
    assert code == 0
    made = Shell(shell.folder / "mything")
    assert len(list(made.folder.iterdir())) <= 5
    code, out, err = made("run", "pipeline.py")
    assert code == 0, err
    assert "explains the readings" in out
    tests = subprocess.run([sys.executable, "test_pipeline.py"], cwd=made.folder, check=False)
    assert tests.returncode == 0
    code, _, err = shell("init", "mything")
    assert code == 2
    assert "nothing is overwritten" in err


def test_help_after_the_file_lists_the_pipelines_own_flags(shell: Shell) -> None:
    code, out, _ = shell("run", "held.py", "--help")
    assert code == 0
    assert "--stubborn, --no-stubborn  default: False" in out
