"""Where a server's model comes from, and one loaded version of it, ready to answer."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..core.clock import Clock
from ..core.errors import ServingError
from ..models.reference import ModelReference, parse_model_reference
from ..ports.models import Column, ModelRegistry, ModelSignature, ModelVersion
from .rows import RowReader


class ModelSource(Protocol):
    """A reference that may move, and what it points at."""

    reference: ModelReference

    def current(self) -> ModelVersion:
        """The version now. Raises NotFoundError or RegistryError."""
        ...

    def load(self, version: ModelVersion) -> Any: ...

    def signature(self, version: ModelVersion) -> ModelSignature | None: ...


class RegistrySource:
    """A reference such as "models:/churn@champion" in a registry."""

    def __init__(self, registry: ModelRegistry, reference: str) -> None:
        self.reference = parse_model_reference(reference)
        self._registry = registry

    def current(self) -> ModelVersion:
        return self._registry.get(*self.reference)

    def load(self, version: ModelVersion) -> Any:
        return self._registry.load(version)

    def signature(self, version: ModelVersion) -> ModelSignature | None:
        return self._registry.signature(version)


class Answer(NamedTuple):
    """Predictions in the order of the rows; probabilities in the order of `Live.classes`, where the model has them."""

    predictions: list[Any]
    probabilities: list[Any] | None


class Live:
    """One version, loaded and warm. A request that started on it finishes on it."""

    def __init__(self, version: ModelVersion, model: Any, signature: ModelSignature, *, max_rows: int, at: int) -> None:
        self.version = version
        self.model = model
        self.signature = signature
        self.reader = RowReader(signature.columns, max_rows=max_rows)
        self.since = at  # microseconds UTC
        self.classes = _plain(getattr(model, "classes_", None))

    def predict(self, table: Any) -> Answer:
        if not len(table):
            return Answer([], [] if hasattr(self.model, "predict_proba") else None)
        predictions = _plain(self.model.predict(table))
        if not hasattr(self.model, "predict_proba"):
            return Answer(predictions, None)
        return Answer(predictions, _plain(self.model.predict_proba(table)))

    def answer(self, body: bytes) -> Answer:
        """Raises RequestError."""
        return self.predict(self.reader.read(body))


def load_live(source: ModelSource, version: ModelVersion, *, max_rows: int, clock: Clock) -> Live:
    """Load a version fully and let it answer its own example once, so that the first caller waits for nothing.

    Raises: ServingError where it cannot be served, and what the registry raises where it cannot be loaded.
    """
    model = source.load(version)
    signature = source.signature(version) or _from_names(model)
    label = f"{version.name} version {version.version}"
    if signature is None:
        raise ServingError(
            f"{label} does not say which columns it reads",
            hint="register it with an example: register('…', model, example=table)",
        )
    live = Live(version, model, signature, max_rows=max_rows, at=clock.now_us())
    if signature.example:
        import msgspec

        answer = live.answer(msgspec.json.encode({"rows": signature.example[:1]}))
        if len(answer.predictions) != 1:
            raise ServingError(f"{label} gave {len(answer.predictions)} predictions for the one row of its example")
    return live


def broken_callers(old: ModelSignature, new: ModelSignature) -> list[str]:
    """What callers of the old version do not send and the new one needs; empty where it may take over."""
    before = {column.name: column for column in old.columns}
    problems = []
    for column in new.columns:
        known = before.get(column.name)
        if known is None:
            if not column.optional:
                problems.append(f"it needs a column '{column.name}'")
        elif not _widens(known.type, column.type):
            problems.append(f"column '{column.name}' is {column.type} and was {known.type}")
        elif known.optional and not column.optional:
            problems.append(f"column '{column.name}' may no longer be null")
    return problems


_WIDER = {"integer": {"long", "float", "double"}, "long": {"double", "float"}, "float": {"double"}, "double": {"float"}}


def _widens(old: str, new: str) -> bool:
    return new in (old, "any") or new in _WIDER.get(old, set())


def _from_names(model: Any) -> ModelSignature | None:
    """Registered without an example: the names it was fitted on, as numbers."""
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else ModelSignature(tuple(Column(str(name), "double") for name in names))


def _plain(values: Any) -> Any:
    """Arrays as lists; a model with several outputs gives a list of arrays."""
    if isinstance(values, list):
        return [_plain(each) for each in values]
    return values.tolist() if hasattr(values, "tolist") else values
