"""Progress on a real terminal: a live area that never mangles what steps print."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import time
from pathlib import Path

TALKING = """
import threading
from penstock import Retry, context, pipeline, step

@step
def talk(n: int) -> int:
    for i in range(n):
        print("line", i)
        context().progress(i + 1, n, "working")
        threading.Event().wait(0.15)
    return n

@step(retry=Retry(attempts=2, base="600ms"))
def flaky(n: int) -> int:
    if context().attempt == 1:
        raise OSError("no luck")
    return n

@pipeline
def talking(n: int = 6) -> int:
    return flaky(talk(n))
"""


def on_terminal(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code, and every byte that the terminal got."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update({"TERM": "xterm", "COLUMNS": "80", "LINES": "24", **environment})
        for name in ("NO_COLOR", "FORCE_COLOR"):
            if name not in environment:
                os.environ.pop(name, None)
        os.execv(sys.executable, [sys.executable, "-m", "penstock", *words])
    received = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([terminal], [], [], 60)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        received += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), received.decode()


def screen(text: str) -> list[str]:
    """What stands on an endless screen after these bytes: knows only the codes that we send."""
    lines, row, column = [""], 0, 0
    for code, plain in re.findall(r"(\x1b\[[0-9;]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", text):
        if plain:
            lines[row] = lines[row][:column].ljust(column) + plain + lines[row][column + len(plain) :]
            column += len(plain)
        elif code == "\r":
            column = 0
        elif code == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif code.endswith("A"):
            row -= int(code[2:-1])
            assert row >= 0
        elif code.endswith("K"):
            lines[row] = lines[row][:column]
        elif code.endswith("J"):
            lines[row] = lines[row][:column]
            del lines[row + 1 :]
        else:
            assert code.endswith("m"), repr(code)
    return [line.rstrip() for line in lines if line.strip()]


def test_prints_stay_whole_and_the_live_area_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "talking.py").write_text(TALKING)
    code, text = on_terminal(tmp_path, "run", "talking.py")
    assert code == 0, text
    left = screen(text)
    assert left[0].startswith("run talking-")
    assert left[1:7] == [f"line {number}" for number in range(6)]
    assert [line.split()[:2] for line in left[7:10]] == [["✓", "talk"], ["✓", "flaky"], ["✓", "succeeded"]]
    assert left[10] == "  output: 6"
    assert len(left) == 12
    assert re.search(r"▸ talk .* \[#+\.*\] \d/6 working", text)
    assert "flaky: attempt 1 of 2 failed, next in" in text


def test_no_color_means_no_colour_but_still_live(tmp_path: Path) -> None:
    (tmp_path / "talking.py").write_text(TALKING)
    code, text = on_terminal(tmp_path, "run", "talking.py", NO_COLOR="1")
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*m", text)
    assert "▸ talk" in text


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    (tmp_path / "talking.py").write_text(TALKING)
    code, text = on_terminal(tmp_path, "run", "talking.py", "--n", "1", TERM="dumb")
    assert code == 0
    assert "\x1b" not in text
    assert "! flaky attempt 1 of 2 failed: OSError: no luck; next in" in text
