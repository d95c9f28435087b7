"""scikit-learn estimators as skops files: no pickle inside, the same bytes every time, loaded by an allow-list."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from ...core.canonical import digest_bytes
from ...core.errors import ArtifactError, CodecError
from .family import family, library
from .numpy import without_padding

# Values that cannot be told apart from an equal twin, so whether two places share one is an accident of the process.
_LEAVES = frozenset({"JsonNode", "TypeNode", "FunctionNode", "TupleNode", "BytesNode", "DTypeNode", "SliceNode"})
_ID_OF_WORDS = "_stop_words_id"  # a text vectorizer remembers an address; without it, it only checks its words again
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SHOWN_CHARACTERS = 80


class EstimatorCodec:
    """A scikit-learn estimator or pipeline of estimators.

    skops writes object ids and random file names; they are renumbered and named by content, sets are sorted, and the
    gaps between fields of tree nodes are zeroed, so that the digest is the model's. The file is read back and written
    again before it counts; an estimator that would not survive this, or holds a class of the user's, is refused.
    """

    name = "skops"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return family(value) == "sklearn" and not isinstance(value, type) and hasattr(value, "get_params")

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        content = _dump(value)
        refused = _untrusted(content)
        if refused:
            raise CodecError(f"{type(value).__name__} holds types that skops should not load: {', '.join(refused)}")
        if _dump(_load(content, _named(content))) != content:
            raise CodecError(f"{type(value).__name__} would come back from skops changed")
        to.write_bytes(content)
        params = {name: repr(each)[:_SHOWN_CHARACTERS] for name, each in sorted(value.get_params(deep=False).items())}
        kind = type(value)
        return {"type": kind.__name__, "class": f"{kind.__module__}.{kind.__qualname__}", "params": params}

    def decode(self, source: Path, annotation: Any) -> Any:
        content = source.read_bytes()
        refused = _untrusted(content)
        if refused:
            raise ArtifactError(
                f"the stored model holds types outside the allow-list: {', '.join(refused)}",
                hint="models of your own classes are stored with cloudpickle; this file was not written by penstock, "
                "or by another version of scikit-learn",
            )
        return _load(content, _named(content))


# -- skops ------------------------------------------------------------------------------------------------------------


def _skops() -> Any:
    library("sklearn", extra="sklearn", why="a scikit-learn model")
    return library("skops.io", extra="sklearn", why="a scikit-learn model")


def _dump(value: Any) -> bytes:
    skops = _skops()
    from skops.io.exceptions import UnsupportedTypeException

    try:
        return canonical_skops(skops.dumps(value))
    except (UnsupportedTypeException, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CodecError(f"{type(value).__name__} has no skops form: {error}") from error


def _load(content: bytes, trusted: list[str]) -> Any:
    skops = _skops()
    from skops.io.exceptions import UnsupportedTypeException, UntrustedTypesFoundException

    try:
        return skops.loads(content, trusted=trusted)
    except UntrustedTypesFoundException as error:
        raise ArtifactError(f"a stored model is not safe to load: {error}", hint="run the step again") from error
    except (UnsupportedTypeException, TypeError, ValueError, AttributeError, KeyError, ImportError) as error:
        raise CodecError(
            f"a stored model cannot be read: {error}",
            hint="install the version of scikit-learn it was stored with, or run the step again with --no-cache",
        ) from error


def _named(content: bytes) -> list[str]:
    """The types a file asks for beyond those that skops trusts itself."""
    named: list[str] = _skops().get_untrusted_types(data=content)
    return named


def _untrusted(content: bytes) -> list[str]:
    try:
        return [name for name in _named(content) if not _allowed(name)]
    except (TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CodecError(f"a stored model is not a skops file: {error}", hint="run the step again") from error


# Packages of scikit-learn whose classes hold fitted state. A class must be *defined* where the file says: modules also
# show what they import (sklearn.utils._testing shows subprocess.check_output), and that must not be reachable.
_STATE = (
    "sklearn._loss.", "sklearn.calibration", "sklearn.cluster.", "sklearn.compose.", "sklearn.covariance.",
    "sklearn.cross_decomposition.", "sklearn.decomposition.", "sklearn.discriminant_analysis", "sklearn.ensemble.",
    "sklearn.feature_extraction.", "sklearn.feature_selection.", "sklearn.gaussian_process.", "sklearn.impute.",
    "sklearn.isotonic", "sklearn.kernel_approximation", "sklearn.kernel_ridge", "sklearn.linear_model.",
    "sklearn.manifold.", "sklearn.metrics.", "sklearn.mixture.", "sklearn.model_selection.", "sklearn.multiclass",
    "sklearn.multioutput", "sklearn.naive_bayes", "sklearn.neighbors.", "sklearn.neural_network.", "sklearn.pipeline",
    "sklearn.preprocessing.", "sklearn.random_projection", "sklearn.semi_supervised.", "sklearn.svm.", "sklearn.tree.",
)  # fmt: skip
_FUNCTIONS = ("sklearn.feature_selection.", "sklearn.metrics.")  # score functions, as in SelectKBest(f_classif)
_EXACTLY = frozenset({"numpy.dtype", "sklearn.utils._bunch.Bunch", "scipy.interpolate._interpolate.interp1d"})


def _allowed(name: str) -> bool:
    if name in _EXACTLY:
        return True
    module, _, attribute = name.rpartition(".")
    sparse = module.startswith("scipy.sparse._") and attribute.endswith(("_matrix", "_array"))
    if not sparse and not (module + ".").startswith(_STATE) and module not in _STATE:
        return False
    if ".tests" in module or ".datasets" in module:
        return False
    from importlib import import_module
    from types import FunctionType

    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    if getattr(found, "__module__", None) != module or getattr(found, "__name__", None) != attribute:
        return False
    return isinstance(found, type) or (isinstance(found, FunctionType) and module.startswith(_FUNCTIONS))


# -- the same bytes every time ----------------------------------------------------------------------------------------


def canonical_skops(content: bytes) -> bytes:
    """A skops file rewritten so that equal models give equal bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        schema = json.loads(source.read("schema.json"))
        renamed: dict[str, str] = {}
        files: dict[str, bytes] = {}
        for entry in source.namelist():
            if entry == "schema.json" or entry in renamed:
                continue
            body = source.read(entry)
            suffix = entry.rpartition(".")[2]
            if suffix == "npy":
                body = _clean_array(body)
            renamed[entry] = f"{digest_bytes(body)[:32]}.{suffix}"
            files[renamed[entry]] = body
    _sort_sets(schema)
    _renumber(schema, {}, renamed)
    files["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for entry in sorted(files):
            about = zipfile.ZipInfo(entry, _EPOCH)
            about.create_system = 3
            about.external_attr = 0o444 << 16
            target.writestr(about, files[entry])
    return buffer.getvalue()


def _clean_array(body: bytes) -> bytes:
    import numpy as np

    array = np.load(io.BytesIO(body), allow_pickle=False)
    if array.dtype.names is None:
        return body
    buffer = io.BytesIO()
    np.save(buffer, without_padding(array), allow_pickle=False)
    return buffer.getvalue()


def _sort_sets(node: Any) -> None:
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _sort_sets(each)
    if isinstance(node, dict) and node.get("__loader__") == "SetNode":
        node["content"].sort(key=lambda each: json.dumps(_without_ids(each), sort_keys=True))


def _without_ids(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_ids(each) for key, each in node.items() if key not in ("__id__", "file")}
    return [_without_ids(each) for each in node] if isinstance(node, list) else node


def _renumber(node: Any, ids: dict[int, int], renamed: dict[str, str]) -> None:
    if isinstance(node, list):
        for each in node:
            _renumber(each, ids, renamed)
    if not isinstance(node, dict):
        return
    if "__loader__" in node:
        scalar = node["__loader__"] == "NdArrayNode" and node["__class__"] != "ndarray"
        if node["__loader__"] in _LEAVES or scalar:
            node.pop("__id__", None)
        elif node.get("__id__") is not None:
            node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
        if isinstance(node.get("content"), dict) and isinstance(node["content"].get(_ID_OF_WORDS), dict):
            node["content"][_ID_OF_WORDS]["content"] = "null"
        if isinstance(node.get("file"), str):
            node["file"] = renamed[node["file"]]
    for each in node.values():
        _renumber(each, ids, renamed)
