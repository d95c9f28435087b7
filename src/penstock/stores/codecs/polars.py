"""polars frames and series as Arrow IPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core.errors import CodecError
from .arrow_file import arrow, read_table, table_meta, write_table
from .family import family, library

_KIND = b"penstock.polars"


class PolarsCodec:
    """A polars DataFrame or Series; a dtype that Arrow would change is refused. Decoded memory-mapped."""

    name = "polars"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return family(value) == "polars" and type(value).__name__ in ("DataFrame", "Series")

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        import polars as pl

        arrow("storing a polars frame", "polars")
        kind = type(value).__name__
        frame = value.to_frame() if kind == "Series" else value
        try:
            table = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
            raise CodecError(f"a polars {kind} has no Arrow form: {error}") from error
        table = table.replace_schema_metadata({_KIND: kind.encode()})
        write_table(table, to)
        back = _frame(read_table(to))
        if back.schema != frame.schema or not (_is_plain(frame) or back.equals(frame)):
            raise CodecError(f"a polars {kind} would come back from Arrow with other types: {frame.schema}")
        return table_meta(kind, table, frame.height)

    def decode(self, source: Path, annotation: Any) -> Any:
        arrow("a stored polars frame", "polars")
        library("polars", extra="polars", why="a stored polars frame")
        table = read_table(source)
        frame = _frame(table)
        return frame.to_series() if table.schema.metadata[_KIND] == b"Series" else frame


def _is_plain(frame: Any) -> bool:
    """Whether Arrow is known to keep every part: numbers and booleans, which need not be compared to be believed."""
    return all((dtype.is_numeric() and not dtype.is_decimal()) or str(dtype) == "Boolean" for dtype in frame.dtypes)


def _frame(table: Any) -> Any:
    import polars as pl

    return pl.from_arrow(table, rechunk=False)
