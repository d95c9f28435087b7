"""An input whose bytes are gone or altered is made again, by the step that made it, inside the same run.

A cache hit is accepted by existence and size; bytes are digested when they are read. So a loss shows in a consumer,
after its producer was done. The producer is opened again, once per run and process; whoever needs it waits for it, and
the consumer gets another attempt that its retry policy does not count. What is made again must fit what others of this
run have used already: where it comes out different, the run fails and says so, for half of it would rest on the one
value and half on the other. An at-most-once effect is never done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property

import msgspec

from ..core.errors import StoreError
from ..graph import Graph, Node, outputs_in
from ..ports.artifacts import ArtifactRef, Artifacts
from ..ports.events import RunView, StepReopened
from ..ports.records import Failure, FailureClass, StepRun, StepState
from ..ports.runlog import CacheIndex
from .arguments import Resolver
from .comparison import instance
from .frontier import Item, shared_prefix

_TRIES = 3  # of one consumer: each needs another loss
_LOSSES = (":ArtifactMissingError", ":ArtifactCorruptError")


class Healing:
    """For one run, in the process that decides: what is open again, and who waits for it."""

    def __init__(
        self, graph: Graph, view: RunView, resolver: Resolver, artifacts: Artifacts, cache: CacheIndex
    ) -> None:
        self._graph = graph
        self._view = view
        self._resolver = resolver
        self._artifacts = artifacts
        self._cache = cache
        self._open: set[tuple[str, str]] = set()
        self._again: set[tuple[str, str]] = set()
        self._tries: Counter[Item] = Counter()
        self.held: list[Item] = []

    # -- for the engine that orders steps ------------------------------------------------------------------------

    @property
    def began(self) -> bool:
        """Whether anything was opened again in this run."""
        return bool(self._again)

    def holds(self, item: Item) -> bool:
        """Whether something that the item needs is open again; then it is kept here until `released` gives it back."""
        if not self._open or not self._must_wait(item):
            return False
        self.held.append(item)
        return True

    def released(self) -> list[Item]:
        """Items that need not wait any longer: what they need is done again, in whatever way."""
        if not self.held:
            return []
        waiting = [item for item in self.held if self._must_wait(item)]
        free = [item for item in self.held if item not in waiting]
        self.held = waiting
        return free

    def reopened(self, item: Item, at: int, failure: Failure | None = None) -> list[StepReopened]:
        """The steps to open again so that this item can be done; the item itself among them where it has failed.

        Empty: there is no loss that could be made good. `failure` None: a list or a condition could not be read.
        """
        if failure is not None and not is_loss(failure):
            return []
        lost = list(self._lost(item))
        refused = any(self.refusal(run) is not None for run in lost)
        if refused or self._tries[item] >= _TRIES or (failure is None and not lost):
            return []
        self._tries[item] += 1
        self._resolver.forget()
        shown = instance(item.name, item.index)
        events = []
        for run in lost:
            self._forget_hits(run)
            self._open.add((run.step, run.index))
            self._again.add((run.step, run.index))
            because = f"'{shown}' needs its output, whose bytes are gone or altered"
            events.append(StepReopened(at=at, step=run.step, index=run.index, because=because))
        if failure is not None:
            because = "its input was lost and is made again" if lost else "its input is stored again"
            events.append(StepReopened(at=at, step=item.name, index=item.index, because=because))
        return events

    def refusal(self, run: StepRun) -> str | None:
        """Why a step whose output is lost is not run again."""
        if self._graph.node(run.step).options.effect == "at-most-once":
            return "an at-most-once effect, which is never done a second time"
        if (run.step, run.index) in self._again:
            return "which has been run again for this once already"
        return None

    # -- for the launcher ----------------------------------------------------------------------------------------

    def explained(self, item: Item, failure: Failure) -> Failure:
        """A lost input with the name of the step that made it, and what to do where it is not made again."""
        if not is_loss(failure):
            return failure
        lost = list(self._lost(item))
        if not lost:
            return failure
        made_by = " and ".join(f"'{instance(run.step, run.index)}'" for run in lost[:3])
        message, hint = f"{failure.message}; it is an output of step {made_by}", failure.hint
        why = next((why for run in lost if (why := self.refusal(run)) is not None), None)
        if why is not None:
            message = f"{message}, {why}"
            hint = (
                "put the bytes back where they were and resume the run, or start a new run, which makes them anew and "
                "does what such a step does again"
            )
        return msgspec.structs.replace(failure, message=message, hint=hint)

    def conflict(self, step: str, index: str, outputs: dict[str, ArtifactRef]) -> Failure | None:
        """What is wrong with outputs that were made again: others of this run have used what was there before."""
        before = self._view.lost.get((step, index))
        if before is None:
            return None
        changed = {ref.digest for name, ref in before.items() if name in outputs and outputs[name].digest != ref.digest}
        user = next(self._users(step, changed), None) if changed else None
        if user is None:
            return None
        shown = instance(step, index)
        return Failure(
            FailureClass.INPUT_LOST,
            f"the output of '{shown}' was lost, and made again it came out different; {user} has used the first one",
            hint="start a new run: penstock run FILE; a step with a fixed seed and declared inputs comes out the same",
        )

    # -- inside --------------------------------------------------------------------------------------------------

    @cached_property
    def _needs(self) -> dict[str, frozenset[str]]:
        return self._graph.needs()

    def _needs_of(self, item: Item) -> frozenset[str]:
        if not item.is_scope:
            return self._needs[item.name]
        scope = self._graph.scope(item.name)
        asked = [*scope.over.values(), *(guard.value for guard in scope.guards)]
        return frozenset(output.node for argument in asked for output in outputs_in(argument))

    def _must_wait(self, item: Item) -> bool:
        done = {key for key in self._open if self._view.step(*key).state.done}
        if done:
            self._open -= done
            self._resolver.forget()  # lists that were split before are split anew
        needs = self._needs_of(item)
        return any(name in needs for name, _ in self._open)

    def _lost(self, item: Item) -> Iterator[StepRun]:
        """The finished step runs right above an item whose outputs cannot be read."""
        needs = self._needs_of(item)
        chain = self._graph.scopes_of(item.name if item.is_scope else self._graph.node(item.name).scope)
        nodes = {name: self._graph.node(name) for name in needs}
        prefixes = {
            name: shared_prefix(item.index, chain, self._graph.scopes_of(node.scope)) for name, node in nodes.items()
        }
        for run in list(self._view.steps.values()):
            is_above = run.step in needs and run.state.has_output and _below(run.index, prefixes[run.step])
            if is_above and self._is_lost(run, nodes[run.step]):
                yield run

    def _is_lost(self, run: StepRun, node: Node) -> bool:
        return self._any_gone(ref for name, ref in run.outputs.items() if name in node.outputs)

    def _any_gone(self, refs: Iterable[ArtifactRef]) -> bool:
        gone = False
        try:
            for ref in refs:  # every one: what is left altered would be met again
                gone = self._artifacts.weed(ref) or gone
        except StoreError:  # nobody can tell now; the failure that was recorded says why
            return False
        return gone

    def _forget_hits(self, run: StepRun) -> None:
        for entry in self._cache.entries(run.key) if run.key is not None else ():
            if self._any_gone(entry.outputs.values()):
                self._cache.forget(entry.key, entry.run_id)

    def _users(self, step: str, changed: set[str]) -> Iterator[str]:
        for run in self._view.steps.values():
            began = run.state.has_output or run.state is StepState.RUNNING
            used = began and step in self._needs[run.step]
            if used and any(digest in changed for digests in run.inputs.values() for digest in digests):
                yield f"'{instance(run.step, run.index)}'"
        sized = {name for name, _ in self._view.sizes}
        for scope in self._graph.scopes:
            if scope.name in sized and step in self._needs_of(Item(scope.name, "", is_scope=True)):
                yield f"the map '{scope.name}'"
        for node in self._graph.nodes:
            guards = {output.node for guard in node.guards for output in outputs_in(guard.value)}
            if step in guards and any(run.step == node.name and run.state.done for run in self._view.steps.values()):
                yield f"the condition of '{node.name}'"


def is_loss(failure: Failure) -> bool:
    """Whether bytes were gone or altered; an input that is whole and cannot be decoded is no loss."""
    return failure.kind is FailureClass.INPUT_LOST and any(name.endswith(_LOSSES) for name in failure.types)


def _below(index: str, prefix: str) -> bool:
    return not prefix or index == prefix or index.startswith(f"{prefix}.")
