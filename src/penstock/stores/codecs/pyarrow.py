"""pyarrow tables as Arrow IPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .arrow_file import arrow, read_table, table_meta, write_table
from .family import family


class ArrowCodec:
    """A pyarrow.Table, schema metadata included; decoded memory-mapped (Arrow data cannot be changed in place)."""

    name = "arrow"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return family(value) == "pyarrow" and type(value).__name__ == "Table"

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        write_table(value, to)
        return table_meta("Table", value, value.num_rows)

    def decode(self, source: Path, annotation: Any) -> Any:
        arrow("a stored Arrow table", "pandas")
        return read_table(source)
