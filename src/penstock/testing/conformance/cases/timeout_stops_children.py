"""A step that runs out of time is stopped, and so is what it started: the next attempt finds nothing of it."""

import os
import subprocess
import sys
from pathlib import Path

from penstock import Retry, context, pipeline, step

WAITING = "import time; time.sleep(600)"


@step(timeout="1500ms", retry=Retry(attempts=2, base="100ms", on="timeout"))
def hanging(number: int) -> str:
    ctx = context()
    noted = ctx.checkpoint_dir / "child"
    if ctx.attempt == 1:
        child = subprocess.Popen([sys.executable, "-S", "-c", WAITING, ctx.run_id])
        noted.write_text(str(child.pid))
        child.wait()
    if not noted.exists():
        return "the child was never started, or its note is lost"
    return "the child is still there" if is_there(noted.read_text(), ctx.run_id) else "the child is gone"


def is_there(pid: str, mark: str) -> bool:
    """Whether the process that was started for this run is alive (Linux says so in /proc)."""
    try:
        os.kill(int(pid), 0)
        return mark in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (ProcessLookupError, FileNotFoundError):
        return False


@pipeline
def timeout_stops_children() -> str:
    return hanging(1)
