"""Waits for the process that started it to end, then ends what that one left. Run by `processes`, as a script.

Its standard input is a pipe that only its starter holds: however that one dies, the pipe closes.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engines.processes import end_marked, signal_group


def main(mark: str) -> None:
    told = [json.loads(line) for line in sys.stdin]
    for what in told:
        if "group" in what:
            signal_group(what["group"], signal.SIGKILL)
    end_marked(mark)
    for what in told:
        if "command" in what:
            subprocess.run(what["command"], env=what["environment"], stdin=subprocess.DEVNULL, check=False)
    for what in told:
        if "folder" in what:
            shutil.rmtree(what["folder"], ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
