"""A table of 1,000,000 x 10 float64 through five steps, against the same work with plain Arrow files.

Both sides run in one process, in turn: five times they scale the table and keep it. The floor writes an uncompressed
Arrow file, flushes it (fsync) and reads it again, memory-mapped, into what the step needs; it has no digest, no run log
and no names that other processes could find. What a run itself costs (tracing, fingerprints, the run log: about 20 ms
of CPU) is counted; starting the interpreter and the libraries is counted on neither side. Where others take the
processors, the ratio of wall times nears that of CPU times: ten digests of 80 MB are as much CPU as the whole floor,
and hide behind the disk only where a processor is free. `python`, the environment with the core alone, has no tables:
the steps run in the environment of this script.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from .report import RUNS, Row, environment, row

KINDS = ("pandas", "polars", "pyarrow")
TABLE_BYTES = 1_000_000 * 10 * 8

# argv: kind, number of turns, and "time", "again" (every read is digested anew, as it is in a process of its own),
# "memory floor" or "memory subject"
SCRIPT = """
import gc, json, os, sys, threading, time
from pathlib import Path
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc
from penstock import pipeline, step

kind, turns, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
here = Path.cwd()
rng = np.random.default_rng(7)
numbers = {f"c{n}": rng.random(1_000_000) for n in range(10)}
start = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[kind](numbers)
del numbers


def scaled(table):
    if kind == "pandas":
        return table * 1.01
    if kind == "polars":
        return table * 1.01
    return pa.table({name: pc.multiply(column, 1.01) for name, column in zip(table.column_names, table.columns)})


def arrow(table):
    if kind == "pandas":
        return pa.Table.from_pandas(table, nthreads=1)
    return table.to_arrow() if kind == "polars" else table


def again(table):
    if kind == "pandas":
        return table.to_pandas()
    return pl.from_arrow(table) if kind == "polars" else table


@step
def scale(table: object) -> object:
    return scaled(table)


@step
def first() -> object:
    return scaled(start)


@pipeline
def five() -> object:
    table = first()
    for name in ("b", "c", "d", "e"):
        table = scale.named(name)(table)
    return table


made = 0
def floor():
    global made
    table, sizes = scaled(start), 0
    for position in range(5):
        if position:
            table = scaled(table)
        made += 1
        path = here / f"floor-{made}.arrow"
        stored = arrow(table)
        with ipc.new_file(str(path), stored.schema) as file:
            file.write_table(stored)
        del stored, table
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        sizes += path.stat().st_size
        table = again(ipc.open_file(pa.memory_map(str(path))).read_all())
    return sizes


class Forgetful(set):
    def add(self, stamp):
        pass


def subject():
    run = five.using(workers=1, cache=False, echo=False).run()
    last = run.output
    return sum(each.outputs["output"].size_bytes for each in run.steps)


def forget():
    for path in here.glob("floor-*"):
        path.unlink()
    objects = here / ".penstock" / "artifacts" / "objects"
    for path in objects.glob("*/*"):
        path.unlink()
    os.sync()  # what the file system has to do about it is neither side's work


if what == "again":
    from penstock.stores.blobs.local import LocalBlobs
    real = LocalBlobs.__init__
    def forgetful(self, *given, **named):
        real(self, *given, **named)
        self._verified = Forgetful()
    LocalBlobs.__init__ = forgetful


def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024


def peak(work):
    gc.collect()
    before, highest, done = anonymous(), 0, threading.Event()
    def watch():
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, anonymous())
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:  # or a side that fails would be watched for ever
        done.set()
        watcher.join()
    return highest - before


if what.startswith("memory"):
    print(json.dumps(peak(floor if what == "memory floor" else subject)))
    forget()
    sys.exit()
found = {"floor": [], "subject": [], "cpu floor": [], "cpu subject": []}
sides = [("floor", floor), ("subject", subject)]
for turn in range(turns + 1):
    sides.reverse()  # so that neither always follows the other
    for name, work in sides:
        forget()
        wall, cpu = time.perf_counter(), time.process_time()
        found[name + " bytes"] = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if turn:  # the first one warms up
            found[name].append(wall)
            found["cpu " + name].append(cpu)
forget()
print(json.dumps(found))
"""


def rows(python: Path, folder: Path) -> list[Row]:
    """Ratios to the floor, per library; `python` is not used (see above)."""
    return [each for kind in KINDS for each in rows_of(kind, folder)]


def rows_of(kind: str, folder: Path) -> list[Row]:
    quick, anew = measured(kind, folder, "time"), measured(kind, folder, "again")
    tables = {name: measured(kind, folder, f"memory {name}") / TABLE_BYTES for name in ("floor", "subject")}
    what = f"1,000,000 x 10 float64 through 5 steps, {kind}"
    wall, cpu = ratio(anew, ""), ratio(anew, "cpu ")
    floor = statistics.median(anew["floor"])
    return [
        row(f"{what}: wall time over plain Arrow write + fsync + read, every read digested", wall, "{:.2f}x", 1.3,
            beside=f" (floor {floor * 1000:.0f} ms; CPU {cpu:.2f}x; {ratio(quick, ''):.2f}x where the process that "
            "wrote a table reads it)"),
        row("the same, bytes stored", quick["subject bytes"] / quick["floor bytes"], "{:.3f}x", 1.1),
        row("the same, peak anonymous memory over that before the run", tables["subject"], "{:.2f} tables", 2.2,
            beside=f" (floor {tables['floor']:.2f})"),
    ]  # fmt: skip


def ratio(found: dict[str, Any], which: str) -> float:
    """The median of each turn's own ratio: both sides of a turn met the same noise."""
    pairs = zip(found[f"{which}subject"], found[f"{which}floor"], strict=True)
    return statistics.median(subject / floor for subject, floor in pairs)


def measured(kind: str, folder: Path, what: str) -> Any:
    place = folder / "tables"
    place.mkdir(exist_ok=True)
    (place / "penstock.toml").write_text("")
    (place / "tables.py").write_text(SCRIPT)
    command = [sys.executable, "tables.py", kind, str(RUNS), what]
    done = subprocess.run(command, cwd=place, env=environment(), check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
