"""Calls that make a result depend on something that no key covers, and that nothing else can notice.

The clock and the kernel's random numbers raise no event; neither do readers written in C and Rust. So they are found by
name, in the code that a step reaches. `time.monotonic`, `perf_counter` and `process_time` only measure; they are no
input.
"""

from __future__ import annotations

from ...ports.records import HiddenKind

_CLOCK = frozenset(
    {f"time.{name}" for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime")}
    | {f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")}
    | {"datetime.date.today"}
    | {f"pandas.Timestamp.{name}" for name in ("now", "utcnow", "today")}
)
_RANDOM = frozenset(
    {"os.urandom", "os.getrandom", "random.SystemRandom", "uuid.uuid1", "uuid.uuid4"}
    | {f"secrets.{name}" for name in ("choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe")}
)
# Seeded by the kernel where they are given no seed.
_UNSEEDED = frozenset({"numpy.random.default_rng", "numpy.random.RandomState", "random.Random"})
_READERS = frozenset(
    {f"pandas.read_{kind}" for kind in ("parquet", "feather", "orc", "hdf")}
    | {f"polars.read_{kind}" for kind in ("csv", "parquet", "ipc", "ndjson", "json", "delta", "avro")}
    | {f"polars.scan_{kind}" for kind in ("csv", "parquet", "ipc", "ndjson", "delta", "iceberg")}
    | {f"pyarrow.parquet.{name}" for name in ("read_table", "read_pandas", "ParquetFile", "ParquetDataset")}
    | {f"pyarrow.{name}" for name in ("memory_map", "OSFile")}
    | {"pyarrow.csv.read_csv", "pyarrow.json.read_json", "pyarrow.orc.read_table", "pyarrow.feather.read_table"}
    | {"pyarrow.feather.read_feather", "pyarrow.dataset.dataset", "h5py.File", "cv2.imread", "netCDF4.Dataset"}
    | {"xgboost.DMatrix", "fastparquet.ParquetFile", "pyreadstat.read_sas7bdat"}
)
_DATABASES = frozenset(
    {"duckdb.connect", "duckdb.query", "duckdb.sql", "duckdb.read_csv", "duckdb.read_parquet", "pyodbc.connect"}
    | {"psycopg.connect", "psycopg2.connect", "MySQLdb.connect", "oracledb.connect", "adbc_driver_postgresql.connect"}
)
_MODULES = frozenset(name.partition(".")[0] for name in _CLOCK | _RANDOM | _UNSEEDED | _READERS | _DATABASES)


def kind_of_call(name: str) -> HiddenKind | None:
    """What a dotted name outside the project reads, if it is one of these.

    >>> kind_of_call("datetime.datetime.now"), kind_of_call("time.perf_counter")
    ('clock', None)
    """
    if name.partition(".")[0] not in _MODULES:
        return None
    if name in _CLOCK:
        return "clock"
    if name in _RANDOM:
        return "random"
    if name in _READERS:
        return "file"
    return "network" if name in _DATABASES else None


def is_unseeded(name: str) -> bool:
    """Whether this, called without an argument, takes its seed from the kernel."""
    return name in _UNSEEDED


BARE = "()"  # the literal of a mention that is a call without arguments
BARE_NAMES = frozenset(name.rpartition(".")[2] for name in _UNSEEDED)
