"""`python -m bench.one chains maps …`: only these modules' figures, printed and not written anywhere."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path

from .__main__ import install_core


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        made = os.environ.get("BENCH_PYTHON")  # an environment that holds penstock's core already
        python = Path(made) if made else install_core(Path(scratch) / "core")[0]
        for name in sys.argv[1:]:
            folder = Path(scratch) / name
            folder.mkdir()
            for what, value, goal, verdict in importlib.import_module(f"bench.{name}").rows(python, folder):
                print(f"{what}: {value} (to reach: {goal}; {verdict})", flush=True)


if __name__ == "__main__":
    main()
