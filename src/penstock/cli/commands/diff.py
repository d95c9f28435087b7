"""`penstock diff RUN RUN`: what two runs differ in."""

from __future__ import annotations

import argparse
from typing import Any

from ...core.clock import instant
from ...engine.comparison import instance
from ...engine.difference import DataPair, DataVersion, Difference, MetricPair, Pair, StepPair, diff
from ...wiring.runner import find_run
from ..opening import project_for
from ..render import paint, print_json, shortened, shown_instant, shown_seconds, shown_state, table
from .plan import diff_lines


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
examples:
  penstock diff 7f3a last
  penstock diff churn-2026-11-23-7f3a churn-2026-11-24-k2qp --json
"""
    parser.add_argument("first", metavar="RUN", help="the earlier run: its id, a part of it, or `last`")
    parser.add_argument("second", metavar="RUN", nargs="?", default="last", help="the later one (default: the last)")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    first, second = find_run(project, arguments.first), find_run(project, arguments.second)
    found = diff(project.store, first, second)
    if arguments.json:
        print_json(_facts(found))
    else:
        print(_page(found))
    return 0


def _facts(found: Difference) -> dict[str, Any]:
    def side(each: Any) -> dict[str, Any]:
        return {
            "run": each.run,
            "pipeline": each.pipeline,
            "state": each.state,
            "started_at": instant(each.started_at).isoformat(),
            "seconds": each.seconds,
        }

    def pairs(listed: tuple[Pair, ...]) -> dict[str, list[str | None]]:
        return {pair.name: [pair.before, pair.after] for pair in listed}

    return {
        "first": side(found.first),
        "second": side(found.second),
        "same": found.same,
        "git": pairs(found.git),
        "code": found.code,
        "graph": pairs(found.graph),
        "parameters": pairs(found.parameters),
        "data": found.data,
        "environment": pairs(found.environment),
        "packages": pairs(found.packages),
        "metrics": found.metrics,
        "steps": found.steps,
    }


def _page(found: Difference) -> str:
    lines = [_heading(found)]
    if found.same:
        lines += ["", "the same code, parameters, data, environment and metrics"]
    lines += _section("git", _rows(found.git))
    lines += _code(found)
    lines += _section("steps that only one has", _rows(found.graph))
    lines += _section("parameters", _rows(found.parameters))
    lines += _section("data", table([_data_row(pair) for pair in found.data], indent="  "))
    lines += _section("environment", _rows(found.environment))
    lines += _section("packages", _rows(found.packages))
    lines += _section("metrics", _metrics(found.metrics))
    lines += _section("steps", _steps(found.steps))
    return "\n".join(lines)


def _heading(found: Difference) -> str:
    rows = [
        [
            mark,
            paint(side.run, "bold"),
            shown_state(side.state),
            shown_instant(side.started_at),
            shown_seconds(side.seconds),
        ]
        for mark, side in (("-", found.first), ("+", found.second))
    ]
    return table(rows)


def _section(title: str, text: str) -> list[str]:
    return ["", paint(title, "bold"), text] if text else []


def _rows(pairs: tuple[Pair, ...]) -> str:
    def shown(value: str | None) -> str:
        return "none" if value is None else shortened(value, 60)

    return table([[pair.name, shown(pair.before), "→", shown(pair.after)] for pair in pairs], indent="  ")


def _code(found: Difference) -> list[str]:
    """Every changed definition once, with the steps that reach it."""
    steps: dict[str, list[str]] = {}
    changes = {}
    for code in found.code:
        for change in code.changes:
            steps.setdefault(change.text, []).append(code.step)
            changes[change.text] = change
    lines = []
    for text, change in changes.items():
        lines.append(f"  {text}  {paint('reached by ' + ', '.join(steps[text]), 'dim')}")
        lines += [f"      {line}" for line in diff_lines(change.diff)]
    return ["", paint("code", "bold"), *lines] if lines else []


def _data_row(pair: DataPair) -> list[str]:
    columns = [f"+{name}" for name in pair.columns_added] + [f"-{name}" for name in pair.columns_removed]
    shown = shortened("columns " + " ".join(columns), 60) if columns else ""
    return [f"{pair.step}({pair.argument})", _version(pair.before), "→", _version(pair.after), shown]


def _version(version: DataVersion | None) -> str:
    if version is None:
        return "none"
    rows = f", {version.rows} rows" if version.rows is not None else ""
    if "," in version.digest:
        return f"{version.kind}{rows}"
    return f"{version.digest[:8]} ({version.kind}{rows})" if version.kind else version.digest[:8]


def _metrics(pairs: tuple[MetricPair, ...]) -> str:
    def shown(value: float | None) -> str:
        return "none" if value is None else f"{value:.6g}"

    rows = [
        [instance(pair.step, pair.index), pair.name, shown(pair.before), shown(pair.after), _delta(pair.delta)]
        for pair in pairs
    ]
    return table(rows, ["step", "metric", "-", "+", "change"], indent="  ", right="- + change") if rows else ""


def _delta(delta: float | None) -> str:
    return "" if delta is None else "=" if delta == 0 else f"{delta:+.6g}"


def _steps(pairs: tuple[StepPair, ...]) -> str:
    rows = [
        [
            instance(pair.step, pair.index),
            shown_state(pair.before) if pair.before else "none",
            shown_seconds(pair.seconds_before),
            shown_state(pair.after) if pair.after else "none",
            shown_seconds(pair.seconds_after),
        ]
        for pair in pairs
    ]
    return table(rows, indent="  ")
