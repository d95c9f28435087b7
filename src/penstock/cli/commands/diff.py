"""`penstock diff RUN RUN`: what two runs differ in."""

from __future__ import annotations

import argparse
import textwrap
from functools import partial
from typing import Any

from ...core.clock import instant
from ...core.errors import UsageError
from ...engine.comparison import instance
from ...engine.difference import DataPair, DataVersion, Difference, MetricPair, Pair, StepPair, diff
from ...engine.reasons import ColumnPair, TablePair
from ...ports.records import RunSummary
from ...ports.runlog import RunQuery
from ...ports.statistics import ColumnStatistics
from ...stores.statistics import statistics
from ...wiring.project import Project
from ...wiring.runner import find_run
from ..opening import project_for
from ..render import counted, paint, print_json, shortened, shown_instant, shown_seconds, shown_state, table
from .plan import diff_lines

_MOST_COLUMNS = 8
_MOST_REASONS = 6


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
with one run: that run and the last one; with the last one alone: it and the run of its pipeline before it

examples:
  penstock diff last
  penstock diff 7f3a last
  penstock diff churn-2026-11-23-7f3a churn-2026-11-24-k2qp --json
"""
    parser.add_argument("first", metavar="RUN", help="the earlier run: its id, a part of it, or `last`")
    parser.add_argument("second", metavar="RUN", nargs="?", help="the later one (default: the last)")
    parser.add_argument("--no-statistics", action="store_true", help="do not look into stored tables")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    first, second = find_run(project, arguments.first), find_run(project, arguments.second or "last")
    if arguments.second is None and first.record.id == second.record.id:
        first = _before(project, second)
    looked_at = None if arguments.no_statistics else partial(statistics, project.artifacts)
    found = diff(project.store, first, second, looked_at)
    if arguments.json:
        print_json(_facts(found))
    else:
        print(_page(found))
    return 0


def _before(project: Project, run: RunSummary) -> RunSummary:
    """The run of the same pipeline before this one."""
    record = run.record
    found = project.store.list_runs(RunQuery(pipeline=record.pipeline, before=record.id, limit=1))
    if not found:
        raise UsageError(
            f"run {record.id} is the last one, and no run of pipeline '{record.pipeline}' is before it",
            hint="name two runs: penstock diff RUN RUN; penstock ls lists them",
        )
    return found[0]


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
        "sources": found.sources,
        "tables": found.tables,
        "environment": pairs(found.environment),
        "packages": pairs(found.packages),
        "metrics": found.metrics,
        "steps": found.steps,
        "reasons": found.reasons,
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
    lines += _section("sources", table([[pair.step, pair.change.text] for pair in found.sources], indent="  "))
    lines += [line for pair in found.tables for line in _table(pair)]
    lines += _section("environment", _rows(found.environment))
    lines += _section("packages", _rows(found.packages))
    lines += _section("metrics", _metrics(found.metrics))
    lines += _section("steps", _steps(found.steps))
    lines += _reasons(found)
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


def _table(pair: TablePair) -> list[str]:
    """One table: rows, then the columns that moved, in both runs."""
    rows = f"{pair.rows_before} → {pair.rows_after} rows" if pair.rows_before != pair.rows_after else "as many rows"
    name = pair.step if pair.output == "output" else f"{pair.step}.{pair.output}"
    lines = ["", f"{paint(f'table {name}', 'bold')}  {rows}"]
    cells: list[list[str]] = []
    for column in pair.columns[:_MOST_COLUMNS]:
        cells += _column(column)
    if cells:
        lines.append(
            table(
                cells,
                ["column", "", "nulls", "mean", "std", "min", "median", "max"],
                indent="  ",
                right="nulls mean std min median max",
            )
        )
    for column in pair.columns[:_MOST_COLUMNS]:
        lines += [f"  {shortened(line, 76)}" for line in _frequent(column)]
    more = len(pair.columns) - _MOST_COLUMNS
    left_out = [f"{counted(more, 'more column')} moved less"] if more > 0 else []
    left_out += [f"{counted(pair.same_columns, 'column')} the same"] if pair.same_columns else []
    left_out += [f"values counted in the first {pair.sampled:,} rows"] if pair.sampled else []
    return lines + ([f"  {'; '.join(left_out)}"] if left_out else [])


def _column(pair: ColumnPair) -> list[list[str]]:
    """Two lines, before and after; none for a column of words, which has no mean."""
    sides = [("-", pair.before), ("+", pair.after)]
    if all(side is None or side.mean is None for _, side in sides):
        return []
    shown = shortened(pair.name, 20)
    return [
        [shown if sign == "-" or pair.before is None else "", sign, *_numbers(side)]
        for sign, side in sides
        if side is not None
    ]


def _numbers(side: ColumnStatistics) -> list[str]:
    median = side.quantiles[len(side.quantiles) // 2] if side.quantiles else None
    numbers = (side.mean, side.std, side.minimum, median, side.maximum)
    return [str(side.nulls), *(f"{each:.5g}" if isinstance(each, float) else "" for each in numbers)]


def _frequent(pair: ColumnPair) -> list[str]:
    """What a column of words holds most, before and after; and that it is new, gone or of another type."""
    old, new = pair.before, pair.after
    if old is None or new is None:
        side = new or old
        return [f"{pair.name}: {'new' if old is None else 'gone'} ({side.type if side else ''})"]
    lines = [f"{pair.name}: type {old.type} → {new.type}"] if old.type != new.type else []
    if old.mean is None and new.mean is None:
        lines.append(f"{pair.name}: {_values(old)} → {_values(new)}")
    return lines


def _values(side: ColumnStatistics) -> str:
    nulls = [f"{side.nulls} nulls"] if side.nulls else []
    bounds = [f"{side.minimum} to {side.maximum}"] if side.minimum is not None else []
    top = [f"{value} x {count}" for value, count in side.top] if not bounds else []
    distinct = ["many values" if side.distinct is None else counted(side.distinct, "value")]
    return ", ".join([*distinct, *bounds, *top, *nulls])


def _reasons(found: Difference) -> list[str]:
    """The end: why."""
    if not found.reasons:
        return [] if found.same else ["", "every step that both runs have came to the same result"]
    lines = ["", paint(f"the {'models' if found.models else 'results'} differ because:", "bold")]
    for at, reason in enumerate(found.reasons[:_MOST_REASONS], 1):
        after = f"; {counted(reason.reaches, 'step')} after it {'differs' if reason.reaches == 1 else 'differ'} too"
        text = f"{at}. {reason.step}: {reason.text}{after if reason.reaches else ''}"
        lines += textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="     ")
    more = len(found.reasons) - _MOST_REASONS
    return lines + ([f"  and {counted(more, 'more step')}: see --json"] if more > 0 else [])


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
