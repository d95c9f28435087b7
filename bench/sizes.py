"""`python -m bench.sizes RUNS.db STEP_RUNS`: which table and index takes how many bytes per step run."""

from __future__ import annotations

import os
import sqlite3
import sys


def main() -> None:
    path, step_runs = sys.argv[1], int(sys.argv[2])
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    print(f"{os.path.getsize(path) / step_runs:8.1f} bytes per step run in all")
    print(f"{'bytes':>8} {'payload':>8} {'unused':>8}  table or index")
    for name, size, payload, unused in database.execute(
        "SELECT name, sum(pgsize), sum(payload), sum(unused) FROM dbstat GROUP BY name ORDER BY 2 DESC"
    ):
        if size / step_runs >= 0.5:
            print(f"{size / step_runs:8.1f} {payload / step_runs:8.1f} {unused / step_runs:8.1f}  {name}")


if __name__ == "__main__":
    main()
