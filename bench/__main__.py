"""`make bench`: measure, print, and write docs/performance.md."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from . import chains, collection, fingerprints, hidden, history, maps, tables, workers
from .peers import table as peers_table
from .report import RUNS, Row, environment, row

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        folder = Path(scratch)
        print("installing the core alone into an environment of its own …", flush=True)
        python, size_mb, packages = install_core(folder / "core")
        rows = install_rows(size_mb, packages)
        for module in (chains, workers, maps, history, fingerprints, hidden, tables, collection):
            print(f"{module.__name__} …", flush=True)
            place = folder / module.__name__.rpartition(".")[2]
            place.mkdir()
            rows += module.rows(python, place)
    page = render(rows)
    print(page)
    PAGE.write_text(page, encoding="utf-8")
    missed = [row for row in rows if row[3] == "missed"]
    sys.exit(f"{len(missed)} figures missed their mark" if missed else 0)


def install_core(place: Path) -> tuple[Path, float, int]:
    """A fresh environment with `pip install .`: what a user gets who asks for no extra."""
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = place / "bin" / "python"
    site = next((place / "lib").glob("python*/site-packages"))
    before = {path.name for path in site.iterdir()}
    quiet = ["-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([str(python), *quiet, str(ROOT)], check=True, env=environment())
    added = [path for path in site.iterdir() if path.name not in before]
    # Bytecode is not counted: pip writes it, another installer may not.
    size = sum(f.stat().st_size for p in added for f in ([p] if p.is_file() else p.rglob("*"))
               if f.is_file() and f.suffix != ".pyc")  # fmt: skip
    return python, size / 1e6, sum(path.name.endswith(".dist-info") for path in added)


def install_rows(size_mb: float, packages: int) -> list[Row]:
    direct = len(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    return [
        row("core install: direct dependencies", direct, "{:.0f}", 10),
        row(f"core install: size on disk, all {packages} packages", size_mb, "{:.1f} MB", 25),
    ]


def render(rows: list[Row]) -> str:
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    table = "\n".join(f"| {what} | {value} | {goal} | {verdict} |" for what, value, goal, verdict in rows)
    return TEMPLATE.format(runs=RUNS, machine=machine, table=table, peers=peers_table())


TEMPLATE = """\
# Performance

Written by `make bench` (the scripts are in `bench/`); do not edit. CPU seconds are of the whole process tree, medians
of {runs} runs, each command taken in turn with a bare floor. penstock runs in an environment that holds the core
alone. Machine: {machine}; it is shared, so absolute figures move and ratios move less.

| what | measured | to reach | |
|---|---|---|---|
{table}

The floor is plain Python with one durable SQLite transaction and one JSON value per step (`bench/pipelines.py`), with
the same `synchronous` as the run it stands beside. `NORMAL`, the default, survives `kill -9`; `FULL`
(`durability = "full"`) survives a power cut too. One section alone, printed and not written:
`python -m bench.one chains`.

## Peers

Each in an environment of its own, telemetry off, measured by `python -m bench.peers` (minutes to hours), which writes
`bench/peers/peers.json`. They do not all do the same durable work: see what each keeps.

{peers}
"""


if __name__ == "__main__":
    main()
