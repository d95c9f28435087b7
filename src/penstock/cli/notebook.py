"""penstock in a notebook: a pipeline shows its graph, a run its progress in the cell that started it.

Nothing here imports IPython by itself: it is asked for only where it is already running as a kernel.
"""

from __future__ import annotations

import io
import sys
from html import escape
from time import monotonic
from typing import Any

from ..authoring.pipeline import Pipeline
from ..core.errors import PenstockError
from ..graph import Graph
from ..graph.svg import svg
from ..ports.events import AttemptStarted, Change, RunFinished, RunView
from ..ports.records import RunRecord, RunState, StepRun
from .progress import Tally, how_far, summary_lines
from .records import failure_shown
from .render import shown_seconds, without_control
from .summary import summary

_LEAST_S = 0.25
_MARKS = {
    "pending": ("·", "#8a8f98"),
    "running": ("▸", "#0b7285"),
    "succeeded": ("✓", "#2b8a3e"),
    "cached": ("≡", "#1864ab"),
    "failed": ("✗", "#c92a2a"),
    "timed_out": ("✗", "#c92a2a"),
    "cancelled": ("■", "#a66a00"),
    "upstream_failed": ("–", "#8a8f98"),
    "skipped": ("○", "#8a8f98"),
}


def kernel_shell() -> Any:
    """The IPython shell of a notebook's kernel; None in a terminal, a script or plain IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if shell is not None and getattr(shell, "kernel", None) is not None else None


def activate() -> bool:
    """Teach the notebook to show pipelines as graphs. Says whether there is a notebook."""
    shell = kernel_shell()
    if shell is None:
        return False
    shell.display_formatter.formatters["text/html"].for_type(Pipeline, pipeline_html)
    return True


def pipeline_html(pipeline: Pipeline[..., Any]) -> str:
    """The graph of a pipeline, or what keeps it from being built."""
    try:
        return svg(pipeline.trace().graph)
    except PenstockError as error:
        return f"<pre>{escape(str(error))}</pre>"


def notebook_listener() -> Tally | None:
    """Who shows a run here, if anybody."""
    return NotebookProgress() if kernel_shell() is not None else None


class NotebookProgress(Tally):
    """One HTML table in the cell, replaced a few times a second while the run goes."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None
        self._shown_at = 0.0
        self._record: RunRecord | None = None
        self._kept: tuple[str, ...] = ()
        self._state: RunState | None = None
        self._runs: dict[tuple[str, str], StepRun] = {}
        self._begun_at: dict[tuple[str, str], float] = {}
        self._progress: dict[tuple[str, str], tuple[float, float | None, str]] = {}

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        from IPython.display import HTML, display

        super().begin(record, graph, before)
        self._record, self._kept = record, before.kept
        self._runs = {key: run for key, run in before.steps.items() if run.state.has_output}
        self._handle = display(HTML(self.html()), display_id=True)

    def event(self, change: Change) -> None:
        event = change.event
        if isinstance(event, AttemptStarted):
            self._begun_at[event.step, event.index] = monotonic()
            self._progress.pop((event.step, event.index), None)
        elif isinstance(event, RunFinished):
            self._state = event.state
        if change.run is not None:
            self._runs[change.run.step, change.run.index] = change.run
        super().event(change)
        self._show(at_once=isinstance(event, (RunFinished, AttemptStarted)))

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None:
        self._progress[step, index] = (done, total, note)
        self._show()

    def _show(self, at_once: bool = False) -> None:
        now = monotonic()
        if self._handle is None or (not at_once and now - self._shown_at < _LEAST_S):
            return
        from IPython.display import HTML

        self._shown_at = now
        self._handle.update(HTML(self.html()))

    def html(self) -> str:
        """The run as it stands."""
        assert self.graph is not None
        assert self._record is not None
        rows = [self._row(node.name) for node in self.graph.nodes]
        head = f"<b>{escape(self._record.id)}</b>"
        return f'<div style="font-family:monospace">{head}<table>{"".join(rows)}</table>{self._end()}</div>'

    def _row(self, step: str) -> str:
        runs = [run for (name, _), run in self._runs.items() if name == step]
        if not runs:
            return _cells("pending", step, "", "")
        if not self.is_mapped(step):
            return _cells(runs[0].state.value, step, self._took(runs[0]), self._about(runs[0]))
        states = [run.state.value for run in runs]
        state = next((each for each in ("running", "failed", "timed_out", "pending") if each in states), states[0])
        counts = ", ".join(f"{states.count(each)} {each.replace('_', ' ')}" for each in dict.fromkeys(states))
        done, elements = self.done_of(step), self.elements_of(step)
        name = f"{step} x {len(runs)}" if done == elements else how_far(step, self)
        return _cells(state, name, shown_seconds(sum(run.seconds for run in runs)), escape(counts))

    def _took(self, run: StepRun) -> str:
        if run.state.value == "running":
            return shown_seconds(monotonic() - self._begun_at.get((run.step, run.index), monotonic()))
        return shown_seconds(run.seconds) if run.seconds else ""

    def _about(self, run: StepRun) -> str:
        parts = []
        if (attempt := self.attempt_of(run)) > 1:
            parts.append(f"attempt {attempt} of {max(attempt, self.attempts_of(run.step))}")
        found = self._progress.get((run.step, run.index))
        if run.state.value == "running" and found is not None:
            done, total, note = found
            bar = f'<progress value="{done:g}" max="{total:g}"></progress> ' if total else f"{done:g} "
            parts.append(bar + escape(note))
        if run.origin is not None:
            parts.append(f"from {escape(run.origin[0])}")
        if run.failure is not None:
            parts.append(escape(failure_shown(run.failure)))
        if run.note:
            parts.append(escape(run.note))
        return "; ".join(parts)

    def _end(self) -> str:
        if self._state is None or self.graph is None or self.run_id is None:
            return ""
        told = summary(
            self.run_id,
            self.graph,
            self._state,
            list(self._runs.values()),
            seconds=monotonic() - self.began,
            saved_seconds=self.saved_seconds,
            kept=self._kept,
            before=self.before,
        )
        return "<br>".join(escape(without_control(line)) for line in summary_lines(told, _Browser()))


class _Browser(io.StringIO):
    """Where lines for a browser go: no colours, every symbol."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


def _cells(state: str, name: str, took: str, about: str) -> str:
    mark, colour = _MARKS[state]
    shown = f'<td style="color:{colour}">{mark} {state.replace("_", " ")}</td>'
    return f'<tr><td style="text-align:left">{escape(name)}</td>{shown}<td>{escape(took)}</td><td>{about}</td></tr>'
