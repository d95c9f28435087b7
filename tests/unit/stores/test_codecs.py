"""What an artifact store gives back: equal, private, and under the same digest in every process."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from penstock.core.errors import ArtifactError, CodecError
from penstock.ports.artifacts import ArtifactRef
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs
from penstock.stores.codecs.sklearn import EstimatorCodec, canonical_skops


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(lambda: open_blobs(str(tmp_path / "store"), home=tmp_path))


@dataclass
class Scored:
    scores: np.ndarray
    table: pd.DataFrame


class Parts(NamedTuple):
    train: pd.DataFrame
    rate: np.float64


def xy() -> tuple[np.ndarray, np.ndarray]:
    values = np.random.RandomState(0).rand(80, 4)
    return values, (values[:, 0] > 0.5).astype(int)


# -- small values -----------------------------------------------------------------------------------------------------


def test_a_small_value_opens_no_blob_store() -> None:
    def never() -> Any:
        raise AssertionError("opened")

    store = ArtifactStore(never)
    for value in (1, "a", [1, (2,)], {"a": {1}}, None, b"x"):
        ref = store.save(value)
        assert ref.inline is not None
        assert ref.blobs == ()
        assert store.load(ref) == value
        assert store.intact(ref)


def test_an_inline_value_that_was_altered_is_not_returned(store: ArtifactStore) -> None:
    ref = store.save([1, 2])
    altered = ArtifactRef(digest=ref.digest, codec=ref.codec, inline="[1,3]")
    with pytest.raises(ArtifactError, match=ref.digest[:12]):
        store.load(altered)


def test_a_large_json_value_has_the_digest_of_its_text(store: ArtifactStore) -> None:
    value = {"n": list(range(5000)), "t": (1, 2)}
    ref = store.save(value)
    assert (ref.codec, ref.inline, len(ref.blobs)) == ("json", None, 1)
    assert store.load(ref) == value
    roomy = ArtifactStore(lambda: store.blobs, inline_limit=10**6)
    assert roomy.save(value).digest == ref.digest


@pytest.mark.parametrize("value", ["é" * 9000, b"\x00\xff" * 9000], ids=["text", "bytes"])
def test_long_text_and_bytes_are_stored_as_they_are(store: ArtifactStore, value: Any) -> None:
    ref = store.save(value)
    assert ref.codec in ("text", "bytes")
    assert store.load(ref) == value


# -- tables -----------------------------------------------------------------------------------------------------------

dated = pd.DataFrame({"v": [1, 2, 3]}, index=pd.date_range("2020-01-01", periods=3, freq="D", tz="Europe/Paris"))
FRAMES: dict[str, pd.DataFrame] = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [1.5, np.nan]}),
    "one_column": pd.DataFrame({"a": np.arange(5.0)}),
    "text": pd.DataFrame({"s": ["a", None]}),
    "objects_none": pd.DataFrame({"s": pd.Series(["a", None], dtype=object)}),
    "objects_nan": pd.DataFrame({"s": pd.Series(["a", np.nan], dtype=object)}),
    "dates": pd.DataFrame({"d": [date(2020, 1, 1), None], "x": [Decimal("1.10"), Decimal(2)]}),
    "categories": pd.DataFrame({"c": pd.Categorical(["x", "y"], categories=["y", "x", "z"], ordered=True)}),
    "nullable": pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "s": pd.array(["x", None], dtype="string")}),
    "frequency": dated,
    "multi_index": pd.DataFrame(
        {"v": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["k", None])
    ),
    "numbered_columns": pd.DataFrame(np.ones((2, 2))),
    "text_index": pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "a_slice": pd.DataFrame({"a": range(10), "s": list("abcdefghij")})[3:7],
    "empty": pd.DataFrame(),
    "no_rows": pd.DataFrame({"a": [1]}).iloc[:0],
    "only_rows": pd.DataFrame(index=pd.RangeIndex(4)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_back_exactly_private_and_writable(store: ArtifactStore, name: str) -> None:
    frame = FRAMES[name]
    ref = store.save(frame)
    assert ref.codec == "pandas"
    back = store.load(ref)
    pd.testing.assert_frame_equal(back, frame, check_freq=True, check_index_type=True, check_column_type=True)
    for column in range(back.shape[1]):
        assert [type(each) for each in back.iloc[:, column]] == [type(each) for each in frame.iloc[:, column]]
    if back.size:
        back.iloc[0, 0] = back.iloc[-1, 0]
        back.index = range(len(back))
        pd.testing.assert_frame_equal(store.load(ref), frame)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.Series([1, "x", 2.5], dtype=object)}),
        pd.DataFrame({"a": [[1], [2, 3]]}),
        pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}),
        pd.DataFrame(np.ones((2, 2)), columns=["a", "a"]),
    ],
    ids=["mixed", "lists", "sparse", "duplicate_names"],
)
def test_a_frame_that_arrow_would_change_is_pickled_and_says_so(store: ArtifactStore, frame: pd.DataFrame) -> None:
    ref = store.save(frame)
    assert (ref.codec, ref.canonical, ref.meta["unsafe"]) == ("cloudpickle", False, True)
    assert "pandas" in ref.meta["why"][0]
    pd.testing.assert_frame_equal(store.load(ref), frame)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=True), st.none() | st.text(max_size=3)),
        max_size=6,
    )
)
def test_any_rows_survive_in_pandas_and_polars(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    home = tmp_path_factory.mktemp("rows")
    store = ArtifactStore(open_blobs(str(home / "store"), home=home))
    columns = {"i": [row[0] for row in rows], "f": [row[1] for row in rows], "s": [row[2] for row in rows]}
    lazy = {"i": pl.Int64, "f": pl.Float64, "s": pl.String}
    frame = pd.DataFrame(columns).astype({"i": "int64", "f": "float64", "s": object})
    pd.testing.assert_frame_equal(store.load(store.save(frame)), frame)
    assert store.load(store.save(pl.DataFrame(columns, schema=lazy))).equals(pl.DataFrame(columns, schema=lazy))


@pytest.mark.parametrize(
    "series",
    [pd.Series([1.0, 2], name="x", index=["a", "b"]), pd.Series(["a"]), pd.Series([1], name=("a", 1))],
    ids=["named", "unnamed", "tuple_name"],
)
def test_a_series_keeps_its_name_and_index(store: ArtifactStore, series: pd.Series) -> None:
    back = store.load(store.save(series))
    pd.testing.assert_series_equal(back, series)
    assert type(back.name) is type(series.name)


@pytest.mark.parametrize(
    "index", [pd.Index([1, 2], name="q"), pd.RangeIndex(5), dated.index], ids=["int", "range", "d"]
)
def test_an_index_comes_back_as_itself(store: ArtifactStore, index: pd.Index) -> None:
    pd.testing.assert_index_equal(store.load(store.save(index)), index, exact=True)


POLARS = {
    "plain": pl.DataFrame({"a": [1, None], "s": ["x", "y" * 40], "f": [float("nan"), None]}),
    "categories": pl.DataFrame({"c": pl.Series(["a", "b"], dtype=pl.Categorical)}),
    "enum": pl.DataFrame({"c": pl.Series(["a"], dtype=pl.Enum(["b", "a"]))}),
    "nested": pl.DataFrame({"l": [[1], [2, 3]], "st": [{"a": 1}, {"a": 2}]}),
    "series": pl.Series("n", [1, 2]),
    "empty": pl.DataFrame(),
}


@pytest.mark.parametrize("name", POLARS)
def test_a_polars_value_comes_back_with_its_types(store: ArtifactStore, name: str) -> None:
    value = POLARS[name]
    ref = store.save(value)
    assert ref.codec == "polars"
    back = store.load(ref)
    assert type(back) is type(value)
    assert back.equals(value)


def test_an_arrow_table_comes_back_with_its_metadata(store: ArtifactStore) -> None:
    table = pa.table({"a": pa.chunked_array([[1, 2], [None]]), "s": ["x", None, "z"]}).replace_schema_metadata(
        {"k": "v"}
    )
    back = store.load(store.save(table))
    assert back.equals(table, check_metadata=True)


def test_how_a_table_was_made_does_not_change_its_digest(store: ArtifactStore) -> None:
    rows = {"i": list(range(20)), "s": [None if i % 3 else f"s{i}" * 9 for i in range(20)], "n": [None, 1] * 10}
    whole = pl.DataFrame(rows)
    part = whole.filter(pl.col("i") >= 10)
    rebuilt = pl.DataFrame(part.to_dict(as_series=False), schema=part.schema)
    chunks = pl.concat([part[:4], part[4:]], rechunk=False)
    assert len({store.save(each).digest for each in (part, rebuilt, chunks, whole[10:])}) == 1
    table = part.to_arrow()
    joined = pa.concat_tables([table[:3], table[3:]])
    assert len({store.save(each).digest for each in (table, joined, pa.table(table.to_pydict(), table.schema))}) == 1
    frame = pd.DataFrame(rows)
    half = frame[frame.i >= 10].reset_index(drop=True)
    assert store.save(half).digest == store.save(pd.concat([half[:3], half[3:]])).digest


# -- arrays, files, containers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.ones((2, 3))),
        np.array([], dtype="f4"),
        np.array(["a", "bc"]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([(1, 2.5)], dtype=[("a", "i1"), ("b", "f8")]),
        np.array(0.5),
    ],
    ids=lambda array: f"{array.dtype}-{array.ndim}",
)
def test_an_array_comes_back_bit_for_bit_and_writable(store: ArtifactStore, array: Any) -> None:
    ref = store.save(array)
    assert ref.codec == "npy"
    back = store.load(ref)
    assert (type(back), back.dtype, back.shape) == (type(array), array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    if back.size and back.ndim:
        back[...] = back[::-1].copy() if back.ndim == 1 else 7
        assert store.load(ref).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(0.1),
        np.float32(0.1),
        np.float16("nan"),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("é"),
        np.str_(""),
        np.bytes_(b"a\x00b"),
        np.datetime64("2020-01-01", "D"),
        np.timedelta64(3, "s"),
        np.complex128(1 - 2j),
    ],
    ids=lambda scalar: type(scalar).__name__,
)
def test_a_numpy_scalar_alone_or_among_metrics_stays_small_and_exact(store: ArtifactStore, scalar: Any) -> None:
    for value in (scalar, {"auc": [scalar]}):
        ref = store.save(value)
        assert ref.inline is not None
        back = store.load(ref)
        back = back if value is scalar else back["auc"][0]
        assert (type(back), back.dtype, back.tobytes()) == (type(scalar), scalar.dtype, scalar.tobytes())


def test_an_array_of_objects_is_not_stored_as_npy(store: ArtifactStore) -> None:
    assert store.save(np.array([{}, 1], dtype=object)).codec == "cloudpickle"


def test_padding_between_fields_does_not_change_the_digest(store: ArtifactStore) -> None:
    kind = np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8], "itemsize": 16})
    clean = np.zeros(2, kind)
    memory = bytearray(b"\xff" * 32)
    dirty = np.frombuffer(memory, kind)
    dirty["a"], dirty["b"] = 0, 0
    assert any(memory)
    assert store.save(clean).digest == store.save(dirty).digest


def test_a_file_keeps_its_name_and_is_read_only(store: ArtifactStore, tmp_path: Path) -> None:
    made = tmp_path / "report.csv"
    made.write_text("a,b\n")
    ref = store.save(made)
    back = store.load(ref)
    assert (back.name, back.read_text(), back.stat().st_mode & 0o222) == ("report.csv", "a,b\n", 0)
    made.unlink()
    assert store.load(ref) == back


def test_a_copied_out_file_that_somebody_altered_is_made_anew(store: ArtifactStore, tmp_path: Path) -> None:
    made = tmp_path / "report.csv"
    made.write_text("a,b\n")
    ref = store.save(made)
    copy = store.load(ref)
    os.chmod(copy, 0o644)
    copy.write_text("x,y\n")
    assert store.load(ref).read_text() == "a,b\n"
    (copy.parent / "extra").write_text("x")
    assert os.listdir(store.load(ref).parent) == ["report.csv"]


def test_a_path_to_nothing_is_refused_with_the_path(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        store.save(tmp_path / "absent")


def test_a_container_of_tables_arrays_and_models_needs_no_pickle(store: ArtifactStore) -> None:
    frame = pd.DataFrame({"a": [1]})
    model = LogisticRegression().fit(*xy())
    ref = store.save({"m": (model, [frame]), "auc": np.float64(0.9), "$": 1})
    assert (ref.codec, ref.canonical) == ("collection", True)
    back = store.load(ref)
    assert list(back) == ["m", "auc", "$"]
    assert type(back["m"]) is tuple
    pd.testing.assert_frame_equal(back["m"][1][0], frame)
    assert (type(back["auc"]), back["auc"]) == (np.float64, 0.9)
    assert (back["m"][0].predict(xy()[0]) == model.predict(xy()[0])).all()
    scored = store.load(store.save(Scored(np.ones(2), frame)))
    assert type(scored) is Scored
    parts = store.load(store.save(Parts(frame, np.float64(1))), Parts)
    assert type(parts) is Parts
    parts.train.iloc[0, 0] = 5
    assert frame.iloc[0, 0] == 1


def test_a_value_no_codec_takes_is_refused_and_named(store: ArtifactStore) -> None:
    with pytest.raises(CodecError, match=r"_thread\.lock") as raised:
        store.save({"lock": threading.Lock()})
    assert "inside the step" in (raised.value.hint or "")


def test_a_codec_that_is_not_known_here_is_named(store: ArtifactStore) -> None:
    with pytest.raises(CodecError, match="'onnx'"):
        store.load(ArtifactRef(digest="0" * 64, codec="onnx"))


# -- models -----------------------------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: LogisticRegression().fit(*xy()),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(*xy()),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=4, random_state=0).fit(*xy()),
    "forest": lambda: RandomForestClassifier(6, random_state=0).fit(*xy()),
    "selection": lambda: make_pipeline(SelectKBest(f_classif, k=2), FunctionTransformer(np.log1p)).fit(*xy()),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_without_pickle_and_predicts_the_same(store: ArtifactStore, name: str) -> None:
    model = MODELS[name]()
    ref = store.save(model)
    assert (ref.codec, ref.canonical) == ("skops", True)
    back = store.load(ref)
    act = "predict" if hasattr(model, "predict") else "transform"
    assert (getattr(back, act)(xy()[0]) == getattr(model, act)(xy()[0])).all()
    assert store.save(back).digest == ref.digest


class Doubler(StandardScaler):
    """A user's own estimator."""


def test_a_pipeline_with_a_class_of_the_users_is_pickled_and_says_why(store: ArtifactStore) -> None:
    ref = store.save(make_pipeline(Doubler(), LogisticRegression()).fit(*xy()))
    assert (ref.codec, ref.meta["unsafe"]) == ("cloudpickle", True)
    assert "Doubler" in ref.meta["why"][0]


def test_a_parameter_that_skops_would_change_is_not_stored_with_it(store: ArtifactStore) -> None:
    model = LogisticRegression(class_weight={False: 1.0, True: 2.0}).fit(*xy())
    ref = store.save(model)
    assert ref.codec == "cloudpickle"
    assert store.load(ref).class_weight == {False: 1.0, True: 2.0}


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("sklearn.utils._testing", "check_output"), ("sklearn.datasets", "load_files")],
)
def test_a_model_file_that_asks_for_other_types_is_refused(tmp_path: Path, module: str, name: str) -> None:
    good = tmp_path / "good"
    EstimatorCodec().encode(LogisticRegression(), good)
    bad = tmp_path / "bad"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w") as target:
        for entry in source.namelist():
            body = source.read(entry)
            if entry == "schema.json":
                schema = json.loads(body)
                schema["content"]["content"]["C"] = {
                    "__class__": name,
                    "__module__": module,
                    "__loader__": "FunctionNode",
                }
                body = json.dumps(schema).encode()
            target.writestr(entry, body)
    with pytest.raises(ArtifactError, match=name) as raised:
        EstimatorCodec().decode(bad, Any)
    assert "allow-list" in raised.value.problem


def test_a_canonical_model_file_is_canonical_already(tmp_path: Path) -> None:
    EstimatorCodec().encode(LogisticRegression().fit(*xy()), tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    assert canonical_skops(content) == content


# -- digest for digest ------------------------------------------------------------------------------------------------

ELSEWHERE = """
import json, pickle, sys
sys.path.insert(0, sys.argv[1])
import test_codecs as here
from pathlib import Path
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs
home = Path(sys.argv[2])
store = ArtifactStore(open_blobs(str(home / "store"), home=home), inline_limit=0)
models = pickle.loads((home / "models").read_bytes())
print(json.dumps(here.digests(store, models)))
"""


def digests(store: ArtifactStore, models: dict[str, Any]) -> dict[str, str]:
    values: dict[str, Any] = {f"model_{name}": model for name, model in models.items()}
    values |= {f"pandas_{name}": frame for name, frame in FRAMES.items()}
    values |= {f"polars_{name}": value for name, value in POLARS.items()}
    values |= {
        "json": {"s": {f"x{i}" for i in range(40)}, "t": (1, 2)},
        "text": "é",
        "bytes": b"\x00",
        "array": xy()[0],
        "collection": {"x": xy()[0], "f": FRAMES["text"]},
    }
    refs = {name: store.save(value) for name, value in values.items()}
    assert all(ref.canonical for ref in refs.values())
    return {name: ref.digest for name, ref in refs.items()}


def test_the_same_values_have_the_same_digests_in_another_process(tmp_path: Path) -> None:
    # Fitted once: with several OpenMP threads, boosting sums in another order each time, and is another model.
    models = {name: make() for name, make in MODELS.items()}
    there_home = tmp_path / "there"
    there_home.mkdir()
    (there_home / "models").write_bytes(pickle.dumps(models))
    here = digests(ArtifactStore(open_blobs(str(tmp_path / "here"), home=tmp_path / "here"), inline_limit=0), models)
    answer = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent), str(there_home)],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(answer.stdout.splitlines()[-1])
    assert there == here
