"""A scikit-learn model as the folder that MLflow calls a model, and back, without running anybody's code.

The format is skops: named in the record, checked against our list of trusted types before anything comes to life.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core.canonical import digest_file
from ..core.errors import MissingExtraError, RegistryError
from ..ports.models import Column, ModelSignature
from .quiet import quiet
from .trusted import TRUSTED_TYPES, refuse_untrusted, untrusted_types_in

MODEL_FILE = "model.skops"
_EXAMPLE_ROWS = 5
_TYPES = {"boolean", "integer", "long", "float", "double", "string", "datetime"}


def features_of(model: Any, table: Any) -> Any:
    """The columns of the table that the model was fitted on, in its order; the whole table where it does not say."""
    names = getattr(model, "feature_names_in_", None)
    if names is None or not hasattr(table, "columns"):
        return table
    missing = [str(name) for name in names if name not in table.columns]
    if missing:
        raise RegistryError(
            f"the example has no column {', '.join(repr(name) for name in missing)}, which the model reads",
            hint="give rows like those the model was fitted on",
        )
    return table[[str(name) for name in names]]


def write_model(model: Any, folder: Path, *, example: Any, described: Any, trusted: Sequence[str], name: str) -> str:
    """Write the folder and return the digest of the model's file. `described` is MLflow's record of the model.

    Raises: RegistryError where the model is not an estimator, or contains types that nobody trusts.
    """
    try:
        from sklearn.base import BaseEstimator
    except ImportError as error:
        raise MissingExtraError("registering a model needs scikit-learn and skops", extra="sklearn") from error
    if not isinstance(model, BaseEstimator):
        raise RegistryError(
            f"{name}: a {type(model).__qualname__} is not a scikit-learn estimator",
            hint="the registry stores scikit-learn estimators and pipelines; wrap the model in one",
        )
    import mlflow.sklearn
    import skops.io
    from mlflow.exceptions import MlflowException
    from mlflow.models import infer_signature

    rows = features_of(model, example) if example is not None else None
    with quiet():
        signature = infer_signature(rows, model.predict(rows[:_EXAMPLE_ROWS])) if rows is not None else None
        try:
            unknown = skops.io.get_untrusted_types(data=skops.io.dumps(model))
        except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise RegistryError(
                f"{name}: the model cannot be stored in the skops format: {error}",
                hint="functions and classes it contains must be importable from a module",
            ) from error
        refuse_untrusted(unknown, trusted, name)
        try:
            mlflow.sklearn.save_model(
                model,
                str(folder),
                mlflow_model=described,
                serialization_format="skops",
                signature=signature,
                input_example=None if rows is None else rows[:_EXAMPLE_ROWS],
                # Named, because finding them out takes MLflow three seconds and another process.
                pip_requirements=[f"{each}=={version(each)}" for each in ("scikit-learn", "skops", "numpy", "pandas")],
                skops_trusted_types=sorted(set(unknown) & (TRUSTED_TYPES | set(trusted))),
            )
        except MlflowException as error:
            raise RegistryError(f"{name}: MLflow could not store the model: {error}") from error
    return digest_file(str(folder / MODEL_FILE))[0]


def read_model(folder: Path, *, digest: str | None, trusted: Sequence[str], allow_pickle: bool, name: str) -> Any:
    """Bring a stored model to life, if it is stored safely or the registry is trusted.

    Raises: RegistryError where its bytes are not those registered, its types are unknown, or its format runs code.
    """
    from mlflow.models import Model

    flavors = Model.load(str(folder)).flavors
    sklearn = flavors.get("sklearn", {})
    if sklearn.get("serialization_format") == "skops":
        return _read_skops(folder / str(sklearn.get("pickled_model", MODEL_FILE)), digest, trusted, name)
    if not allow_pickle:
        stored = sklearn.get("serialization_format") or ", ".join(sorted(flavors)) or "an unknown format"
        raise RegistryError(
            f"{name} is stored as {stored}, which can run code when it is read",
            hint="register it again with penstock, or set allow_pickle = true if you trust everyone who can register",
        )
    import mlflow.pyfunc
    import mlflow.sklearn

    with quiet():
        return mlflow.sklearn.load_model(str(folder)) if sklearn else mlflow.pyfunc.load_model(str(folder))


def _read_skops(file: Path, digest: str | None, trusted: Sequence[str], name: str) -> Any:
    if not file.is_file():
        raise RegistryError(f"{name}: its file {file.name} is gone from the registry's artifacts")
    if digest is not None and digest_file(str(file))[0] != digest:
        raise RegistryError(
            f"{name}: the bytes of {file.name} are not those that were registered",
            hint="somebody changed the registry's artifacts; register the model again",
        )
    try:
        import skops.io
    except ImportError as error:
        raise MissingExtraError("loading a model needs scikit-learn and skops", extra="sklearn") from error
    found = untrusted_types_in(file)
    refuse_untrusted(found, trusted, name)
    return skops.io.load(str(file), trusted=found)


def read_signature(folder: Path) -> ModelSignature | None:
    """What the stored model asks of a row, and its example rows; None where it does not say by column."""
    from mlflow.models import Model

    described = Model.load(str(folder))
    inputs = described.signature.inputs if described.signature else None
    if inputs is None or inputs.is_tensor_spec():
        return None
    columns = []
    for each in inputs.inputs:
        kind = getattr(each.type, "name", "any")
        columns.append(Column(str(each.name), kind if kind in _TYPES else "any", optional=not each.required))
    return ModelSignature(tuple(columns), _example(folder))


def _example(folder: Path) -> tuple[dict[str, Any], ...]:
    """MLflow keeps the example as {"columns": […], "data": [[…]]}."""
    file = folder / "input_example.json"
    if not file.is_file():
        return ()
    stored = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(stored, dict) or "columns" not in stored:
        return ()
    return tuple(dict(zip(stored["columns"], row, strict=True)) for row in stored["data"])
