"""`python -m bench.engines`: what penstock adds to a step on each real engine; writes docs/performance-engines.md."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from . import backends_airflow, backends_kubeflow, backends_prefect
from .report import RUNS, Row

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance-engines.md"
_HEAD = """# What a step costs on an engine

<!-- written by `make bench-engines`; do not edit -->

What penstock adds to a step over the engine's own task that does nothing, in the same run of the script, on the real
engines that `make engines` installs. Medians; CPU seconds where the row says so, of the command and all below it.
Compiling is CPU time of the whole command.

"""


def main() -> None:
    """Every engine in turn; one that cannot be measured stops the script, and the page stays as it was."""
    where = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    when = f"{datetime.now(UTC):%Y-%m-%d}, {RUNS} runs"
    lines = [
        _HEAD,
        f"Measured on {where}, {when}. Get them again: `make bench-engines`.\n\n",
        "| what | measured | to reach | |\n|---|---|---|---|\n",
    ]
    for module in (backends_airflow, backends_prefect, backends_kubeflow):
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
            found: list[Row] = list(module.rows(Path(sys.executable), Path(scratch)))
        for row in found:
            print(*row, sep=" | ", flush=True)
            lines.append("| " + " | ".join(map(str, row)) + " |\n")
    PAGE.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
