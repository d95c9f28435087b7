"""peers: the same chain in other libraries, each in an environment of its own. `python -m bench.peers` measures them.

Every `*_chain.py` is a chain of steps that each add one, as that library's own documentation would write it, and is run
by its peer's interpreter: `python luigi_chain.py 100`. What is measured is written to peers.json, with the versions;
`table` is for the page of figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOUND = Path(__file__).with_name("peers.json")


def table() -> str:
    """What was measured last, as Markdown; empty where nothing was."""
    if not FOUND.exists():
        return ""
    records: list[dict[str, Any]] = json.loads(FOUND.read_text(encoding="utf-8"))["peers"]
    lines = [
        "| | packages | size | import | hello | a step more | keeps |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in records:
        if each.get("error"):
            lines.append(f"| {each['name']} | | | | | | {each['error']} |")
        else:
            lines.append(
                f"| {each['name']} {each['version']} | {each['packages']} | {each['size_mb']:.0f} MB "
                f"| {each['import_cpu_s']:.2f} s | {each['hello_cpu_s']:.2f} s, {each['hello_peak_mb']:.0f} MB "
                f"| {each['step_cpu_ms']:.2f} ms ({each['steps']}) | {each['keeps']} |"
            )
    return "\n".join(lines)
