"""`penstock check FILE --on BACKEND`: what an engine keeps, how, and what it refuses; with the user's lines."""

from __future__ import annotations

import argparse
import sys

from ...core.errors import PenstockError
from ...ports.backend import Report, Row, Support
from ...wiring.backends import LOCAL, backend_named, report
from ..engines import Asked, add_engine, asked
from ..exits import Exit
from ..render import paint, print_json
from .run import parse as parse  # the command's flags, the file, the pipeline's own

COMMON = ("profile", "json")
_MARKS = {Support.SUPPORTED: ("✓", "green"), Support.EMULATED: ("~", "yellow"), Support.REFUSED: ("✗", "red")}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock check FILE.py[:PIPELINE] --on BACKEND [flags]"
    parser.epilog = """
every feature that the pipeline uses is one row: supported (the engine's own), emulated (kept all the same, and how), or
refused (why, and what to do). Exit code 1 if anything is refused that --accept does not name.

examples:
  penstock check churn.py --on airflow
  penstock check churn.py --on kubeflow --accept fit.pool --json
  penstock check churn.py --profile prod --all
"""
    add_engine(parser)
    parser.add_argument("--all", action="store_true", help="also rows of what is simply supported, step by step")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.help:
        arguments.parser.print_help()
        return Exit.OK
    found = asked(arguments)
    answered = report(found.engine, found.plan)
    if arguments.json:
        print_json(_record(answered))
    else:
        _show(answered, every=arguments.all)
        _tell_what_is_missing(found)
    return Exit.FAILED if answered.refused else Exit.OK


def _tell_what_is_missing(found: Asked) -> None:
    """What keeps it from being compiled, besides what is refused: an image, stores that containers reach."""
    if found.engine == LOCAL:
        return
    try:
        backend_named(found.engine).compile(found.plan)
    except PenstockError as error:  # the table above is the answer all the same
        hint = f"\n    {error.hint}" if error.hint else ""
        sys.stdout.write(f"not set yet: {error.problem}{hint}\n")


def _show(found: Report, *, every: bool) -> None:
    rows = [row for row in found.rows if every or row.verdict.support is not Support.SUPPORTED]
    counts = {support: sum(row.verdict.support is support for row in found.rows) for support in Support}
    told = ", ".join(f"{count} {support.value}" for support, count in counts.items() if count)
    sys.stdout.write(f"{found.pipeline} on {found.backend}: {told}\n")
    for row in rows:
        sys.stdout.write("".join(f"  {line}\n" for line in _lines(row)))
    if found.refused:
        names = " ".join(f"--accept {row.demand.name}" for row in found.refused[:3])
        sys.stdout.write(f"refused as it stands; change the lines above, or go without: {names}\n")


def _lines(row: Row) -> list[str]:
    mark, colour = _MARKS[row.verdict.support]
    demand = row.demand
    value = f" = {demand.value}" if demand.value else ""
    where = f"  {paint(str(demand.where), 'dim')}" if demand.where else ""
    support = "accepted: goes without" if row.accepted else row.verdict.support.value
    lines = [f"{paint(mark, colour)} {demand.name}{value}  {paint(support, colour)}{where}"]
    if row.verdict.how:
        lines.append(f"    {row.verdict.how}")
    return lines


def _record(found: Report) -> dict[str, object]:
    return {
        "pipeline": found.pipeline,
        "backend": found.backend,
        "refused": [row.demand.name for row in found.refused],
        "accepted": found.waived,
        "rows": [
            {
                "feature": row.demand.feature,
                "step": row.demand.subject or None,
                "value": row.demand.value or None,
                "where": str(row.demand.where) if row.demand.where else None,
                "support": row.verdict.support.value,
                "how": row.verdict.how or None,
                "accepted": row.accepted,
            }
            for row in found.rows
        ],
    }
