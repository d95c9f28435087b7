"""`penstock gc` over a store of 100,000 artifacts: what a plan takes, and what deleting half of them takes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .measuring import interleaved, run_once
from .report import Row, environment, row

ARTIFACTS = 100_000
PER_RUN = 1_000
RUNS = int(os.environ.get("BENCH_RUNS", "9")) // 2 + 1

# Runs of a thousand steps whose outputs are blobs, through the real stores; half of the runs are 60 days old.
FILL = """
import os, sys, time
from pathlib import Path
from penstock.core.canonical import digest_bytes
from penstock.ports.artifacts import ArtifactRef, Blob
from penstock.ports.events import AttemptStarted, RunFinished, StepSucceeded
from penstock.ports.records import RunRecord, RunState
from penstock.stores.runlog import open_store

artifacts, per_run, day = int(sys.argv[1]), int(sys.argv[2]), 86_400_000_000
home = Path(".penstock").absolute()
home.mkdir()
store = open_store("sqlite:///.penstock/runs.db", home=home)
now = time.time_ns() // 1000
for number in range(artifacts // per_run):
    at = now - (60 if number % 2 else 2) * day + number
    record = RunRecord(id=f"p-{number}", pipeline="p", project="x", manifest="", parameters={}, created_at=at)
    record = store.create(record, b'{"pipeline": "p", "target": "f.py:p"}', at)
    for first in range(0, per_run, 100):
        events = []
        for place in range(first, first + 100):
            content = f"{number}/{place} ".encode() * 40
            digest = digest_bytes(content)
            where = home / "artifacts" / "objects" / digest[:2] / digest[2:]
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(content)
            os.utime(where, (at / 1e6, at / 1e6))
            meta = {"type": "DataFrame", "rows": 10, "columns": [[f"c{n}", "double"] for n in range(10)],
                    "preview": [["0.123"] * 10] * 5}
            ref = ArtifactRef(digest, "pandas", len(content), (Blob("", digest, len(content)),), meta=meta)
            events.append(AttemptStarted(at=at, step=f"s{place}", attempt=1, key=digest))
            events.append(StepSucceeded(at=at, step=f"s{place}", attempt=1, outputs={"output": ref}, key=digest))
        store.append(record.id, 1, events)
    store.append(record.id, 1, [RunFinished(at=at, state=RunState.SUCCEEDED)])
store.close()
"""


def rows(python: Path, folder: Path) -> list[Row]:
    """`python`: the environment that holds the core alone."""
    place = folder / "collection"
    place.mkdir()
    (place / "penstock.toml").write_text("")
    command = [str(python), "-c", FILL, str(ARTIFACTS), str(PER_RUN)]
    subprocess.run(command, cwd=place, env=environment(), check=True)
    gc = [str(python), "-m", "penstock", "gc", "--json", "--keep-last", "0"]
    plans = {"nothing": [*gc, "--older-than", "900d"], "half": [*gc, "--older-than", "30d"]}
    taken = interleaved(plans, place, environment(), runs=RUNS)
    said = subprocess.run(plans["half"], cwd=place, env=environment(), check=True, capture_output=True)
    facts = json.loads(said.stdout)
    assert (facts["blobs"], facts["kept_blobs"]) == (ARTIFACTS // 2, ARTIFACTS // 2), facts
    deleted = run_once([*plans["half"], "--yes"], place, environment())
    return [
        row(f"`penstock gc`, a plan over {ARTIFACTS:,} artifacts, nothing to delete", taken["nothing"].wall,
            "{:.2f} s", 5, beside=f" ({taken['nothing'].cpu:.2f} CPU s, {taken['nothing'].peak_mb:.0f} MB)"),
        row("the same, half of them to delete", taken["half"].wall,
            "{:.2f} s", 5, beside=f" ({taken['half'].cpu:.2f} CPU s, {taken['half'].peak_mb:.0f} MB)"),
        row(f"really deleting that half, {ARTIFACTS // 2:,} blobs", deleted.wall, "{:.1f} s", 60,
            beside=f" ({deleted.cpu:.1f} CPU s)"),
    ]  # fmt: skip
