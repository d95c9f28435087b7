"""Steps that an engine gave up without asking: recorded as what they are, before somebody else's fate hangs on it.

An engine that sees a failure may give up what needs it at once, in its own words, and start no process for it. The run
log then knows nothing of that step; but one that runs whatever happened, or takes a skipped step as None, asks for it.
"""

from __future__ import annotations

from ..ports.events import StepBlocked, StepEvent, StepSkipped
from ..ports.records import StepState
from .arguments import Blocked, Skipped
from .expanding import closed, expand
from .frontier import Frontier, Item
from .single import StepExit, StepSession, check_instance


def execute_settled(
    session: StepSession, step: str, index: str, engine_attempt: int | None
) -> tuple[StepExit, StepEvent | None]:
    """`StepSession.execute`; where it is not ready, what can never start any more is settled first."""
    if session.engine and (known := _settled_before(session, step, index)) is not None:
        return known
    code, event = session.execute(step, index, engine_attempt)
    if code is StepExit.NOT_READY and session.engine and settle(session):
        code, event = session.execute(step, index, engine_attempt)
    return code, event


def _settled_before(session: StepSession, step: str, index: str) -> tuple[StepExit, StepEvent] | None:
    """What was recorded of an instance before its engine asked for it; told again, and not recorded twice."""
    session.catch_up()
    check_instance(session.graph, step, index, session.view)
    state, now = session.view.step(step, index).state, session.services.clock.now_us()
    if session.view.finished is not None or state not in (StepState.SKIPPED, StepState.UPSTREAM_FAILED):
        return None
    verdict = session.launcher.resolver.arguments(session.graph.node(step), index)
    if state is StepState.SKIPPED and isinstance(verdict, Skipped):
        return StepExit.DONE, StepSkipped(at=now, step=step, index=index, because=verdict.because)
    if state is StepState.UPSTREAM_FAILED and isinstance(verdict, Blocked):
        return StepExit.UPSTREAM_FAILED, StepBlocked(at=now, step=step, index=index, because=verdict.because)
    return None


def expand_settled(session: StepSession, scope: str, below: str = "") -> list[str]:
    """`expand`, with all settled that can never start any more."""
    if session.engine:
        settle(session)
    return expand(session, scope, below)


def settle(session: StepSession) -> bool:
    """Record, for every step that can never start, why: what it needs failed or was skipped. Whether there was any."""
    session.catch_up()
    if session.view.finished is not None or not session.is_ours:
        return False
    frontier, any_settled = Frontier(session.graph), False
    while frontier.ready or frontier.open_more():
        item = frontier.ready.popleft()
        settled = _settle_scope if item.is_scope else _settle_step
        any_settled |= settled(session, frontier, item)
    return any_settled


def _settle_step(session: StepSession, frontier: Frontier, item: Item) -> bool:
    run = session.view.step(item.name, item.index)
    if run.state.done:
        frontier.finished(item.name, item.index)
        return False
    verdict = session.launcher.resolver.arguments(session.graph.node(item.name), item.index)
    if run.attempts or not isinstance(verdict, Skipped | Blocked):
        return False  # it runs, or will
    kind = StepSkipped if isinstance(verdict, Skipped) else StepBlocked
    now = session.services.clock.now_us()
    session.append(kind(at=now, step=item.name, index=item.index, because=verdict.because))
    session.catch_up()
    frontier.finished(item.name, item.index)
    return True


def _settle_scope(session: StepSession, frontier: Frontier, item: Item) -> bool:
    size = session.view.sizes.get((item.name, item.index))
    if size is not None:
        frontier.expanded(item.name, item.index, size)
        return False
    verdict = session.launcher.resolver.expand(item.name, item.index)
    if not isinstance(verdict, Skipped | Blocked):
        return False
    if events := closed(session, item.name, item.index, verdict):
        session.append(*events)
        session.catch_up()
    frontier.closed(item.name, item.index)
    return bool(events)
