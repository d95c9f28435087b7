"""A run in the hands of whoever started it: its state, its steps, its output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.errors import PenstockError, RunCancelledError, RunFailedError
from ..core.jsonvalue import loads
from ..engine.arguments import Refusal, Resolver
from ..engine.failure import exception_from
from ..engine.services import Services
from ..engine.tasks import Collected, Json, Keyed, SecretValue, Stored, TaskArgument, Whole
from ..graph import Graph
from ..ports.artifacts import Artifacts
from ..ports.events import RunView
from ..ports.records import RunRecord, RunState, StepRun, StepState


class Run:
    """A finished run. `output` is what the pipeline returned."""

    def __init__(
        self,
        graph: Graph,
        record: RunRecord,
        view: RunView,
        state: RunState,
        services: Services,
        error: BaseException | None,
    ) -> None:
        self.id = record.id
        self.record = record
        self.state = state
        self.graph = graph
        self._view = view
        self._services = services
        self._error = error
        self.changed: tuple[str, ...] = ()  # functions of steps whose code a resume found to be another one

    @property
    def output(self) -> Any:
        """What the pipeline returned, decoded. Raises RunFailedError where it has no value."""
        if self.graph.result is None:
            return None
        resolver = Resolver(self.graph, self._view, self.record.parameters, self._services.artifacts)
        try:
            found = resolver.result(self.graph.result)
        except Refusal as refusal:
            raise RunFailedError(
                f"run {self.id} has no output: {refusal.verdict}", hint=f"penstock show {self.id}"
            ) from None
        return decode(found, self._services)

    @property
    def steps(self) -> list[StepRun]:
        """Every instance of every step that was decided."""
        return list(self.instances)

    @property
    def instances(self) -> Iterable[StepRun]:
        """The same one after the other: those of a large map need little room as long as nobody lists them."""
        return self._view.steps.values()

    @property
    def kept(self) -> tuple[str, ...]:
        """Finished steps that a resume with other code has kept as older code made them."""
        return self._view.kept

    def step(self, name: str, index: str = "") -> StepRun:
        return self._view.step(name, index)

    def raise_for_state(self) -> Run:
        """Itself if it succeeded; else the step's own exception, with a note that names step, attempt and run."""
        if self.state is RunState.SUCCEEDED:
            return self
        if self.state is RunState.CANCELLED and not isinstance(self._error, Exception):
            raise RunCancelledError(f"run {self.id} was stopped", hint=f"penstock resume {self.id}")
        failed = self._view.failed()
        if failed is None or failed.failure is None:
            blocked = next((run for run in self.instances if run.state is StepState.UPSTREAM_FAILED and run.note), None)
            why = f": '{blocked.step}' could not start, because {blocked.note}" if blocked is not None else ""
            raise RunFailedError(f"run {self.id} {self.state.value}{why}", hint=f"penstock show {self.id}")
        name = f"{failed.step}[{failed.index}]" if failed.index else failed.step
        note = f"in step '{name}' (attempt {failed.attempts}) of run {self.id}; penstock resume {self.id}"
        error = self._error or exception_from(failed.failure)
        if error is None or isinstance(error, KeyboardInterrupt):
            text = f"step '{name}' {failed.state.value}: {failed.failure.name}: {failed.failure.message}"
            error = RunFailedError(text, hint=failed.failure.hint or f"penstock show {self.id}")
        if error.__traceback__ is None and failed.failure.traceback and not isinstance(error, PenstockError):
            error.add_note("from the worker process:\n" + failed.failure.traceback.rstrip())
        if not isinstance(error, PenstockError):
            error.add_note(note)
        raise error

    def __repr__(self) -> str:
        return f"<run {self.id} {self.state.value}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{run.step}{f'[{run.index}]' if run.index else ''}</td><td>{run.state.value}</td>"
            f"<td>{run.seconds:.2f} s</td></tr>"
            for run in self.steps
        )
        return f"<b>{self.id}</b> {self.state.value}<table>{rows}</table>"


def decode(argument: TaskArgument, services: Services) -> Any:
    """The value of a resolved argument, in this process."""
    artifacts: Artifacts = services.artifacts
    match argument:
        case Json(text):
            return loads(text)
        case Stored(ref):
            return artifacts.load(ref)
        case Collected(items, as_tuple):
            values = [decode(item, services) for item in items]
            return tuple(values) if as_tuple else values
        case Keyed(keys, items):
            return {key: decode(item, services) for key, item in zip(keys, items, strict=True)}
        case Whole(target, keys, items, payload):
            fields = {key: decode(item, services) for key, item in zip(keys, items, strict=True)}
            made_by = services.loader.load_result_type(target, payload)
            return made_by(**fields) if made_by is not None else fields
        case SecretValue(name):
            return f"<secret {name}>"
