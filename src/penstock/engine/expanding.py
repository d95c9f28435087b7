"""How many elements a map has, for an engine that starts them itself: index paths, never values."""

from __future__ import annotations

from ..core.errors import NotFoundError, did_you_mean
from ..ports.events import Event, MapExpanded, StepBlocked, StepSkipped
from .arguments import Blocked, NotReady, Skipped
from .frontier import child
from .single import StepSession


def expand(session: StepSession, scope: str, below: str = "") -> list[str]:
    """Expand a scope at every element of its parents, and record it. Returns the index paths of its elements.

    below: the index path of a parent's element; then only there.

    A scope that is blocked or skipped somewhere has no elements there; the run log says why, with each of its steps.
    """
    graph = session.graph
    names = [each.name for each in graph.scopes]
    if scope not in names:
        raise NotFoundError(f"this graph has no map '{scope}'", hint=did_you_mean(scope, names))
    session.catch_up()
    view, found = session.view, list[str]()
    events: list[Event] = []
    for parent in [below] if below else _parents(session, graph.scopes_of(scope)[:-1]):
        known = view.sizes.get((scope, parent))
        size = session.launcher.resolver.expand(scope, parent)
        if isinstance(size, int):
            found += [child(parent, at) for at in range(size)]
            if known != size:
                events.append(MapExpanded(at=session.services.clock.now_us(), scope=scope, index=parent, size=size))
        else:
            events += closed(session, scope, parent, size)
    if events and view.finished is None and session.is_ours:
        session.append(*events)
    return found


def closed(session: StepSession, scope: str, parent: str, verdict: Blocked | Skipped | NotReady) -> list[Event]:
    """The steps of a scope that has no elements at this index: each is done there, without any."""
    if isinstance(verdict, NotReady):
        return []  # whatever it waits for is gone: the end of the run says what became of it
    kind = StepBlocked if isinstance(verdict, Blocked) else StepSkipped
    now, graph = session.services.clock.now_us(), session.graph
    inside = [node.name for node in graph.nodes if scope in graph.scopes_of(node.scope)]
    return [
        kind(at=now, step=name, index=parent, because=verdict.because)
        for name in inside
        if not session.view.step(name, parent).state.done
    ]


def in_chunks(paths: list[str], most: int | None) -> list[str]:
    """At most so many entries; past that, neighbours share one, with commas between them.

    >>> in_chunks(["0", "1", "2", "3", "4"], 2)
    ['0,1,2', '3,4']
    """
    if most is None or len(paths) <= most:
        return paths
    each = -(-len(paths) // most)
    return [",".join(paths[at : at + each]) for at in range(0, len(paths), each)]


def _parents(session: StepSession, chain: tuple[str, ...]) -> list[str]:
    """Index paths of all elements of the innermost of these scopes, as far as they are expanded."""
    found = [""]
    for scope in chain:
        found = [child(path, at) for path in found for at in range(session.view.sizes.get((scope, path)) or 0)]
    return found
