"""One Arrow table as an uncompressed IPC file whose bytes depend on the value alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .ahead import open_ahead
from .family import library

_SHOWN_ROWS, _SHOWN_CHARACTERS = 5, 40


def arrow(why: str, extra: str) -> Any:
    return library("pyarrow", extra=extra, why=why)


def write_table(table: Any, to: Path) -> None:
    """One record batch, no compression, metadata in a fixed order: equal tables give equal files.

    Chunks are joined and what lies under nulls is rewritten, for both depend on how a table was made.
    """
    import pyarrow as pa
    from pyarrow import ipc

    columns = [_canonical_column(column) for column in table.columns]
    metadata = table.schema.metadata
    schema = table.schema.with_metadata({key: metadata[key] for key in sorted(metadata)} if metadata else None)
    table = pa.Table.from_arrays(columns, schema=schema) if columns else table.replace_schema_metadata(schema.metadata)
    options = ipc.IpcWriteOptions(compression=None, use_threads=False)
    with open_ahead(to) as file, ipc.new_file(file, schema, options=options) as writer:
        writer.write_table(table)


def read_table(source: Path) -> Any:
    """The table, memory-mapped: its columns are read from disk when they are used."""
    import pyarrow as pa
    from pyarrow import ipc

    return ipc.open_file(pa.memory_map(str(source), "r")).read_all()


def table_meta(kind: str, table: Any, rows: int) -> dict[str, Any]:
    """Columns with their types and the first rows as text."""
    shown = table.slice(0, _SHOWN_ROWS).to_pylist() if len(set(table.column_names)) == table.num_columns else []
    return {
        "type": kind,
        "rows": rows,
        "columns": [[field.name, str(field.type)] for field in table.schema],
        "preview": [[str(cell)[:_SHOWN_CHARACTERS] for cell in row.values()] for row in shown],
    }


def _canonical_column(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_canonical(column):
        return column
    # A fresh gather writes zeros under nulls and starts every bitmap at bit 0.
    if column.null_count or column.num_chunks > 1 or any(chunk.offset for chunk in column.chunks):
        try:
            column = pc.take(column, pa.array(range(0), pa.int64()) if not len(column) else _every(len(column)))
        except pa.ArrowNotImplementedError:
            pass
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined], type=column.type)


def _is_canonical(column: Any) -> bool:
    """Whether a column's bytes are nothing but its values already: then it is written from where it lies, uncopied.

    Whole bytes per value, no nulls, one chunk from its buffer's first value on. Not so booleans, whose last byte has
    bits to spare, and text, whose offsets need not begin at 0.
    """
    import pyarrow.types as kinds

    kind = column.type
    numbers = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_temporal(kind)
    return numbers and column.num_chunks == 1 and not column.null_count and not column.chunk(0).offset


def _every(count: int) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.array(np.arange(count))
