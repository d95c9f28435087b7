"""Great Expectations at a step's boundary: `Annotated[pandas.DataFrame, Expectations(suite)]`."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import InvalidDataError, did_you_mean
from ..graph import Quarantine
from ..ports.boundary import Checked
from ..ports.context import context
from .annotations import alternatives, remarks
from .extras import need
from .files import read_file
from .pandas_rows import frame_of_pandas, positional, read_as
from .rows import Fault, Faults, refuse, refuse_too_many, settle, shown

_ONE_AT_A_TIME = threading.Lock()  # the library keeps one current context per process
_NUMERIC_BOUNDS = ("min_value", "max_value")


class Expectations:
    """A Great Expectations suite for an annotation: the suite itself, its JSON as a dict, or the path of its JSON file.

    A relative path resolves against the current directory when the check runs. A text column under an expectation with
    numeric bounds is read as numbers; texts that are none are bad rows. An expectation with `mostly` that holds
    overall leaves its exceptions in.
    """

    def __init__(self, suite: Any) -> None:
        self.suite = suite

    def __repr__(self) -> str:
        name = self.suite if isinstance(self.suite, (str, os.PathLike)) else _name_of(self.suite)
        return f"Expectations({os.fspath(name)!r})"


class ExpectationsCheck:
    """Validates tables annotated with `Expectations`; imports the library only when it does."""

    def handles(self, annotation: Any) -> bool:
        return any(isinstance(each, Expectations) for each in remarks(annotation))

    def check(self, value: Any, annotation: Any, *, where: str, policy: Quarantine | None) -> Checked:
        if value is None and type(None) in alternatives(annotation):
            return Checked(value)
        wanted = next(each for each in remarks(annotation) if isinstance(each, Expectations))
        pandas = need("pandas", extra="pandas", purpose="validating a table")
        suite = _suite(wanted, where)
        if not isinstance(value, pandas.DataFrame):
            raise refuse(
                [f"expected a pandas DataFrame, got {type(value).__name__}"], where=where, schema=str(suite.name)
            )
        with _ONE_AT_A_TIME:
            return _check(value, suite, where, policy)


def _check(value: Any, suite: Any, where: str, policy: Quarantine | None) -> Checked:
    """Validate, set bad rows aside, and again, so that expectations of the whole table judge the rows that stay."""
    name = str(suite.name)
    table = positional(value)
    missing = _missing_columns(suite, table)
    if missing:
        raise refuse(missing, where=where, schema=name)
    faults = Faults()
    pandas = need("pandas", extra="pandas", purpose="validating a table")
    for column in _numeric_columns(suite):
        written = table[column]
        read, found = read_as(written, "number")
        faults.add(found)
        if read is not written:
            table = table.assign(**{column: pandas.to_numeric(read)})
    frame = frame_of_pandas()
    if faults.rows:  # a row is set aside with all its reasons, not only with the first that was found
        faults.enrich(_validate(suite, table)[0])
    while True:
        bad = set(faults.rows)
        kept = [row for row in range(len(table)) if row not in bad]
        current = table.iloc[kept]
        rows, whole = _validate(suite, current)
        faults.add(rows)
        if not rows:
            break
    refuse_too_many(faults, len(table), where=where, schema=name, policy=policy)
    if whole:
        raise refuse(whole, where=where, schema=name)
    good = current.copy()
    good.index = value.index[kept]
    return settle(value, good, faults, frame=frame, schema=name)


def _validate(suite: Any, table: Any) -> tuple[list[Fault], list[str]]:
    """Faults of rows, and failed expectations that no row can be blamed for."""
    batch = _batch(table)
    rows: list[Fault] = []
    whole: list[str] = []
    result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    for each in result.results:
        if each.success:
            continue
        config = each.expectation_config
        column = str(config.kwargs.get("column", ""))
        indexes = each.result.get("unexpected_index_list")
        if indexes:
            check = _check_text(config)
            for label, got in zip(indexes, each.result.get("unexpected_list") or [None] * len(indexes), strict=True):
                rows.append(
                    Fault(int(label), column, check, shown(got) if column and got is not None and got == got else None)
                )
        else:
            whole.append(_whole_text(each, column))
    return rows, whole


def _batch(table: Any) -> Any:
    """The table in a context of its own, in memory; nothing is sent anywhere or drawn on the screen."""
    gx = _library()
    types = need("great_expectations.data_context.types.base", extra="gx", purpose="validating with a suite")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = types.ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("penstock").add_dataframe_asset("table")
    return asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": table.copy()})


def _library() -> Any:
    """Great Expectations, without telemetry, and without warnings about the Python modules it imports itself."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return need("great_expectations", extra="gx", purpose="validating with a suite")


def _suite(wanted: Expectations, where: str) -> Any:
    """A private suite each time: the library writes into the ones it validates."""
    gx = _library()
    suite = wanted.suite
    if isinstance(suite, (str, os.PathLike)):
        path = Path(suite)
        try:
            suite, version = read_file(path, str(path), lambda found: msgspec.json.decode(found.read_bytes()))
            context().observe("file", os.fspath(wanted.suite), version)  # another suite, another verdict
        except FileNotFoundError:
            known = [each.name for each in path.parent.glob("*.json")] if path.parent.is_dir() else []
            raise InvalidDataError(
                f"{where}: there is no suite '{path}'", hint=did_you_mean(path.name, known)
            ) from None
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidDataError(f"{where}: '{path}' is not a suite: {error}", hint="export it again") from error
    content = suite if isinstance(suite, dict) else suite.to_json_dict()
    allowed = ("name", "expectations", "suite_parameters", "meta", "notes")
    built = gx.ExpectationSuite(**{key: content[key] for key in allowed if content.get(key) is not None})
    if len(built.expectations) != len(content.get("expectations", ())):
        known_types = {each.expectation_type for each in built.expectations}
        lost = [each["type"] for each in content["expectations"] if each.get("type") not in known_types]
        raise InvalidDataError(
            f"{where}: the suite '{built.name}' holds expectations that Great Expectations does not accept: "
            + ", ".join(lost or ["wrong arguments"]),
            hint="its log names each; check them against the version installed",
        )
    return built


def _name_of(suite: Any) -> str:
    return str(suite.get("name") if isinstance(suite, dict) else getattr(suite, "name", suite))


def _columns_of(config: Any) -> list[str]:
    kwargs = config.kwargs
    named = [kwargs[key] for key in ("column", "column_A", "column_B") if kwargs.get(key)]
    return [*named, *kwargs.get("column_list", ())]


def _missing_columns(suite: Any, table: Any) -> list[str]:
    known = [str(each) for each in table.columns]
    asked = {name for each in suite.expectations for name in _columns_of(each.configuration)}
    return [f"column '{name}' is missing; {did_you_mean(name, known)}" for name in sorted(asked - set(known))]


def _numeric_columns(suite: Any) -> list[str]:
    found = []
    for each in suite.expectations:
        kwargs = each.configuration.kwargs
        bounds = [kwargs.get(key) for key in _NUMERIC_BOUNDS]
        numeric = any(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in bounds)
        if numeric and "column" in kwargs and "value_lengths" not in each.expectation_type:
            found.append(str(kwargs["column"]))
    return list(dict.fromkeys(found))


def _check_text(config: Any) -> str:
    """The expectation and what it was given, as in the suite."""
    left_out = ("column", "batch_id", "severity")
    given = ", ".join(
        f"{key}={value}" for key, value in config.kwargs.items() if key not in left_out and value is not None
    )
    text = str(config.type) if not given else f"{config.type}({given})"
    return text if len(text) <= 120 else text[:119] + "…"


def _whole_text(result: Any, column: str) -> str:
    text = (f"column '{column}': " if column else "") + _check_text(result.expectation_config) + " failed"
    if "observed_value" in result.result:
        return f"{text}: observed {shown(result.result['observed_value'])}"
    for entry in (result.exception_info or {}).values():
        if isinstance(entry, dict) and entry.get("exception_message"):
            return f"{text}: {entry['exception_message']}"
    return text
