"""`penstock exec-map`: how many elements a map has, as index paths, for an engine that starts them itself."""

from __future__ import annotations

import argparse
import json
import sys

from ...core.errors import PenstockError
from ...engine.expanding import in_chunks
from ...engine.settling import expand_settled
from ..joining import add_run, for_an_engine, lacks, session_of
from ..opening import positive

COMMON = ("json",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
prints one line: a JSON list of index paths, such as ["0", "1"] or, for a map in a map, ["0.0", "0.1", "1.0"]; each is
one element for `exec-step --index`. An empty map, or one that is skipped or blocked, gives [].

examples:
  penstock exec-map --manifest m.json --engine airflow --engine-run churn/manual__2026-11-23 --scope fit
  penstock exec-map --manifest m.json --run churn-2026-11-23-7f3a --scope fit --most 1024 --output indexes.json
"""
    add_run(parser)
    add = parser.add_argument
    add("--scope", required=True, metavar="NAME", help="the map, as the graph names it")
    add("--below", default="", metavar="PATH", help="of a map in a map: only the elements inside this one")
    add("--most", type=positive, metavar="N", help="at most so many entries: past that, elements share one")
    add("--output", default="", metavar="FILE", help="write it there instead")


def execute(arguments: argparse.Namespace) -> int:
    return for_an_engine(arguments, _execute)


def _execute(arguments: argparse.Namespace) -> int:
    session = session_of(arguments)
    is_new = lacks(session, arguments, arguments.scope)
    paths = [] if is_new else expand_settled(session, arguments.scope, arguments.below)
    if arguments.handed is not None:
        arguments.handed.tell_list(in_chunks(paths, arguments.most))
    text = json.dumps(in_chunks(paths, arguments.most))
    if not arguments.output:
        sys.stdout.write(text + "\n")
        return 0
    try:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise PenstockError(f"--output: {arguments.output} cannot be written: {error.strerror}") from error
    sys.stderr.write(f"penstock: {arguments.scope} has {len(paths)} elements\n")
    return 0
