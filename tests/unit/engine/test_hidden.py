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
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from penstock.engine.comparison import unseen_by
from penstock.engine.hidden import CHANGED, Watch
from penstock.engine.hidden.declared import hint, named, told, undeclared
from penstock.engine.hidden.watching import Unwatched
from penstock.graph import Node, StepOptions
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
    for backend in ("threading", "loky", "multiprocessing"):
        joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(abs)(number) for number in range(4))
    RandomForestClassifier(n_estimators=2, random_state=3, n_jobs=2).fit([[0], [1]], [0, 1])


def made_then_moved() -> None:
    os.makedirs("made/inner")
    Path("made/inner/a.txt").write_text("x")
    os.rename("made/inner", "moved")
    os.link("moved/a.txt", "linked.txt")
    os.symlink("moved", "pointing")
    os.replace("moved/a.txt", "data.txt")
    for name in ("linked.txt", "data.txt"):
        Path(name).read_text()
    os.listdir("pointing")


def made_exclusively() -> None:
    Path("new.txt").open("x").close()
    with open("new.txt", "a") as file:
        file.write("x")
    Path("new.txt").read_text()
    with open("second.txt", "a") as file:
        file.write("x")
    Path("second.txt").read_text()
    os.close(os.open("third.txt", os.O_CREAT | os.O_EXCL | os.O_RDWR))
    Path("third.txt").read_text()
    Path("data.txt").write_text("whole")
    Path("data.txt").read_text()


def made_already() -> None:
    os.makedirs("inside", exist_ok=True)
    Path("inside").mkdir(exist_ok=True)
    list(Path("inside").glob("*.csv"))
    Path("inside/part.csv").read_text()


def made_in_vain() -> None:
    with pytest.raises(FileExistsError):
        Path("data.txt").open("x").close()
    with pytest.raises(FileExistsError):
        os.open("data.txt", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    Path("data.txt").read_text()


def appended() -> None:
    with open("data.txt", "a") as file:
        file.write("3,4\n")
    Path("data.txt").read_text()


def touched() -> None:
    Path("data.txt").touch()
    os.close(os.open("data.txt", os.O_WRONLY))
    Path("data.txt").read_text()


def moved_over_what_is_written() -> None:
    Path("new.txt").write_text("x")
    os.replace("data.txt", "new.txt")
    Path("new.txt").read_text()


def moved_into_what_is_made() -> None:
    os.mkdir("made")
    os.rename("data.txt", "made/data.txt")
    Path("made/data.txt").read_text()


def linked_into_what_is_made() -> None:
    os.mkdir("made")
    os.link("data.txt", "made/hard.txt")
    os.symlink("../data.csv", "made/soft.csv")
    os.symlink("../inside", "made/folder")
    Path("made/hard.txt").read_text()
    Path("made/folder/part.csv").read_text()


@pytest.mark.parametrize(
    ("look", "wanted"),
    [
        (made_already, [("folder", "inside"), ("file", "inside/part.csv")]),
        (made_in_vain, [("file", "data.txt")]),
        (appended, [("file", "data.txt")]),
        (touched, [("file", "data.txt")]),
        (moved_over_what_is_written, [("file", "data.txt")]),
        (moved_into_what_is_made, [("file", "data.txt")]),
        (linked_into_what_is_made, [("file", "data.txt"), ("file", "data.csv"), ("folder", "inside")]),
    ],
)
def test_what_was_there_before_the_attempt_stays_an_input(look: Callable[[], object], wanted: Found) -> None:
    Path("inside/part.csv").write_text("1")
    assert found(look) == wanted


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_stays_an_input() -> None:
    def look() -> None:
        with pytest.raises(PermissionError):
            Path("data.txt").open("w").close()
        Path("data.txt").read_text()

    Path("data.txt").chmod(0o444)
    assert found(look) == [("file", "data.txt")]


def test_a_folder_is_told_by_its_descriptor_and_is_not_taken_for_another() -> None:
    def look() -> None:
        here = os.open("inside", os.O_RDONLY | os.O_DIRECTORY)
        os.mkdir("fresh", dir_fd=here)
        os.close(here)
        Path("fresh").symlink_to("inside")
        Path("fresh/part.csv").read_text()

    Path("inside/part.csv").write_text("1")
    assert found(look) == [("file", "fresh/part.csv")]


# -- children ----------------------------------------------------------------------------------------------------------


def forked() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def forked_with_a_terminal() -> None:
    child, terminal = os.forkpty()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    os.close(terminal)


def spawned() -> None:
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}), 0)


def pooled(method: str) -> Callable[[], None]:
    def look() -> None:
        with multiprocessing.get_context(method).Pool(1) as pool:
            pool.map(abs, [1])

    return look


def executed() -> None:
    with ProcessPoolExecutor(1) as pool:
        pool.submit(abs, 1).result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    ("look", "wanted"),
    [
        (forked, "fork"),
        (forked_with_a_terminal, "fork"),
        (spawned, os.path.basename(sys.executable)),
        (lambda: os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", ""]), "fork"),
        *((pooled(method), "fork") for method in multiprocessing.get_all_start_methods()),
        (executed, "fork"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_is_an_input_for_what_it_reads_is_not_seen(look: Callable[[], object], wanted: str) -> None:
    assert found(look) == [("process", wanted)]


def test_a_child_is_seen_where_the_step_itself_imports_multiprocessing() -> None:
    """In a process of its own: here it is loaded already."""
    done = _process("""
def look():
    import multiprocessing
    child = multiprocessing.get_context("spawn").Process(target=abs, args=(1,))
    child.start()
    child.join()
if __name__ == "__main__":
    assert "multiprocessing.process" not in sys.modules
    with Watch() as watch:
        look()
    import multiprocessing.process
    print([each.name for each in watch.found], multiprocessing.process.BaseProcess.start.__module__)
""")
    assert done == "['fork'] multiprocessing.process\n"


# -- many --------------------------------------------------------------------------------------------------------------


def many(count: int) -> Callable[[], None]:
    for number in range(count):
        Path(f"inside/{number}.txt").touch()

    def look() -> None:
        for number in range(count):
            open(f"inside/{number}.txt").close()

    return look


@pytest.mark.parametrize(
    ("look", "kind"),
    [
        (lambda: subprocess.run(["true"], check=True), "process"),
        (connection, "network"),
        (lambda: os.listdir("inside"), "folder"),
        (lambda: os.environ.get("REGION"), "environment"),
        (random.random, "random"),
    ],
)
def test_many_inputs_of_one_kind_hide_none_of_another(look: Callable[[], object], kind: str) -> None:
    read = many(1100)
    with Watch() as watch:
        read()
        look()
    left = undeclared(StepOptions(cache_despite=("file",)), (), watch.found)
    assert [each.kind for each in left] == [kind]


def test_of_more_files_than_are_kept_the_rest_is_undeclared_whatever_is_declared() -> None:
    read = many(1001)
    with Watch() as watch:
        read()
    declared = StepOptions(reads=("inside", "."))
    assert [(each.kind, each.name) for each in undeclared(declared, (), watch.found)] == [("file", "*")]
    assert undeclared(StepOptions(cache_despite=("file",)), (), watch.found) == ()


def test_many_files_that_the_step_observes_one_by_one_are_no_alarm() -> None:
    read = many(200)
    with Watch() as watch:
        read()
    seen = [Observation("file", f"inside/{number}.txt", "1") for number in range(199)]
    assert [each.name for each in undeclared(StepOptions(), seen, watch.found)] == ["inside/199.txt"]


def test_of_many_undeclared_inputs_the_first_of_each_kind_are_kept() -> None:
    inputs = [HiddenInput(kind, str(number)) for number in range(60) for kind in ("file", "process")]
    left = undeclared(StepOptions(), (), inputs)
    assert left == tuple(inputs[:100])


@pytest.mark.parametrize(
    "look",
    [
        lambda: None, written_then_read, temporary, made_then_moved, made_exclusively, a_new_database, seeded,
        own_generators, probed, the_library_asks, a_failure_is_described, side_by_side, load_iris,
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
        (StepOptions(cache_despite=("process",)), (), HiddenInput("process", "fork"), False),
        (StepOptions(cache_despite=("file",)), (), HiddenInput("process", "fork"), True),
        (StepOptions(reads=(".",)), (), HiddenInput("file", "*"), True),
        (StepOptions(reads=(".",)), (), HiddenInput("file", f".{CHANGED}"), True),
    ],
)  # fmt: skip
def test_an_option_or_an_observation_declares(
    options: StepOptions, observations: tuple[Observation, ...], each: HiddenInput, left: bool
) -> None:
    assert bool(undeclared(options, observations, [each])) is left


def test_a_name_that_says_little_is_told_in_words() -> None:
    assert told([HiddenInput("random", "random")]) == "drew from the global random generator undeclared"
    assert told([HiddenInput("process", "fork")]) == (
        "started a child process (what it reads cannot be seen) undeclared"
    )
    assert named(HiddenInput("file", "*")) == "more files than are kept"
    assert named(HiddenInput("file", "data.csv")) == "data.csv"


@pytest.mark.parametrize(
    ("code", "way"),
    [
        ('pd.read_csv("data.csv")', '@step(reads="data.csv")'),
        ("FILE = 'data.csv'", '@step(reads="data.csv")'),
        ("def load(path):\n    return open(path)", "penstock.context().reads(path) before it is read"),
        ('open(f"{day}/data.csv")', "penstock.context().reads(path) before it is read"),
    ],
)
def test_a_file_whose_name_is_not_written_in_the_code_is_declared_while_the_step_runs(code: str, way: str) -> None:
    told = hint([HiddenInput("file", "data.csv")], [code])
    assert told == f'{way}, or @step(cache_despite="file") to keep it all the same'


def test_a_step_that_says_what_it_reads_is_not_told_that_its_files_cannot_be_seen() -> None:
    unseen = ("f.py:3: open opens a file whose content is no input", "f.py:4: eval runs code")
    node = Node("load", "f.py:load")
    declares = Node("load", "f.py:load", options=StepOptions(reads=("data.csv",)))
    assert unseen_by(node, unseen) == unseen
    assert unseen_by(declares, unseen) == unseen[1:]
    assert unseen_by(node, unseen, (Observation("file", "data.csv", "v"),)) == unseen[1:]
    assert unseen_by(node, unseen, (Observation("model", "m@champion", "1"),)) == unseen


def test_what_was_found_is_one_line_with_the_way_out() -> None:
    inputs = [
        HiddenInput("file", "data.csv"), HiddenInput("environment", "REGION"), HiddenInput("clock", "time.time()"),
    ]  # fmt: skip
    assert told(inputs) == "read data.csv and REGION and asked the clock with time.time() undeclared"
    assert hint(inputs) == (
        '@step(reads="data.csv", env="REGION"); take the time as a parameter, durations from time.perf_counter(), or '
        '@step(cache_despite=("file", "environment", "clock")) to keep it all the same'
    )


def test_what_an_import_beside_a_step_draws_is_not_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Penstock looks at a server in a thread of its own, and a client that it imports for that may draw."""
    (tmp_path / "a_client_that_draws.py").write_text("import random\nrandom.random()\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def look() -> None:
        with Unwatched():
            import a_client_that_draws  # type: ignore[import-not-found]  # noqa: F401

    with Watch() as watch:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert watch.found == ()
    with Watch() as watch:
        random.random()
    assert [each.kind for each in watch.found] == ["random"]
