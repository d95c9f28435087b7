"""`read` on local files: every format gives the same table, and says exactly which bytes it read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import SourceError
from penstock.data import observers, read
from penstock.data.files import FileObserver, read_file
from penstock.ports.context import CURRENT, Context
from penstock.ports.records import Observation

TABLE = pandas.DataFrame({"id": [1, 2, 3], "price": [1.5, -2.0, 0.1], "code": ["007", "b", "c"]})


class TurnedClock:
    def __init__(self, now_us: int) -> None:
        self.at = now_us

    def now_us(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1e6


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def step() -> Any:
    context = Context()
    token = CURRENT.set(context)
    yield context
    CURRENT.reset(token)


def write(path: Path) -> None:
    match path.name.partition(".")[2].removesuffix(".gz"):
        case "csv":
            content = TABLE.to_csv(index=False)
        case "tsv":
            content = TABLE.to_csv(index=False, sep="\t")
        case "jsonl":
            content = TABLE.to_json(orient="records", lines=True)
        case "json":
            content = TABLE.to_json(orient="records")
        case "parquet":
            TABLE.to_parquet(path)
            return
        case _:
            TABLE.to_feather(path)
            return
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())


NAMES = [
    "t.csv",
    "t.csv.gz",
    "t.tsv",
    "t.tsv.gz",
    "t.jsonl",
    "t.jsonl.gz",
    "t.json",
    "t.parquet",
    "t.arrow",
    "t.feather",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_", [None, pandas.DataFrame, polars.DataFrame, pyarrow.Table])
def test_every_format_gives_the_same_table_in_every_library(here: Path, name: str, as_: Any) -> None:
    write(here / name)
    options: dict[str, Any] = {}
    if "csv" in name or "tsv" in name:  # a text such as 007 is a number unless the reader is told otherwise
        options = {
            "polars.dataframe.frame": {"schema_overrides": {"code": polars.String}},
            "pyarrow.lib": {
                "convert_options": __import__("pyarrow.csv").csv.ConvertOptions(column_types={"code": "string"})
            },
        }.get(as_.__module__ if as_ else "", {"dtype": {"code": "str"}})
    table = read(name, as_=as_, **options)
    assert isinstance(table, as_ or pandas.DataFrame)
    if isinstance(table, pandas.DataFrame):
        assert list(table["code"].map(type).unique()) == [str]
        table = pyarrow.Table.from_pandas(table, preserve_index=False)
    rows = table.to_dicts() if isinstance(table, polars.DataFrame) else table.to_pylist()
    assert rows == TABLE.to_dict("records")


def test_an_arrow_stream_reads_like_an_arrow_file(here: Path) -> None:
    with pyarrow.ipc.new_stream("t.arrow", pyarrow.table({"a": [1]}).schema) as writer:
        writer.write_table(pyarrow.table({"a": [1]}))
    assert read("t.arrow")["a"].tolist() == [1]


def test_one_dirty_value_makes_a_column_text_and_never_a_mixture(here: Path) -> None:
    lines = ["a", *(str(n) for n in range(300_000)), "abc"]
    Path("t.csv").write_text("\n".join(lines))
    assert set(read("t.csv")["a"].map(type)) == {str}


def test_a_read_records_the_name_as_written_and_the_bytes_digest(here: Path, step: Context) -> None:
    write(here / "t.csv")
    read("t.csv", nrows=1)
    read(f"file://{here}/t.csv")
    first, second = step.observations
    assert (first.kind, first.name) == ("file", "t.csv")
    assert second == Observation("file", f"{here}/t.csv", first.version)
    assert first.version.startswith("blake3:")


def test_a_touched_or_copied_file_is_the_same_version_and_an_edit_of_equal_size_is_not(
    here: Path, step: Context
) -> None:
    path = here / "t.csv"
    path.write_text("a\n1\n")
    read("t.csv")
    seen = step.observations[0].version
    stat = path.stat()
    look = observers()["file"]
    assert look.version("t.csv") == seen
    os.utime(path, ns=(1, 1))
    assert look.version("t.csv") == seen
    path.write_text("a\n2\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert look.version("t.csv") != seen
    path.unlink()
    assert look.version("t.csv") is None
    assert look.version("t.csv/deeper") is None


def test_an_unchanged_file_is_hashed_once_and_remembered_by_the_next_process(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / "t.csv"
    path.write_text("a\n1\n")
    later = TurnedClock(path.stat().st_ctime_ns // 1000 + 60_000_000)
    version = FileObserver(here / "memo", clock=later).version("t.csv")

    def refuse(path: str) -> tuple[str, int]:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("penstock.data.files.digest_file", refuse)
    assert FileObserver(here / "memo", clock=later).version("t.csv") == version
    path.write_text("a\n2\n")
    with pytest.raises(AssertionError, match="was read again"):
        FileObserver(here / "memo", clock=later).version("t.csv")


def test_a_file_younger_than_its_clock_ticks_is_not_remembered(here: Path) -> None:
    path = here / "t.csv"
    path.write_text("a\n1\n")
    young = TurnedClock(path.stat().st_ctime_ns // 1000)
    FileObserver(here / "memo", clock=young).version("t.csv")
    assert not (here / "memo").exists()


def test_a_broken_or_unwritable_memo_costs_time_and_never_truth(here: Path) -> None:
    path = here / "t.csv"
    path.write_text("a\n1\n")
    later = TurnedClock(path.stat().st_ctime_ns // 1000 + 60_000_000)
    version = FileObserver(here / "memo", clock=later).version("t.csv")
    for each in (here / "memo").iterdir():
        each.write_text("{half")
    assert FileObserver(here / "memo", clock=later).version("t.csv") == version
    (here / "plain").write_text("")
    assert FileObserver(here / "plain", clock=later).version("t.csv") == version


@pytest.mark.parametrize("hide", [False, True])
def test_a_file_that_changes_under_the_read_is_refused(here: Path, hide: bool) -> None:
    path = here / "t.csv"
    path.write_text("a\n1\n")
    before = path.stat()

    def meddle(source: Path) -> str:
        source.write_text("a\n2\n")
        if hide:  # as a write within one tick of the clock would look
            os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
        return source.read_text()

    with pytest.raises(SourceError) as caught:
        read_file(path, "t.csv", meddle)
    assert caught.value.problem == "'t.csv' changed while it was read"
    assert caught.value.hint == "run again when its writer is done; writers should write a new file and rename it"


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "n": st.integers(-(2**53), 2**53),
                "t": st.text(st.characters(codec="utf-8"), min_size=1),
                "f": st.floats(allow_nan=False, allow_infinity=False),
            }
        ),
        min_size=1,
    )
)
def test_json_lines_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(path).to_dict("records") == rows
