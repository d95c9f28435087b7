"""docs/soak.md: what ran on what, and whether it is about the code that is here now."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from datetime import UTC, datetime

from .campaign import Campaign
from .code import ROOT, digests
from .strikes import CELLS, Blow

PAGE = ROOT / "docs" / "soak.md"
WANTED = 300
_HEAD = """# Soak: real runs, killed

<!-- written by `python -m soak`; do not edit -->

A pipeline with a map, a retry, a condition, several outputs, a nested pipeline and artifacts in files
([soak/flow.py](../soak/flow.py)) is started as a user starts it, hit with `kill -9` at a seeded moment, resumed, hit
again, until it is done. Then it is held against a calm run:

- the run succeeded; the same step runs ended in the same states, with outputs of the same digests, read and checked;
- no step ran again after it had finished, in any life; no attempt has the number of another one;
- events are numbered without a gap, tables and events agree, no attempt is left running, the database is sound;
- every process that the run started is gone.
"""


def page(campaign: Campaign, seconds: float) -> str:
    """The page for a campaign that went to its end."""
    return "\n".join([_HEAD, *_on_what(campaign, seconds), *_cells(campaign), *_broken(campaign), *_code()]) + "\n"


def stale() -> str | None:
    """What is wrong with the committed page, in words; None where it is about this code."""
    if not PAGE.exists():
        return f"{PAGE.name} is missing"
    text = PAGE.read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \| `([0-9a-f]{12})` \|$", text, re.MULTILINE))
    now = digests()
    changed = [room for room, digest in now.items() if said.get(room) != digest]
    if changed:
        return f"the code of {', '.join(changed)} has changed since it was soaked"
    found = re.search(r"^\*\*(\d+) kills\*\*.* (\d+) laws broken", text, re.MULTILINE)
    kills, broken = (int(found[1]), int(found[2])) if found else (0, 0)
    if kills < WANTED:
        return f"it tells of {kills} kills, not of {WANTED}"
    return f"{broken} laws were broken" if broken else None


def _on_what(campaign: Campaign, seconds: float) -> list[str]:
    tallies = campaign.tallies.values()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} processors"
    return [
        f"**{campaign.kills} kills** and {sum(each.restarts for each in tallies)} restarts of PostgreSQL in "
        f"{sum(each.cases for each in tallies)} runs, {len(campaign.broken)} laws broken.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes, seed {campaign.seed}; {python}, "
        f"SQLite {sqlite3.sqlite_version}, PostgreSQL {campaign.postgres}, {system}. Again: "
        f"`make soak`, or `python -m soak --seed {campaign.seed}`; one case: `--case NUMBER`.",
        "",
    ]


def _cells(campaign: Campaign) -> list[str]:
    shown = {
        Blow.ALL: "kills of everything",
        Blow.ENGINE: "of the engine alone",
        Blow.CHILD: "of a worker or step alone",
        Blow.SERVER_FAST: "PostgreSQL restarted",
        Blow.SERVER_CRASH: "PostgreSQL killed",
    }
    head = ["where steps run", "run log", "runs", *shown.values(), "too late", "processes", "median"]
    rows = [head, ["---"] * len(head)]
    for cell in CELLS:
        tally = campaign.tallies[cell]
        counts = [tally.cases, *(tally.blows[blow] for blow in shown), tally.missed, tally.lives]
        rows.append([cell.mode, cell.log, *map(str, counts), f"{tally.median_s:.1f} s"])
    waited = sum(tally.waited for tally in campaign.tallies.values())
    return [
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "*Too late*: the run had ended before the moment came. *Processes*: starts and resumes, one after the other. "
        f"Runs that died between being stored and being locked, and could be resumed only when their lease was over: "
        f"{waited}.",
        "",
    ]


def _broken(campaign: Campaign) -> list[str]:
    if not campaign.broken:
        return []
    told = [each.splitlines()[0] for each in campaign.broken]
    return ["## Broken", "", *(f"- {line}" for line in told), ""]


def _code() -> list[str]:
    return [
        "## The code that was tested",
        "",
        "Digests of the syntax trees, without comments and docstrings. A test fails when they are not those of the",
        "code beside this page; then run `make soak` again.",
        "",
        "| room | digest |",
        "|---|---|",
        *(f"| `{room}` | `{digest}` |" for room, digest in digests().items()),
    ]
