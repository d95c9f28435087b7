"""One run of a penstock pipeline inside a Prefect flow: real tasks, in order, each asked of a warm worker.

Made by penstock, the same beside every flow; do not edit. Prefect orders the steps and makes another attempt;
the worker decides all else (guards, cache, what may be tried again, and when) and records it in the run log.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from prefect import Flow, Task, allow_failure, get_client, get_run_logger
from prefect.client.schemas.filters import FlowRunFilter
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Failed, State

from penstock_workers import WorkerLost, Workers

AGAIN = "another attempt"  # the data of a failed state that earns one
RUN_LABEL = "penstock.run"  # on a flow run that penstock started: the run that it has created
_LINKS = 100  # arrows that the graph draws into one task run; each costs Prefect a millisecond
_PATIENCE_S = 5.0
_END_S = 60.0
_RECORD = 200_000  # characters
_COMPLETED = {"cached": "Cached", "skipped": "Skipped"}
_FAILED = {"timed_out": "TimedOut", "upstream_failed": "UpstreamFailed"}


def another_attempt(task: Task[Any, Any], task_run: Any, state: State[Any]) -> bool:
    """Whether a failure earns another attempt: its policy says so, or its worker was lost or overdue."""
    return bool(state.data == AGAIN or isinstance(state.data, Exception))


def _without_empty_traceback(record: logging.LogRecord) -> bool:
    """Prefect asks for the traceback of every failure; of a returned state there is none to print."""
    if record.exc_info and record.exc_info[0] is None:
        record.exc_info = None
    return True


logging.getLogger("prefect.task_runs").addFilter(_without_empty_traceback)


# -- the pipeline --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline: its manifest, and the interpreter and folder that its steps run in."""

    manifest: str
    digest: str
    python: str
    root: str
    pools: dict[str, int] = field(default_factory=dict)  # tag -> how many places it has
    fail_fast: bool = False
    catch_up: bool = False
    start: str = ""  # a scheduled run before this moment is not due

    def run(self, parameters: dict[str, Any], or_default: dict[str, Any] | None = None) -> Run:
        """A run with these parameters; what is None in `or_default` keeps the pipeline's own default."""
        own = {name: value for name, value in (or_default or {}).items() if value is not None}
        return Run(self, {**parameters, **own})

    def command(self, verb: str, key: str, *more: str) -> list[str]:
        module = [self.python, "-P", "-m", "penstock", verb]
        return [*module, "--manifest", self.manifest, "--digest", self.digest, "--engine", "prefect",
                "--engine-run", key, *more]  # fmt: skip


@dataclass(frozen=True)
class _Step:
    task: Task[Any, Any]
    scopes: tuple[str, ...]
    needs: tuple[str, ...]
    at_once: asyncio.Semaphore | None
    updates: tuple[str, ...]


@dataclass
class _Map:
    scopes: tuple[str, ...]  # its own name is the last one
    needs: tuple[str, ...]
    indexes: asyncio.Future[list[str]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class _Turn:
    """What a task run must hold to be at work: a place among its step's own, and a worker's. Another attempt
    waits for its time without them, unless Prefect's own clock is running on the task (a timeout)."""

    def __init__(self, gates: list[asyncio.Semaphore], keeps: bool) -> None:
        self._gates = gates
        self._keeps = keeps
        self._holds = False
        self._not_before = 0.0

    async def take(self) -> None:
        if (wait := self._not_before - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)
        if not self._holds:
            for gate in self._gates:
                await gate.acquire()
            self._holds = True

    def give(self) -> None:
        if self._holds:
            for gate in self._gates:
                gate.release()
            self._holds = False

    def rest(self, seconds: float) -> None:
        """Until the next attempt, which begins after so many seconds at the earliest."""
        self._not_before = asyncio.get_running_loop().time() + seconds
        if not self._keeps:
            self.give()


_RUN: ContextVar[Run] = ContextVar("penstock_run")
_TURN: ContextVar[_Turn] = ContextVar("penstock_turn")


async def perform(step: str, index: str = "") -> State[Any]:
    """One attempt of one instance of a step, as a task's body: what the worker says of it, as a state."""
    run, turn, task_run = _RUN.get(), _TURN.get(), TaskRunContext.get().task_run
    logger = get_run_logger()
    await turn.take()
    if run.stopped:
        return Cancelled(message=run.stopped)
    request = {"step": step, "index": index, "attempt": task_run.run_count}
    try:
        answer = await run.workers.ask(request, lambda text: _log(logger, text))
    except WorkerLost as lost:
        if run.stopped:
            return Cancelled(message=run.stopped)
        turn.rest(0)
        raise WorkerLost(f"step '{step}{_shown(index)}': {lost}") from None
    said = answer.get("message") or ""
    if "\n" in said:
        logger.error("%s", said)  # with the step's own traceback
    return _state(answer, _summary(said), turn)


def _log(logger: Any, text: str) -> None:
    """What a step prints. Prefect drops a record of more than a million bytes."""
    for at in range(0, len(text), _RECORD):
        logger.info("%s", text[at : at + _RECORD].rstrip("\n"))


def _summary(said: str) -> str:
    """What happened, and of a traceback its last line."""
    first, _, rest = said.partition("\n")
    return f"{first}: {rest.strip().splitlines()[-1]}" if rest.strip() else first


def _state(answer: dict[str, Any], message: str, turn: _Turn) -> State[Any]:
    state = answer.get("state", "")
    if answer["exit"] in (0, 6):
        return Completed(name=_COMPLETED.get(state, "Completed"), message=message)
    if answer["exit"] == 75:
        turn.rest(answer.get("retry_in", 0.0))
        return Failed(message=message, data=AGAIN)
    if state == "cancelled" or answer["exit"] == 130:
        return Cancelled(message=message)
    return Failed(
        name=_FAILED.get(state, "Failed"), message=message or f"the worker's exit code is {answer['exit']}"
    )


def _shown(index: str) -> str:
    return f"[{index}]" if index else ""


class Run:
    """One run of the flow: steps and maps are told to it in order, then it goes to the end."""

    def __init__(self, pipeline: Pipeline, parameters: dict[str, Any]) -> None:
        self._pipeline = pipeline
        self._parameters = parameters
        self._steps: dict[str, _Step] = {}
        self._maps: dict[str, _Map] = {}
        self._scopes: tuple[str, ...] = ()
        self._places = asyncio.Semaphore(int(os.environ.get("PENSTOCK_WORKERS") or 0) or os.cpu_count() or 1)
        self._pools: dict[str, asyncio.Semaphore] = {}
        self._instances: dict[str, dict[str, asyncio.Task[State[Any] | None]]] = {}
        self._every: dict[tuple[str, str], asyncio.Future[list[State[Any] | None]]] = {}
        self._open: set[asyncio.Task[Any]] = set()
        self._news = asyncio.Event()
        self._error: BaseException | None = None
        self.stopped = ""  # why nothing more is begun
        self.workers: Workers = None

    def step(
        self,
        task: Task[Any, Any],
        *,
        wait_for: tuple[Task[Any, Any], ...] | list[Task[Any, Any]] = (),
        at_once: int = 0,
        updates: tuple[str, ...] | list[str] = (),
    ) -> None:
        """A step; inside a map, one task run per element. `at_once`: so many of them at the same time."""
        gate = asyncio.Semaphore(at_once) if at_once else None
        needs = tuple(each.name for each in wait_for)
        self._steps[task.name] = _Step(task, self._scopes, needs, gate, tuple(updates))

    @contextmanager
    def map(self, name: str, *, wait_for: tuple[Task[Any, Any], ...] | list[Task[Any, Any]] = ()) -> Any:
        """Steps told inside run once per element of a list, which is known when `wait_for` has ended."""
        above = self._scopes
        self._scopes = (*above, name)
        self._maps[name] = _Map(self._scopes, tuple(each.name for each in wait_for))
        try:
            yield
        finally:
            self._scopes = above

    async def to_the_end(self) -> State[Any]:
        """Run everything. Returns the state of the flow run, which the run log decides."""
        flow_run = FlowRunContext.get().flow_run
        if not_due := await self._not_due(flow_run):
            return not_due
        key = str(flow_run.id)
        more: tuple[str, ...] = ()
        if known := flow_run.labels.get(RUN_LABEL):
            more += ("--run", str(known))
        if flow_run.auto_scheduled:
            more += ("--logical-time", flow_run.expected_start_time.isoformat())
        programs = [str(Path(self._pipeline.python).parent), os.environ.get("PATH", os.defpath)]
        environment = {
            "PENSTOCK_PARAMETERS": json.dumps(self._parameters, default=_plain, ensure_ascii=False),
            "PENSTOCK_RUN": "",  # of a step that started this flow; ours is named below, or by the flow run
            "PATH": os.pathsep.join(programs),  # the project's own programs come before Prefect's
        }
        self.workers = Workers(
            self._pipeline.command("exec-steps", key, *more), self._pipeline.root, environment
        )
        _RUN.set(self)
        try:
            await self._begin(flow_run)
            await self._everything()
            ended = await self.workers.ask({"end": ""})
        except BaseException as error:
            self.workers.kill()
            if self.workers.run_id:
                self._record_end(
                    key, more, environment, "failed" if isinstance(error, Exception) else "cancelled"
                )
            raise
        finally:
            await self.workers.close()
        message = ended.get("message") or f"penstock run {self.workers.run_id}"
        kinds = {0: Completed, 130: Cancelled}
        return kinds.get(ended["exit"], Failed)(message=message)

    # -- beginning and end -----------------------------------------------------------------------------------

    async def _begin(self, flow_run: Any) -> None:
        async with get_client() as client:
            for pool, places in self._pipeline.pools.items():
                try:
                    limit = (await client.read_global_concurrency_limit_by_name(f"tag:{pool}")).limit
                except ObjectNotFound:
                    await client.create_concurrency_limit(pool, places)
                    limit = places
                self._pools[pool] = asyncio.Semaphore(max(1, min(limit, places)))
            await self.workers.begin()
            if self.workers.run_id and self.workers.run_id != flow_run.name:
                await client.set_flow_run_name(flow_run.id, self.workers.run_id)

    async def _not_due(self, flow_run: Any) -> State[Any] | None:
        """A scheduled run before the schedule's start, or one that was missed: a later one is due already."""
        if not flow_run.auto_scheduled or flow_run.expected_start_time is None:
            return None
        due = flow_run.expected_start_time
        if self._pipeline.start and due < datetime.fromisoformat(self._pipeline.start):
            return Cancelled(name="NotYet", message=f"the schedule starts at {self._pipeline.start}")
        if self._pipeline.catch_up:
            return None
        later = FlowRunFilter(
            deployment_id={"any_": [flow_run.deployment_id]},
            expected_start_time={"after_": due, "before_": datetime.now().astimezone()},
        )
        async with get_client() as client:
            runs = await client.read_flow_runs(flow_run_filter=later, limit=20)
        newer = [each for each in runs if each.auto_scheduled and each.expected_start_time > due]
        return Cancelled(name="Missed", message=f"a later run is due: {newer[0].name}") if newer else None

    def _record_end(self, key: str, more: tuple[str, ...], environment: dict[str, str], state: str) -> None:
        """Close penstock's run. In this thread and at once: the event loop is on its way out."""
        command = self._pipeline.command("exec-end", key, *more, "--engine-state", state)
        try:
            subprocess.run(
                command,
                cwd=self._pipeline.root,
                env={**os.environ, **environment},
                timeout=_END_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"penstock: the end of the run could not be recorded: {error}", file=sys.stderr)

    # -- in order --------------------------------------------------------------------------------------------

    async def _everything(self) -> None:
        for name in self._maps:
            self._go(self._expand(name))
        self._fan_out((), [""])
        if self._open:
            await self._news.wait()
        if self.stopped and self._open:
            await asyncio.wait(self._open, timeout=_PATIENCE_S)  # what waits for an attempt waits in vain
        left = list(self._open)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def _go(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(self._gone)
        return task

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self._open.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
        if self._error or self.stopped or not self._open:
            self._news.set()

    def _fan_out(self, scopes: tuple[str, ...], indexes: list[str]) -> None:
        for name, step in self._steps.items():
            if step.scopes == scopes:
                self._instances[name] = {index: self._go(self._instance(step, index)) for index in indexes}

    async def _expand(self, name: str) -> None:
        scope = self._maps[name]
        if len(scope.scopes) > 1:
            await self._maps[scope.scopes[-2]].indexes
        for need in scope.needs:
            await self._all_of(need, "")
        indexes: list[str] = []
        if not self.stopped:
            async with self._places:
                answer = await self.workers.ask({"map": name})
            if "indexes" not in answer:
                raise RuntimeError(f"the elements of map '{name}' cannot be told: {answer.get('message')}")
            indexes = answer["indexes"]
            elements = f"{len(indexes)} elements" if len(indexes) != 1 else "1 element"
            get_run_logger(FlowRunContext.get()).info(
                "map '%s': %s", name, elements if indexes else "nothing to do"
            )
        self._fan_out(scope.scopes, indexes)
        scope.indexes.set_result(indexes)

    async def _instance(self, step: _Step, index: str) -> State[Any] | None:
        """Wait for what it needs and for its turn, then let Prefect run it. None: it was not begun."""
        links = await self._needed(step, index)
        gates = [] if step.at_once is None else [step.at_once]
        gates += [self._pools[tag] for tag in sorted(step.task.tags) if tag in self._pools]
        pooled = bool(step.task.tags)  # Prefect keeps the place in a pool until the last attempt
        turn = _Turn([*gates, self._places], keeps=pooled or step.task.timeout_seconds is not None)
        _TURN.set(turn)
        await turn.take()
        try:
            if self.stopped:
                return None
            wait_for = [allow_failure(state) for state in links[:_LINKS]]
            where = {"index": index} if step.scopes else {}
            state: State[Any] = await step.task(**where, wait_for=wait_for, return_state=True)
        finally:
            turn.give()
        if state.is_failed() and self._pipeline.fail_fast and not self.stopped:
            self.stopped = "another step failed (fail_fast)"  # the launcher tells those that run
            self._news.set()
        if state.name == "Completed":
            for url in step.updates:
                resource = {"prefect.resource.id": f"penstock.data.{url}", "penstock.url": url}
                emit_event(event="penstock.data.updated", resource=resource)
        return state

    async def _needed(self, step: _Step, index: str) -> list[State[Any]]:
        """Everything that must have ended before. Gives the states that Prefect can draw as its upstream."""
        found: list[State[Any] | None] = []
        for depth, scope in enumerate(step.scopes):
            for need in self._maps[scope].needs:
                found += await self._ended(need, step.scopes[:depth], index)
        for need in step.needs:
            found += await self._ended(need, step.scopes, index)
        unique = {state.state_details.task_run_id: state for state in found if state is not None}
        return [state for state in unique.values() if state.is_completed() or state.is_failed()]

    async def _ended(self, name: str, scopes: tuple[str, ...], index: str) -> list[State[Any] | None]:
        """The instance of a step in the asker's own scopes, or every one below its place."""
        theirs = self._steps[name].scopes
        shared = 0
        while scopes[shared : shared + 1] and scopes[shared : shared + 1] == theirs[shared : shared + 1]:
            shared += 1
        place = ".".join(index.split(".")[:shared]) if shared else ""
        if shared == len(theirs):
            return [await self._instances[name][place]]
        return await self._all_of(name, place)

    async def _all_of(self, name: str, place: str) -> list[State[Any] | None]:
        if scopes := self._steps[name].scopes:
            await self._maps[scopes[-1]].indexes
        if (name, place) not in self._every:
            start = f"{place}." if place else ""
            below = (task for index, task in self._instances[name].items() if f"{index}.".startswith(start))
            self._every[name, place] = asyncio.ensure_future(asyncio.gather(*below))
        return await self._every[name, place]


# -- from a command line -------------------------------------------------------------------------------------


def command_line(flow: Flow[Any, Any], deployment: dict[str, Any]) -> None:
    """`python FILE.py [--parameter VALUE …]` runs the flow in this process; `… serve` waits for runs."""
    if sys.argv[1:] == ["serve"]:
        flow.serve(**deployment)
        return
    parser = argparse.ArgumentParser(
        description=f"Run the flow '{flow.name}' now, or `serve` it: wait for its runs."
    )
    for name, parameter in inspect.signature(flow.fn).parameters.items():
        flag = f"--{name.replace('_', '-')}"
        if parameter.annotation is bool:
            parser.add_argument(
                flag, dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS
            )
        else:
            required = parameter.default is inspect.Parameter.empty
            parser.add_argument(
                flag, dest=name, required=required, default=argparse.SUPPRESS, help=_wanted(parameter)
            )
    given = vars(parser.parse_args())
    annotations = {name: each.annotation for name, each in inspect.signature(flow.fn).parameters.items()}
    values = {name: _read(value, annotations[name]) for name, value in given.items()}
    state: Any = asyncio.run(flow(**values, return_state=True))
    sys.exit(0 if state.is_completed() else 130 if state.is_cancelled() else 1)


def _wanted(parameter: inspect.Parameter) -> str:
    shown = inspect.formatannotation(parameter.annotation).replace("%", "%%")
    default = "" if parameter.default is inspect.Parameter.empty else f" (default: {parameter.default!r})"
    return shown + default.replace("%", "%%")


def _read(value: Any, annotation: Any) -> Any:
    """A text of the command line: as it is where a text is wanted, else as JSON where it is JSON."""
    if not isinstance(value, str) or annotation is str or str in get_args(annotation):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def beside(file: str, name: str) -> str:
    """A file in the same folder as another one."""
    return str(Path(file).resolve().parent / name)
