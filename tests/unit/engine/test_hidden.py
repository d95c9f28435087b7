"""What a watched function looks at is found where it is an input, and only there."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from penstock.engine.hidden import Watch
from penstock.engine.hidden.declared import hint, told, undeclared
from penstock.graph import StepOptions
from penstock.ports.records import HiddenInput, Observation

Found = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("data.txt", "data.csv"):
        Path(name).write_text("a,b\n1,2\n")
    sqlite3.connect("data.db").close()
    os.mkdir("inside")
    return tmp_path


def found(function: Callable[[], object], own: tuple[str, ...] = ()) -> Found:
    with Watch(own) as watch:
        function()
    return [(each.kind, each.name) for each in watch.found]


def text(name: str) -> Callable[[], str]:
    return lambda: Path(name).read_text()


def database() -> None:
    sqlite3.connect("data.db").close()


def descriptor() -> None:
    os.close(os.open("data.txt", os.O_RDONLY))


def connection() -> None:
    with socket.socket() as client:
        client.connect_ex(("127.0.0.1", 9))


@pytest.mark.parametrize(
    ("look", "wanted"),
    [
        (lambda: open("data.txt").close(), ("file", "data.txt")),
        (lambda: open("data.txt", "r+").close(), ("file", "data.txt")),
        (lambda: open("data.txt", "a+").close(), ("file", "data.txt")),
        (lambda: open(b"data.txt", "rb").close(), ("file", "data.txt")),
        (text("data.txt"), ("file", "data.txt")),
        (descriptor, ("file", "data.txt")),
        (lambda: pd.read_csv("data.csv"), ("file", "data.csv")),
        (lambda: np.genfromtxt("data.csv", delimiter=","), ("file", "data.csv")),
        (database, ("file", "data.db")),
        (lambda: open("/etc/hostname").close(), ("file", "/etc/hostname")),
        (lambda: os.listdir("inside"), ("folder", "inside")),
        (lambda: list(Path("inside").glob("*")), ("folder", "inside")),
        (lambda: subprocess.run(["true"], check=True), ("process", "true")),
        (lambda: os.system("true"), ("process", "true")),
        (connection, ("network", "127.0.0.1:9")),
        (lambda: socket.getaddrinfo("localhost", 80), ("network", "localhost:80")),
        (lambda: os.environ.get("REGION"), ("environment", "REGION")),
        (lambda: os.getenv("REGION"), ("environment", "REGION")),
        (lambda: os.environb.get(b"REGION"), ("environment", "REGION")),
        (lambda: "REGION" in os.environ, ("environment", "REGION")),
        (lambda: dict(os.environ), ("environment", "*")),
        (random.random, ("random", "random")),
        (lambda: random.shuffle([1, 2, 3]), ("random", "random")),
        (lambda: random.seed(), ("random", "random")),
        (lambda: np.random.rand(), ("random", "numpy.random")),
        (lambda: pd.DataFrame({"a": [1, 2]}).sample(1), ("random", "numpy.random")),
        (
            lambda: RandomForestClassifier(n_estimators=1).fit([[0], [1]], [0, 1]),
            ("random", "numpy.random"),
        ),
    ],
)  # fmt: skip
def test_what_a_step_looks_at_is_found(look: Callable[[], object], wanted: tuple[str, str]) -> None:
    assert found(look) == [wanted]


def test_what_was_found_names_the_line_of_the_users_code() -> None:
    with Watch() as watch:
        Path("data.txt").read_text()
    (only,) = watch.found
    line = sys._getframe().f_lineno - 2
    assert only.where == f"{__file__}:{line}"


def written_then_read() -> None:
    Path("new.txt").write_text("x")
    Path("new.txt").read_text()
    os.rename("new.txt", "renamed.txt")
    Path("renamed.txt").read_text()


def temporary() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "table.parquet")
        pd.DataFrame({"a": [1]}).to_parquet(file)  # opened by C++, without an event
        file.read_bytes()
        os.listdir(folder)
    with tempfile.NamedTemporaryFile() as opened, open(opened.name) as again:
        again.read()


def a_new_database() -> None:
    sqlite3.connect("new.db").close()
    sqlite3.connect(":memory:").close()


def seeded() -> None:
    random.seed(3)
    random.random()
    np.random.seed(3)
    np.random.rand()


def own_generators() -> None:
    random.Random(3).random()
    np.random.default_rng(3).random()
    RandomForestClassifier(n_estimators=1, random_state=3).fit([[0], [1]], [0, 1])


def probed() -> None:
    pd.Series([1, 2]).plot if False else None
    os.path.exists("data.txt")
    os.path.expanduser("~")
    Path.home()
    tempfile.gettempdir()


def the_library_asks() -> None:
    import mimetypes
    import platform
    import zoneinfo

    mimetypes.init()
    platform.platform()
    zoneinfo.ZoneInfo.no_cache("Europe/Paris")
    open("/dev/null").close()
    open("/proc/self/status").close()


def a_failure_is_described() -> None:
    import traceback

    try:
        raise ValueError("x")
    except ValueError:
        traceback.format_exc()


def side_by_side() -> None:
    joblib.Parallel(n_jobs=2, prefer="threads")(joblib.delayed(abs)(number) for number in range(4))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.map(abs, [1])


@pytest.mark.parametrize(
    "look",
    [
        lambda: None, written_then_read, temporary, a_new_database, seeded, own_generators, probed, the_library_asks,
        a_failure_is_described, side_by_side, load_iris,
        lambda: open("data.txt", "w").close(),
        lambda: open("data.txt", "a").close(),
        lambda: os.environ.update(REGION="eu"),
        lambda: Path("missing.txt").open("w+").close(),
    ],
)  # fmt: skip
def test_what_is_no_input_is_no_alarm(look: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "us")
    assert found(look) == []


def test_a_file_that_the_users_code_looks_for_in_vain_is_an_input() -> None:
    def look() -> None:
        with pytest.raises(FileNotFoundError):
            Path("settings.json").read_text()

    assert found(look) == [("file", "settings.json")]


def test_imports_are_no_inputs_whatever_they_read_and_draw(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "lazily.py").write_text(
        "import os, random\nrandom.random()\nopen('data.txt').close()\nos.environ.get('X')\n"
    )

    def look() -> None:
        import importlib

        import lazily  # noqa: F401

        sys.modules.pop("lazily")
        importlib.import_module("lazily")
        sys.modules.pop("lazily")

    assert found(look) == []


def test_a_draw_after_an_import_that_drew_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "drawing.py").write_text("import random\nrandom.random()\n")

    def look() -> None:
        import drawing  # noqa: F401

        sys.modules.pop("drawing")
        random.random()

    assert found(look) == [("random", "random")]


def test_a_draw_before_the_seed_is_found() -> None:
    def look() -> None:
        random.random()
        random.seed(3)

    assert found(look) == [("random", "random")]


@pytest.mark.parametrize("module", ["random", "numpy.random"])
def test_a_generator_that_the_step_itself_imports_is_watched_from_its_first_draw(module: str) -> None:
    """In a process of its own: here it is loaded already."""
    done = _process(f"""
with Watch() as watch:
    import {module}
    {module}.seed(3)
    {module}.random()
with Watch() as second:
    {module}.random()
print(len(watch.found), [each.name for each in second.found])
""")
    assert done == f"0 ['{module}']\n"


def test_many_looks_at_the_generator_turn_to_reading_its_memory_and_agree() -> None:
    done = _process("""
import random
for _ in range(200):
    with Watch() as still:
        pass
    with Watch() as drawing:
        random.random()
    assert [each.name for each in drawing.found] == ["random"], _
    assert not still.found, _
print("agreed", "ctypes" in sys.modules)
""")
    assert done == "agreed True\n"


def _process(code: str) -> str:
    head = "import sys\nfrom penstock.engine.hidden import Watch\n"
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_nothing_of_the_watch_is_left_in_the_process_but_the_hook() -> None:
    import builtins

    before = type(os.environ), builtins.__import__
    with Watch():
        assert type(os.environ) is not before[0]
        copy = os.environ.copy()
    assert (type(os.environ), builtins.__import__) == before
    assert type(copy) is dict


def test_penstock_and_the_folders_of_the_attempt_are_no_inputs(folder: Path) -> None:
    inside = str(folder / "inside") + os.sep
    (folder / "inside" / "part.txt").write_text("x")
    assert found(text("inside/part.txt"), own=(inside,)) == []
    assert found(text("inside/part.txt")) == [("file", "inside/part.txt")]


def test_what_is_declared_while_it_runs_is_not_found() -> None:
    with Watch() as watch:
        watch.declare("data.txt")
        watch.declare("inside")
        Path("data.txt").read_text()
        os.listdir("inside")
        Path("data.csv").read_text()
    assert [each.name for each in watch.found] == ["data.csv"]


# -- whose it was ------------------------------------------------------------------------------------------------------


@contextmanager
def beside(watched: threading.Event, leave: threading.Event) -> Iterator[list[Watch]]:
    """Another attempt in another thread, which looks at nothing."""
    watches: list[Watch] = []

    def other() -> None:
        with Watch() as watch:
            watches.append(watch)
            watched.set()
            leave.wait()

    thread = threading.Thread(target=other)
    thread.start()
    watched.wait()
    try:
        yield watches
    finally:
        leave.set()
        thread.join()


def test_an_attempt_is_not_blamed_for_another_one_beside_it() -> None:
    with beside(threading.Event(), threading.Event()) as others, Watch() as watch:
        Path("data.txt").read_text()
        os.environ.get("REGION")
    assert [each.name for each in watch.found] == ["data.txt", "REGION"]
    assert others[0].found == ()


def test_what_a_thread_of_the_step_reads_is_the_steps() -> None:
    with beside(threading.Event(), threading.Event()) as others, Watch() as watch, ThreadPoolExecutor(1) as pool:
        pool.submit(text("data.txt")).result()
    assert [each.name for each in watch.found] == ["data.txt"]
    assert others[0].found == ()


def test_where_nobody_knows_whose_a_read_was_every_attempt_is_blamed() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread is older than both attempts
        with beside(threading.Event(), threading.Event()) as others, Watch() as watch:
            pool.submit(text("data.txt")).result()
    assert [each.name for each in watch.found] == ["data.txt"]
    assert [each.name for each in others[0].found] == ["data.txt"]


def test_attempts_on_one_loop_are_told_apart() -> None:
    async def attempt(name: str) -> tuple[HiddenInput, ...]:
        with Watch(shared=True) as watch:
            await asyncio.sleep(0)
            await asyncio.to_thread(text(name))
            await asyncio.sleep(0)
        return watch.found

    async def both() -> list[tuple[HiddenInput, ...]]:
        return await asyncio.gather(attempt("data.txt"), attempt("data.csv"))

    first, second = asyncio.run(both())
    assert [each.name for each in first] == ["data.txt"]
    assert [each.name for each in second] == ["data.csv"]


# -- declaring ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "observations", "each", "left"),
    [
        (StepOptions(), (), HiddenInput("file", "data.csv"), True),
        (StepOptions(), (Observation("file", "data.csv", "1"),), HiddenInput("file", "data.csv"), False),
        (StepOptions(), (Observation("file", "other.csv", "1"),), HiddenInput("file", "data.csv"), True),
        (StepOptions(), (Observation("folder", "parts", "1"),), HiddenInput("file", "parts/a.csv"), False),
        (StepOptions(reads=("parts",)), (), HiddenInput("folder", "parts/inner"), False),
        (StepOptions(reads=("part",)), (), HiddenInput("folder", "parts"), True),
        (StepOptions(cache_despite=("file",)), (), HiddenInput("file", "data.csv"), False),
        (StepOptions(cache_despite=("file",)), (), HiddenInput("folder", "data"), True),
        (StepOptions(env=("REGION",)), (), HiddenInput("environment", "REGION"), False),
        (StepOptions(env=("REGION",)), (), HiddenInput("environment", "*"), True),
        (StepOptions(), (), HiddenInput("file", "pandas.read_parquet()"), True),
        (StepOptions(reads=("a.parquet",)), (), HiddenInput("file", "pandas.read_parquet()"), False),
        (StepOptions(), (Observation("url", "https://api.x/y", "1"),), HiddenInput("network", "api.x:443"), False),
        (StepOptions(), (Observation("url", "https://api.z/y", "1"),), HiddenInput("network", "api.x:443"), True),
        (StepOptions(), (Observation("file", "a", "1"),), HiddenInput("clock", "time.time()"), True),
    ],
)  # fmt: skip
def test_an_option_or_an_observation_declares(
    options: StepOptions, observations: tuple[Observation, ...], each: HiddenInput, left: bool
) -> None:
    assert bool(undeclared(options, observations, [each])) is left


def test_what_was_found_is_one_line_with_the_way_out() -> None:
    inputs = [
        HiddenInput("file", "data.csv"), HiddenInput("environment", "REGION"), HiddenInput("clock", "time.time()"),
    ]  # fmt: skip
    assert told(inputs) == "read data.csv and REGION and asked the clock with time.time() undeclared"
    assert hint(inputs) == (
        '@step(reads="data.csv", env="REGION"); take the time as a parameter, durations from time.perf_counter(), or '
        '@step(cache_despite=("file", "environment", "clock")) to keep it all the same'
    )
