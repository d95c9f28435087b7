"""What the code is known to ask for keeps a step out of the cache in every later run too, in whatever process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = {
    "clock": "import time\n    return time.time()",
    "random": "import uuid\n    return float(uuid.uuid4().int % 1000)",
    "file": 'import pandas\n    return float(pandas.read_parquet("t.parquet")["x"].sum())',
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_that_asks_for_it_by_name_runs_in_every_process(tmp_path: Path, kind: str) -> None:
    (tmp_path / "penstock.toml").write_text("")
    if kind == "file":
        import pandas

        pandas.DataFrame({"x": [1.0]}).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "flow.py").write_text(
        f"from penstock import pipeline, step\n\n@step\ndef ask() -> float:\n    {STEPS[kind]}\n\n"
        "@pipeline\ndef flow() -> float:\n    return ask()\n"
    )
    penstock = [sys.executable, "-m", "penstock"]
    off = subprocess.run(
        [*penstock, "run", "flow.py"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PENSTOCK_HIDDEN_INPUTS": "off"},
    )  # fmt: skip
    assert "1 succeeded" in off.stderr
    for _ in range(3):
        told = subprocess.run([*penstock, "run", "flow.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "1 succeeded" in told.stderr, "an entry that was kept without looking is no hit either"
