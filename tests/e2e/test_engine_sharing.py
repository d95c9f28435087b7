"""Secrets, the cache, several processes on one store, one process per step."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from penstock.core.errors import ArtifactError
from penstock.core.ids import run_id as make_run_id
from penstock.engine.single import StepExit
from penstock.ports.records import RunRecord
from penstock.wiring.manifest import write_manifest

from .engine_lab import Lab, finish, last_json, states, wait_for

SECRET = "s3cr&t/väl ue"


@pytest.mark.parametrize("how", ["inline", "workers", "processes"])
def test_a_secrets_value_is_nowhere_in_the_store_though_the_step_got_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("LAB_TOKEN", SECRET)
    lab.write("""
import urllib.parse

@step(cache=False)
def leaky(token: str) -> int:
    context().observe("url", "https://x/?key=" + urllib.parse.quote_plus(token), token)
    context().note = f"with {token}"
    context().logger.warning("logged %s", token)
    print("printed", token); print(repr(token)); print(token[:5], end=""); print(token[5:])
    subprocess.run(["echo", token])
    return len(token)

@step(isolation="process")
def failing(token: str) -> int:
    print("x" * 8190 + token)
    raise ValueError(f"bad {token}") from KeyError(token)

@pipeline
def main(token: str = Secret("LAB_TOKEN")) -> int:
    failing(token)
    return leaky(token)
""")
    options = {"inline": {"workers": 1}, "workers": {"workers": 2}, "processes": {"one_process_per_step": True}}[how]
    run = lab.run(**options)
    assert run.output == len(SECRET)
    assert "•••" in run.step("failing").failure.message
    assert "printed •••\n" in lab.text(run.id, "leaky")
    store = lab.project().store
    store.close()
    import urllib.parse

    forms = {SECRET, urllib.parse.quote_plus(SECRET), urllib.parse.quote(SECRET), SECRET[:7], SECRET[5:]}
    for file in (lab.root / ".penstock").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for form in forms:
                assert form.encode() not in content, (file, form)


@pytest.mark.parametrize("kind", ["inline", "thread", "async", "worker"])
def test_a_secrets_value_is_not_on_the_terminal_either(lab: Lab, kind: str) -> None:
    head = {
        "inline": "@step\n",
        "thread": '@step(isolation="thread")\n',
        "async": "@step\nasync ",
        "worker": "@step\n",
    }[kind]
    lab.write(f"""
{head}def leaky(token: str) -> int:
    for stream in (sys.stdout, sys.stderr):
        print("printed", token, file=stream)
        print(repr(token), file=stream)
        print(token[:5], end="", file=stream, flush=True); print(token[5:], file=stream)
        print("no newline", token, end="", file=stream)
    thread = threading.Thread(target=print, args=(f"from a thread {{token}}",))
    thread.start(); thread.join()
    context().progress(1, 2, f"at {{token}}")
    context().logger.warning("logged %s", token)
    return len(token)

@step
def beside() -> int:
    print("beside")
    return 1

@pipeline
def main(token: str = Secret("LAB_TOKEN")) -> list[int]:
    return [leaky(token), beside()]
""")
    workers = "1" if kind == "inline" else "2"
    words = [sys.executable, "-m", "penstock", "run", str(lab.file), "--workers", workers]
    environment = {**os.environ, "LAB_TOKEN": SECRET, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(words, cwd=lab.root, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    import urllib.parse

    for form in {SECRET, urllib.parse.quote_plus(SECRET), SECRET[:7], SECRET[5:]}:
        assert form not in done.stdout
        assert form not in done.stderr
    assert "printed •••\n" in done.stdout
    assert "no newline •••" in done.stdout
    if kind != "worker":  # whose two streams are one
        assert "printed •••\n" in done.stderr
    assert "beside\n" in done.stdout


def test_what_a_step_prints_is_shown_line_by_line_though_it_has_a_secret(lab: Lab) -> None:
    lab.write("""
@step
def slow(token: str) -> int:
    print("first line")
    sys.stdout.flush()
    await_file("seen")
    return 1

@pipeline
def main(token: str = Secret("LAB_TOKEN")) -> int:
    return slow(token)
""")
    words = [sys.executable, "-m", "penstock", "run", str(lab.file), "--workers", "1", "--quiet"]
    with subprocess.Popen(
        words, cwd=lab.root, env={**os.environ, "LAB_TOKEN": SECRET}, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "first line\n"
        (lab.root / "seen").touch()
        assert child.wait(timeout=60) == 0


CHAIN = """
def helper(x: int) -> int:
    return x + {plus}

@step
def first(n: int) -> int:
    mark("first")
    return n

@step
def second(x: int) -> int:
    mark("second")
    return helper(x) {extra}

@step
def third(x: int) -> int:
    mark("third")
    return x

@step(cache=False)
def always() -> int:
    mark("always")
    return 0

@step(env=("LAB_SETTING",))
def surroundings() -> str:
    mark("surroundings")
    return os.environ.get("LAB_SETTING", "")

@pipeline
def main(n: int = 1) -> list:
    return [third(second(first(n))), always(), surroundings()]

if __name__ == "__main__":
    main.using(echo=False).run()
"""


def ran_by(lab: Lab) -> list[str]:
    (lab.root / "ran.txt").unlink(missing_ok=True)
    code, _, err = finish(lab.start_file())
    assert code == 0, err
    return sorted(lab.ran())


def test_only_what_a_change_reaches_runs_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write(CHAIN.format(plus=1, extra=""))
    assert ran_by(lab) == ["always", "first", "second", "surroundings", "third"]
    assert ran_by(lab) == ["always"]
    lab.write(CHAIN.format(plus=2, extra=""))
    assert ran_by(lab) == ["always", "second", "third"]
    lab.write(CHAIN.format(plus=2, extra="+ 0"))
    assert ran_by(lab) == ["always", "second"], "an output that is the same stops the change there"
    monkeypatch.setenv("LAB_SETTING", "other")
    assert ran_by(lab) == ["always", "surroundings"]


def test_a_damaged_artifact_is_a_miss_when_gone_and_a_clear_error_when_read(lab: Lab) -> None:
    lab.write("""
@step
def big(n: int) -> bytes:
    mark("big")
    return b"x" * n

@pipeline
def main() -> bytes:
    return big(1_000_000)
""")
    run = lab.run()
    assert len(run.output) == 1_000_000
    (blob,) = [
        f for f in (lab.root / ".penstock" / "artifacts").rglob("*") if f.is_file() and f.stat().st_size == 1_000_000
    ]
    blob.chmod(0o644)
    blob.write_bytes(b"y" * 1_000_000)
    with pytest.raises(ArtifactError):
        lab.run().output  # noqa: B018 - reading is what fails
    blob.unlink(missing_ok=True)
    assert lab.run(workers=1).output == b"x" * 1_000_000
    assert lab.ran() == ["big", "big"]


def test_an_effect_says_that_it_is_already_done(lab: Lab) -> None:
    lab.write("""
@step(effect="exactly-once")
def publish() -> int:
    mark("publish")
    context().note = "published as 7"
    return 7

@pipeline
def main() -> int:
    return publish()
""")
    lab.run()
    again = lab.run()
    assert (again.step("publish").state.value, again.step("publish").note) == ("cached", "already done: published as 7")
    assert lab.ran() == ["publish"]


@pytest.mark.parametrize("options", ["workers=1", "workers=2", "one_process_per_step=True"])
def test_several_processes_on_one_store_compute_each_key_once(lab: Lab, options: str) -> None:
    lab.write("""
@step
def slow(n: int) -> int:
    mark(n)
    arrive(f"began-{n}")
    threading.Event().wait(0.3)
    return n

@step
def total(xs: list[int]) -> int:
    mark("total")
    return sum(xs)

@pipeline
def main() -> int:
    return total(slow.map(n=[1, 2, 2, 3]))
""")
    code = f"print(json.dumps(lab.main.using({options}, echo=False).run().output))"
    processes = [lab.start(code) for _ in range(4)]
    for process in processes:
        status, out, err = finish(process)
        assert status == 0, err
        assert last_json(out) == 8
    assert sorted(lab.ran()) == ["1", "2", "3", "total"]


def test_a_killed_step_process_is_retried_as_its_policy_says(lab: Lab) -> None:
    lab.write("""
@step(retry=Retry(3, base="10ms", on="killed"))
def mortal() -> int:
    mark(context().attempt)
    if context().attempt < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return context().attempt

@step
def doomed() -> int:
    os._exit(7)

@step(timeout="500ms", retry=Retry(2, base=0))
def slow() -> int:
    if context().attempt == 1:
        threading.Event().wait(600)
    return context().attempt

@step
def after(x: int) -> int:
    return x

@pipeline
def main() -> int:
    after(doomed())
    return [mortal(), slow()]
""")
    run = lab.run(one_process_per_step=True)
    assert run.output == [3, 2]
    assert states(run) == {"mortal": "succeeded", "slow": "succeeded", "doomed": "failed", "after": "upstream_failed"}
    assert (run.step("doomed").failure.kind.value, run.step("doomed").attempts) == ("killed", 1)
    assert "exit code 7" in run.step("doomed").failure.message
    states_of_attempts = [each.state for each in lab.project().store.attempts(run.id, "mortal")]
    assert states_of_attempts == ["failed", "failed", "succeeded"]


def test_environment_comes_from_here(lab: Lab) -> None:
    """A worker sees the directory and the environment of whoever started the run."""
    lab.write("""
@step(isolation="process")
def where() -> str:
    return os.getcwd()

@pipeline
def main() -> str:
    return where()
""")
    assert lab.run().output == os.getcwd()


class Outside:
    """A run that another engine orders: nobody here owns it, and each step is a call of `exec-step`."""

    def __init__(self, lab: Lab) -> None:
        self._lab, project = lab, lab.project()
        graph = lab.load().main.trace({}).graph
        now = project.clock.now_us()
        wanted = RunRecord(
            id=make_run_id("main", now), pipeline="main", project="lab", manifest="", parameters={}, created_at=now,
            host=os.uname().nodename, pid=os.getpid(), options={"cache": True},
        )  # fmt: skip
        self.store = project.store
        self.run = self.store.create(wanted, graph.to_json(), now).id
        self._manifest = write_manifest(project.settings, graph, lab.root / "manifest.json")

    def start(self, step: str) -> subprocess.Popen[str]:
        """`exec-step`, in a process that shows by a file that it waits for a twin of its step."""
        words = ["exec-step", "--manifest", str(self._manifest), "--run", self.run, "--step", step]
        return self._lab.start(f"""
from penstock.cli import main
from penstock.engine import single

look = single._has_twin_at_work

def shown(*given):
    found = look(*given)
    if found:
        lab.arrive("waits")
    return found

single._has_twin_at_work = shown
sys.exit(main({words!r}))
""")

    def states(self) -> dict[str, str]:
        return {each.step: each.state.value for each in self.store.step_runs(self.run)}


def ended(process: subprocess.Popen[str]) -> int:
    return finish(process)[0]


TWINS = """
@step({options})
def slow(n: int) -> int:
    mark("slow"); arrive("there")
    await_file("go", 600)
    return n + len(os.environ.get("LAB_NOTHING", ""))

@pipeline
def main() -> list[int]:
    return [slow(1), slow(1)]
"""
KEPT = pytest.mark.parametrize("kept", [True, False], ids=["kept", "nothing-kept"])


def two_twins(lab: Lab, kept: bool) -> tuple[Outside, subprocess.Popen[str], subprocess.Popen[str]]:
    """One works, the other one waits for it."""
    outside = Outside(lab.write(TWINS.format(options="cache_despite='environment'" if kept else "")))
    first = outside.start("slow")
    wait_for(lambda: (lab.root / "there").exists())
    twin = outside.start("slow_2")
    wait_for(lambda: (lab.root / "waits").exists(), "it does not wait")
    return outside, first, twin


@KEPT
def test_a_step_process_waits_for_a_twin_of_its_run_once(lab: Lab, kept: bool) -> None:
    outside, first, twin = two_twins(lab, kept)
    assert lab.ran() == ["slow"]
    (lab.root / "go").touch()
    assert (ended(first), ended(twin)) == (StepExit.DONE, StepExit.DONE)
    assert outside.states() == {"slow": "succeeded", "slow_2": "cached" if kept else "succeeded"}


@KEPT
def test_a_step_process_that_was_killed_keeps_no_twin_of_its_run_waiting(lab: Lab, kept: bool) -> None:
    """Its attempt counts as running until somebody calls that step again, which another engine may never do."""
    outside, first, twin = two_twins(lab, kept)
    first.kill()
    ended(first)
    (lab.root / "go").touch()
    assert ended(twin) == StepExit.DONE
    assert outside.states() == {"slow": "running", "slow_2": "succeeded"}
    late = outside.start("slow")
    assert ended(late) == StepExit.DONE
    assert outside.states() == {"slow": "cached" if kept else "succeeded", "slow_2": "succeeded"}
