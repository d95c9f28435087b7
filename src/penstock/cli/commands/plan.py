"""`penstock plan FILE`: what a run would do, and why; nothing is run and nothing is written."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from ...engine.hidden.declared import told
from ...engine.plan import PlanItem
from ...wiring.planning import plan_run
from ..app import Parser
from ..opening import load_pipeline, parse_with_file, settings_for, traced
from ..records import hidden_facts
from ..render import counted, paint, print_json, shown_seconds, speaks_unicode, table
from .run import add_parameters, parameters_of

COMMON = ("profile", "json")

# verdict -> symbol, the same in ASCII, colour, what it is called in the summary
_VERDICTS = {
    "run": ("▸", ">", "cyan", "run"),
    "hit": ("≡", "=", "blue", "hit"),
    "depends": ("?", "?", "yellow", "depend on these"),
    "skip": ("○", "o", "dim", "are skipped"),
    "blocked": ("✗", "x", "red", "cannot run"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock plan FILE.py[:PIPELINE] [flags] [the pipeline's parameters]"
    parser.epilog = """
run      it will run            hit   its result is taken from an earlier run
depends  it follows a step that runs, whose result may come out the same as before

examples:
  penstock plan churn.py
  penstock plan churn.py --depths 4,6,8 --diff
  penstock plan pipelines.py:nightly --params prod.yaml --json
"""
    add_parameters(parser)
    add = parser.add_argument
    add("--no-cache", action="store_true", help="as `run --no-cache`")
    add("--from", dest="restart_from", action="append", default=[], metavar="STEP", help="as `run --from STEP`")
    add("--diff", action="store_true", help="show the changed lines of code")


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    if any(word in ("-h", "--help") for word in words):
        parser.parse_args(["--help"])
    return parse_with_file(parser, words)


def execute(arguments: argparse.Namespace) -> int:
    pipeline = load_pipeline(arguments.file)
    settings = settings_for(arguments, pipeline.root)
    parameters = pipeline.parameters(parameters_of(pipeline, arguments))
    items = plan_run(
        traced(pipeline, parameters),
        parameters,
        settings=settings,
        cache=not arguments.no_cache,
        restart_from=arguments.restart_from,
    )
    if arguments.json:
        print_json(_facts(pipeline.name, items))
    else:
        print(_page(pipeline.name, items, with_lines=arguments.diff))
    return 0


def _facts(name: str, items: list[PlanItem]) -> dict[str, Any]:
    counts: Counter[str] = Counter(item.verdict for item in items)
    return {
        "pipeline": name,
        "counts": {verdict: counts[verdict] for verdict in _VERDICTS},
        "saved_seconds": sum(item.saved_seconds for item in items),
        "steps": [
            {
                "step": item.step,
                "index": item.index,
                "verdict": item.verdict,
                "why": item.why,
                "on": item.on,
                "saved_seconds": item.saved_seconds,
                "origin": dict(zip(("run", "step", "index"), item.origin, strict=True)) if item.origin else None,
                "changes": item.changes,
                "unseen": list(item.unseen),
                "hidden": [hidden_facts(each) for each in item.hidden],
            }
            for item in items
        ],
    }


def _page(name: str, items: list[PlanItem], *, with_lines: bool) -> str:
    counts: Counter[str] = Counter(item.verdict for item in items)
    summary = [f"{counts[verdict]} {words[3]}" for verdict, words in _VERDICTS.items() if counts[verdict]]
    saved = sum(item.saved_seconds for item in items)
    lines = [
        f"{paint(name, 'bold')}: {counted(len(items), 'step')}; {', '.join(summary)}"
        + (f"; the cache saves {shown_seconds(saved)}" if saved >= 0.01 else ""),
        "",
    ]
    merged = list(_merged(items))
    noted: set[str] = set()
    rows = [[_verdict(first.verdict), shown, first.why] for first, shown in merged]
    for row, (first, _) in zip(table(rows, indent="  ").splitlines(), merged, strict=True):
        lines.append(row)
        for change in first.changes if with_lines else ():
            lines += [f"      {line}" for line in diff_lines(change.diff)]
        if first.step not in noted:
            if first.hidden and not first.why.startswith("runs every time"):
                lines.append(paint(f"      nothing will be kept: {told(first.hidden)}", "yellow"))
            lines += [paint(f"      {first.way_out}", "dim")] if first.hidden else []
            lines += [paint(f"      cannot be seen: {text}", "dim") for text in first.unseen]
            noted.add(first.step)
    return "\n".join(lines)


def _verdict(verdict: str) -> str:
    fine, plain, style, _ = _VERDICTS[verdict]
    return paint(f"{fine if speaks_unicode() else plain} {verdict}", style)


def _merged(items: list[PlanItem]) -> Iterable[tuple[PlanItem, str]]:
    """Elements of a map that have the same said of them share a line."""
    for _, group in groupby(items, key=lambda item: (item.step, item.verdict, item.why)):
        same = list(group)
        first, last = same[0], same[-1]
        if len(same) == 1:
            yield first, f"{first.step}[{first.index}]" if first.index else first.step
        else:
            yield first, f"{first.step}[{first.index} … {last.index}]"


def diff_lines(lines: Sequence[str]) -> list[str]:
    """Lines of a difference, coloured."""
    styles = {"+": "green", "-": "red", "@": "dim"}
    return [paint(line, styles.get(line[:1], "")) for line in lines]
