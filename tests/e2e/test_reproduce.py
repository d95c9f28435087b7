"""`penstock reproduce` with real processes: planted causes are found, and nothing but the reproduction is written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "OMP_", "PYTHONHASH"))}

SUMS = """
from helper import shift
from penstock import pipeline, step

@step
def extract() -> list[int]:
    return [1, 2, 3]

@step
def train(data: list[int]) -> int:
    return sum(shift(each) for each in data)

@pipeline
def sums() -> int:
    return train(extract())
"""
GLOBAL_RANDOM = """
import random
from penstock import pipeline, step

@step
def clean() -> list[float]:
    return [1.0, 2.0]

@step
def noise(data: list[float]) -> list[float]:
    return [each + random.random() for each in data]

@step
def total(data: list[float]) -> float:
    return sum(data)

@pipeline
def flow() -> float:
    return total(noise(clean()))
"""
# The sum of floats depends on how they are grouped, and threads group them.
THREADED = """
import os
from concurrent.futures import ThreadPoolExecutor
from penstock import pipeline, step

@step
def numbers() -> list[float]:
    return [0.1 * each for each in range(997)]

@step(cache_despite="environment")
def total(data: list[float]) -> float:
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    parts = [data[at::threads] for at in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(sum, parts))

@pipeline
def flow() -> float:
    return total(numbers())
"""
SET_ORDER = """
from penstock import pipeline, step

@step
def names() -> list[str]:
    return list({f"column_{each}" for each in range(40)})

@pipeline
def flow() -> list[str]:
    return names()
"""
READS = """
import pandas as pd
from penstock import pipeline, read, step

@step
def load() -> pd.DataFrame:
    return read("orders.csv")

@step
def revenue(orders: pd.DataFrame) -> float:
    return float(orders.amount.sum())

@pipeline
def flow() -> float:
    return revenue(load())
"""
EFFECT = """
from penstock import pipeline, step

@step
def fit() -> int:
    return 3

@step(effect="at-least-once")
def announce(model: int) -> str:
    with open("outside.txt", "a") as file:
        file.write("told\\n")
    return f"model {model}"

@step
def note(told: str) -> str:
    return told.upper()

@pipeline
def flow() -> str:
    return note(announce(fit()))
"""
MAPPED = """
import random
from penstock import pipeline, step

@step
def depths() -> list[int]:
    return [1, 2, 3]

@step
def fit(depth: int) -> float:
    return depth + (random.random() if depth == 2 else 0.0)

@step
def best(models: list[float]) -> float:
    return max(models)

@pipeline
def flow() -> float:
    return best(fit.map(depth=depths()))
"""


class Shell:
    """A project's folder, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = sys.executable
        self.environ: dict[str, str] = {**CLEAN, "NO_COLOR": "1", "PYTHONPATH": str(SOURCE)}

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / f"{name.replace('__', '.')}").write_text(text)

    def penstock(self, *words: str, code: int = 0, environ: Mapping[str, str] = {}) -> str:
        done = subprocess.run(
            [self.python, "-m", "penstock", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={**self.environ, **environ},
            timeout=240,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def run(self, file: str = "flow.py", code: int = 0, environ: Mapping[str, str] = {}) -> None:
        self.penstock("run", file, "--quiet", "--no-cache", "--workers", "1", code=code, environ=environ)

    def reproduce(self, *words: str, code: int = 0, environ: Mapping[str, str] = {}) -> Any:
        return json.loads(self.penstock("reproduce", "last", *words, "--json", code=code, environ=environ))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def verdicts(found: Any) -> dict[str, str]:
    return {f"{each['step']}[{each['index']}]".removesuffix("[]"): each["verdict"] for each in found["steps"]}


def cause(found: Any) -> tuple[str, str]:
    return found["causes"][0]["kind"], found["causes"][0]["sure"]


def test_the_recorded_code_runs_again_whatever_the_files_are_now(shell: Shell) -> None:
    shell.write(flow__py=SUMS, helper__py="def shift(x):\n    return x + 1\n")
    shell.run()
    shell.write(flow__py="raise SystemExit('not any more')\n", helper__py="def shift(x):\n    return 7\n")
    found = shell.reproduce("--here")
    assert found["verdict"] == "identical"
    assert verdicts(found) == {"extract": "identical", "train": "identical"}
    assert found["causes"] == []


def test_what_the_commit_held_is_there_again_and_what_was_not_committed_comes_from_the_record(shell: Shell) -> None:
    def git(*words: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *words], cwd=shell.folder, check=True, capture_output=True)

    shell.write(flow__py=SUMS, helper__py="from pathlib import Path\n\ndef shift(x):\n    return x\n", shift__txt="5")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    uncommitted = "from pathlib import Path\n\ndef shift(x):\n    return x + int(Path('shift.txt').read_text())\n"
    shell.write(helper__py=uncommitted)
    shell.run()
    shell.write(shift__txt="6")
    git("commit", "-q", "-a", "-m", "second")
    assert shell.reproduce("--here")["verdict"] == "identical"


def test_unseeded_randomness_is_found_in_the_first_step_that_has_it(shell: Shell) -> None:
    shell.write(flow__py=GLOBAL_RANDOM)
    shell.run()
    found = shell.reproduce("--here", code=6)
    assert verdicts(found) == {"clean": "identical", "noise": "different", "total": "different"}
    assert (found["first_different"], cause(found)) == ("noise", ("seed", "proven"))
    assert found["steps"][2]["because"] == ["noise"]
    shell.write(flow__py=GLOBAL_RANDOM.replace("random.random()", "random.Random().random()"))
    shell.run()
    assert cause(shell.reproduce("--here", code=6)) == ("seed", "likely")


def test_a_sum_that_depends_on_the_number_of_threads_is_equal_within_the_tolerance_and_told_beyond_it(
    shell: Shell,
) -> None:
    shell.write(flow__py=THREADED)
    shell.run(environ={"OMP_NUM_THREADS": "5"})
    now = {"OMP_NUM_THREADS": "2"}
    found = shell.reproduce("--here", environ=now)
    assert verdicts(found) == {"numbers": "identical", "total": "equal"}
    assert 0 < found["steps"][1]["agreement"]["max_rel"] < 1e-9
    found = shell.reproduce("--here", "--rtol", "0", environ=now, code=6)
    assert (found["first_different"], cause(found)) == ("total", ("threads", "proven"))
    assert "OMP_NUM_THREADS 5 → 2" in found["causes"][0]["text"]


def test_the_order_of_a_set_is_told_from_unseeded_randomness(shell: Shell) -> None:
    shell.write(flow__py=SET_ORDER)
    shell.run()
    assert cause(shell.reproduce("--here", code=6)) == ("hash order", "proven")
    shell.run(environ={"PYTHONHASHSEED": "1"})
    found = shell.reproduce("--here", environ={"PYTHONHASHSEED": "2"}, code=6)
    assert cause(found) == ("hash order", "proven")


def test_a_changed_file_is_named_as_the_cause_and_the_value_that_changed_is_shown(shell: Shell) -> None:
    shell.write(flow__py=READS, orders__csv="amount\n10.5\n20.0\n")
    shell.run()
    assert shell.reproduce("--here")["verdict"] == "identical"
    shell.write(orders__csv="amount\n10.5\n21.0\n")
    found = shell.reproduce("--here", code=6)
    assert (found["first_different"], cause(found)) == ("load", ("data", "proven"))
    assert found["causes"][0]["text"] == "source file orders.csv changed"
    assert found["steps"][0]["text"] == "column 'amount', row 1: 20 → 21"


def test_a_step_from_the_cache_is_held_to_what_the_run_that_made_it_recorded(shell: Shell) -> None:
    shell.write(flow__py=THREADED)
    shell.run(environ={"OMP_NUM_THREADS": "5"})
    shell.penstock("run", "flow.py", "--quiet", environ={"OMP_NUM_THREADS": "2"})
    found = shell.reproduce("--here", "--rtol", "0", environ={"OMP_NUM_THREADS": "2"}, code=6)
    assert cause(found) == ("threads", "proven")
    assert "OMP_NUM_THREADS 5 → 2" in found["causes"][0]["text"]


def test_one_element_of_a_map_is_found_and_tried_alone(shell: Shell) -> None:
    shell.write(flow__py=MAPPED)
    shell.run()
    found = shell.reproduce("--here", code=6)
    assert (found["first_different"], cause(found)) == ("fit[1]", ("seed", "proven"))
    assert verdicts(found)["fit[0]"] == verdicts(found)["fit[2]"] == "identical"


def test_a_run_that_failed_fails_again_in_the_same_way(shell: Shell) -> None:
    shell.write(flow__py=SUMS, helper__py="def shift(x):\n    raise ValueError('no')\n")
    shell.run(code=1)
    found = shell.reproduce("--here")
    assert verdicts(found) == {"extract": "identical", "train": "identical"}


def test_an_effect_is_not_made_again_and_the_run_and_its_cache_are_left_alone(shell: Shell) -> None:
    shell.write(flow__py=EFFECT)
    shell.run()
    with sqlite3.connect(shell.folder / ".penstock" / "runs.db") as log:
        before = "\n".join(log.iterdump())
    found = shell.reproduce("--here")
    assert verdicts(found) == {"fit": "identical", "announce": "unknown", "note": "identical"}
    assert (shell.folder / "outside.txt").read_text() == "told\n"
    with sqlite3.connect(shell.folder / ".penstock" / "runs.db") as log:
        assert "\n".join(log.iterdump()) == before
    log.close()
    inside = shell.penstock("ls", "--json", environ={"PENSTOCK_HOME": found["store"]})
    assert [run["tags"]["reproduces"] for run in json.loads(inside)] == [found["run"]]


HELD = """
import os
import threading
from pathlib import Path
from penstock import pipeline, step

@step
def before() -> int:
    with open(os.environ["COUNT"], "a") as file:
        file.write("ran\\n")
    return 1

@step
def hold(x: int) -> int:
    if "HELD" in os.environ:
        Path(os.environ["HELD"]).touch()
        threading.Event().wait(100)
    return x + 1

@pipeline
def held() -> int:
    return hold(before())
"""


def reproduce_and_stop(shell: Shell) -> None:
    """Begin a reproduction of HELD, and stop it while its second step runs."""
    held = shell.folder / "held"
    command = [shell.python, "-m", "penstock", "reproduce", "last", "--here"]
    child = subprocess.Popen(
        command, cwd=shell.folder, env={**shell.environ, "HELD": str(held)}, stderr=subprocess.DEVNULL
    )
    while not held.exists():
        assert child.poll() is None
        os.sched_yield()
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 130


def test_a_reproduction_that_was_stopped_goes_on_where_it_was(shell: Shell) -> None:
    shell.write(flow__py=HELD)
    count = shell.folder / "count"
    shell.environ["COUNT"] = str(count)
    shell.run()
    reproduce_and_stop(shell)
    assert shell.reproduce("--here")["verdict"] == "identical"
    assert count.read_text() == "ran\nran\n"  # the run, and the reproduction that was stopped


# What a step may do to files by relative names: each of these went through to the user's own.
RUTHLESS = """
import os
import shutil
from pathlib import Path
from penstock import pipeline, step

@step
def train() -> str:
    out = Path("out")
    out.mkdir(exist_ok=True)
    for each in out.glob("*.*"):
        each.unlink()
    (out / "model.txt").write_text("again")
    with open("log.txt", "a") as file:
        file.write("again")
    os.rename("notes.md", "moved.md")
    shutil.rmtree("raw")
    Path("away/deep.txt").write_text("again")
    Path("inner/model.txt").write_text("again")
    Path(__file__).with_name("beside.txt").write_text("again")
    os.chmod("mode.txt", 0o600)
    return "trained"

@pipeline
def flow() -> str:
    return train()
"""


def ruthless(shell: Shell, outside: Path) -> None:
    """What the user has now: none of it in git or in the record."""
    shell.write(flow__py=RUTHLESS, log__txt="mine", notes__md="mine", beside__txt="mine", mode__txt="mine")
    (shell.folder / "mode.txt").chmod(0o644)
    shutil.rmtree(shell.folder / "out", ignore_errors=True)
    (shell.folder / "out" / "sub").mkdir(parents=True)
    (shell.folder / "out" / "champion.bin").write_bytes(b"the champion")
    (shell.folder / "out" / "model.txt").write_text("mine")
    (shell.folder / "out" / "sub" / "deep").write_text("mine")
    (shell.folder / "raw").mkdir(exist_ok=True)
    (shell.folder / "raw" / "orders.csv").write_text("mine")
    outside.mkdir(exist_ok=True)
    (outside / "deep.txt").write_text("mine")
    for name, to in (("away", outside), ("inner", "out"), ("loop", "."), ("broken", "nowhere")):
        (shell.folder / name).unlink(missing_ok=True)
        (shell.folder / name).symlink_to(to)


def every_file(*folders: Path) -> dict[str, tuple[int, int, bytes]]:
    """Path, mode, time and bytes of all of the user's files, and all folders and links."""
    found: dict[str, tuple[int, int, bytes]] = {}
    for folder in folders:
        for above, names, files in os.walk(folder):
            names[:] = [name for name in names if name not in (".penstock", "__pycache__")]
            for name in [*names, *files]:
                path = Path(above, name)
                about = path.lstat()
                link = os.readlink(path).encode() if path.is_symlink() else b""
                content = link or (path.read_bytes() if path.is_file() else b"folder")
                found[str(path)] = (about.st_mode, 0 if link else about.st_mtime_ns, content)
    return found


@pytest.mark.parametrize("command", ["reproduce", "verify"])
def test_what_steps_write_delete_and_rename_leaves_the_users_present_files_byte_for_byte(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "project").mkdir()
    shell, outside = Shell(tmp_path / "project"), tmp_path / "outside"
    ruthless(shell, outside)
    if command == "reproduce":
        shell.run()
        assert not (shell.folder / "out" / "champion.bin").exists()  # the step does what it says
        (shell.folder / "moved.md").unlink()
        ruthless(shell, outside)
    before = every_file(shell.folder, outside)
    if command == "reproduce":
        assert shell.reproduce("--here")["verdict"] == "identical"
        (copy,) = (shell.folder / ".penstock" / "reproductions").glob("*/code-here")
        assert (copy / "out" / "model.txt").read_text() == "again"
        assert (copy / "log.txt").read_text() == "mineagain"
        assert (copy / "moved.md").read_text() == "mine"
        assert [each.name for each in copy.glob("loop/*.md")] == ["moved.md"]
    else:  # a second run finds no notes.md to rename: that is for verify to find
        found = json.loads(shell.penstock("verify", "flow.py", "--no-search", "--json", code=6))
        assert [each["step"] for each in found["findings"]] == ["train"]
    assert every_file(shell.folder, outside) == before


def test_data_over_the_limit_is_refused_by_name_and_linked_only_where_the_user_says_so(shell: Shell) -> None:
    shell.write(flow__py=READS, orders__csv="amount\n10.5\n")
    shell.run()
    (shell.folder / "data" / "raw").mkdir(parents=True)
    (shell.folder / "data" / "raw" / "big.bin").write_bytes(b"0" * 300_000)
    (shell.folder / "data" / "small.bin").write_bytes(b"0" * 100)
    before = every_file(shell.folder)
    for command in (["reproduce", "last", "--here"], ["verify", "flow.py"]):
        told = json.loads(shell.penstock(*command, "--copy-limit", "200k", "--json", code=1))["error"]
        assert told["code"] == "not-reproducible"
        assert "data/raw/big.bin (293.0 KiB)" in told["problem"]
        assert "--link data/raw/big.bin" in told["hint"]
    found = shell.reproduce("--here", "--copy-limit", "200k", "--link", "data/raw")
    assert found["verdict"] == "identical"
    (copy,) = (shell.folder / ".penstock" / "reproductions").glob("*/code-here")
    assert (copy / "data" / "raw").readlink() == shell.folder / "data" / "raw"
    assert not (copy / "data").is_symlink()
    assert not (copy / "data" / "small.bin").is_symlink()
    told = json.loads(shell.penstock("reproduce", "last", "--here", "--link", "data/no", "--json", code=2))["error"]
    assert "--link data/no" in told["problem"]
    assert every_file(shell.folder) == before


FROM_ABOVE = """
from pathlib import Path
from penstock import pipeline, step

@step
def count() -> int:
    old = Path("count.txt")
    old.write_text(old.read_text() + "." if old.exists() else ".")
    return Path("project/data.txt").stat().st_size

@pipeline
def flow() -> int:
    return count()
"""


def test_a_run_that_was_started_outside_the_project_writes_nothing_there_when_it_is_reproduced(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    shell = Shell(tmp_path)
    (tmp_path / "project" / "penstock.toml").touch()
    (tmp_path / "project" / "data.txt").write_text("12345")
    (tmp_path / "project" / "flow.py").write_text(FROM_ABOVE)
    shell.run("project/flow.py")
    before = every_file(tmp_path)
    found = json.loads(shell.penstock("reproduce", "last", "--here", "--project", "project", "--json"))
    assert found["verdict"] == "identical"
    assert any("outside the project" in note for note in found["notes"])
    assert every_file(tmp_path) == before


LEFT_FOR_LATER = HELD.replace("    return 1\n", "    Path('between.txt').write_text('kept')\n    return 1\n").replace(
    "    return x + 1\n", "    return x + len(Path('between.txt').read_text())\n"
)


def test_what_a_finished_step_wrote_is_still_there_when_a_stopped_reproduction_goes_on(shell: Shell) -> None:
    shell.write(flow__py=LEFT_FOR_LATER)
    shell.environ["COUNT"] = str(shell.folder / "count")
    shell.run()
    (shell.folder / "between.txt").unlink()
    reproduce_and_stop(shell)
    assert shell.reproduce("--here")["verdict"] == "identical"
    assert not (shell.folder / "between.txt").exists()


def test_a_run_whose_code_was_not_kept_is_refused_with_the_reason(shell: Shell) -> None:
    shell.write(flow__py=GLOBAL_RANDOM)
    shell.run()
    with sqlite3.connect(shell.folder / ".penstock" / "runs.db") as log:
        log.execute("UPDATE run_records SET code = '{}'")
    log.close()
    told = json.loads(shell.penstock("reproduce", "last", "--here", "--json", code=1))
    assert told["error"]["code"] == "not-reproducible"
    assert "the run kept no files" in told["error"]["problem"]


def test_without_uv_it_says_how_to_get_it_and_what_needs_none(shell: Shell) -> None:
    shell.write(flow__py=GLOBAL_RANDOM)
    shell.run()
    if (Path(sys.executable).with_name("uv")).exists():
        pytest.skip("uv is installed beside this Python, where it is always found")
    told = json.loads(shell.penstock("reproduce", "last", "--json", code=1, environ={"PATH": "/nowhere"}))
    assert told["error"]["hint"].startswith("pip install uv")
    assert "--here" in told["error"]["hint"]


# -- the recorded environment ------------------------------------------------------------------------------------------

TOY = """
import toy
from penstock import pipeline, step

@step
def numbers() -> list[float]:
    return [1.0, 2.0]

@step
def scaled(data: list[float]) -> list[float]:
    return [toy.scale(each) for each in data]

@pipeline
def flow() -> list[float]:
    return scaled(numbers())
"""


def wheel(folder: Path, name: str, version: str, files: Mapping[str, bytes], tag: str = "py3-none-any") -> None:
    """A wheel, which is only a zip file with a certain name."""
    about = f"{name}-{version}.dist-info"
    every = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    every[f"{about}/RECORD"] = "".join(f"{each},,\n" for each in [*every, f"{about}/RECORD"]).encode()
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, content in every.items():
            archive.writestr(path, content)


def packed(folder: Path, name: str) -> None:
    """The wheel of a distribution that is installed here."""
    found = metadata.distribution(name)
    files = {
        str(each): Path(str(found.locate_file(each))).read_bytes()
        for each in found.files or ()
        if ".." not in each.parts and ".dist-info" not in each.parts[0] and each.suffix != ".pyc"
    }
    tags = [line.partition(": ")[2] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag")]
    pure = "py3-none-any" in tags
    wheel(folder, found.metadata["Name"].replace("-", "_"), found.version, files, "py3-none-any" if pure else tags[0])


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("uv") is None and importlib.util.find_spec("uv") is None,
    reason="capability missing: uv, which makes the recorded environment",
)
def test_another_version_of_a_package_is_the_cause_here_and_gone_in_the_recorded_environment(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    needs = ["msgspec", "blake3", "cloudpickle", "fsspec", "pyyaml"]
    for name in needs:
        packed(wheels, name)
    for version, factor in (("1.0", "2"), ("2.0", "3.5")):  # of different size: Python trusts bytecode by second, size
        wheel(wheels, "toy", version, {"toy.py": f"def scale(x):\n    return {factor} * x\n".encode()})
    (tmp_path / "project").mkdir()
    shell = Shell(tmp_path / "project")
    shell.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # uv is there
    shell.environ |= {"UV_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1", "UV_OFFLINE": "1"}
    shell.environ |= {"UV_CACHE_DIR": str(tmp_path / "uv-cache"), "UV_PYTHON_DOWNLOADS": "never"}
    venv = tmp_path / "venv"
    shell.python = str(venv / "bin" / "python")

    def uv(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "uv", *words], check=True, env=shell.environ, capture_output=True)

    uv("venv", "--python", sys.executable, str(venv))
    uv("pip", "install", "--python", shell.python, "--no-deps", *needs, "toy==1.0")
    shell.write(flow__py=TOY)
    shell.run()
    uv("pip", "install", "--python", shell.python, "--no-deps", "toy==2.0")

    there = shell.reproduce()
    assert there["verdict"] == "identical"
    assert there["environment"]["recorded"] is True
    lock = next((shell.folder / ".penstock" / "environments").glob("*/penstock-lock.txt")).read_text()
    assert "toy==1.0\n" in lock
    assert str(wheels) not in lock

    here = shell.reproduce("--here", code=6)
    assert (here["first_different"], cause(here)) == ("scaled", ("package", "likely"))
    assert "toy: 1.0 → 2.0" in here["causes"][0]["text"]
    assert "without --here" in here["causes"][0]["fix"]

    shutil.rmtree(wheels)  # the environment is there already: nothing is asked for again
    assert shell.reproduce()["verdict"] == "identical"
