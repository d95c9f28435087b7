"""From the graph's arguments to stored values: what an instance is given, or why it cannot have it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import msgspec

from ..core.errors import ArtifactError
from ..core.jsonvalue import dumps, loads
from ..core.scratch import Scratch
from ..graph import Argument, Fields, Graph, Guard, Item, Many, Mapping, Node, Output, Param, Secret, Value, outputs_in
from ..ports.artifacts import Artifacts
from ..ports.events import RunView
from ..ports.records import Failure, StepRun, StepState
from .failure import failure_of
from .frontier import child, shared_prefix
from .tasks import NOTHING, Collected, Json, Keyed, SecretValue, Stored, TaskArgument, Whole

_encode = msgspec.msgpack.Encoder().encode
_FAILED = frozenset({StepState.FAILED, StepState.TIMED_OUT, StepState.UPSTREAM_FAILED, StepState.CANCELLED})


class Blocked(msgspec.Struct, frozen=True):
    """Something that is needed failed."""

    because: str


class Unreadable(Blocked, frozen=True):
    """A list that is mapped over, or the value of a condition, is gone from the store or altered there."""

    failure: Failure


class Skipped(msgspec.Struct, frozen=True):
    """A guard is false, or something that is needed was skipped."""

    because: str


class NotReady(msgspec.Struct, frozen=True):
    """Something that is needed is not done."""

    needs: str


class Refusal(Exception):
    """Carries a Blocked, Skipped or NotReady out of a nested argument."""

    def __init__(self, verdict: Blocked | Skipped | NotReady) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class Resolver:
    """Answers, for one run, what each instance receives."""

    def __init__(self, graph: Graph, view: RunView, parameters: dict[str, str], artifacts: Artifacts) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        self._scopes = {scope.name: scope for scope in graph.scopes}
        self._chains: dict[str, tuple[str, ...]] = {node.name: graph.scopes_of(node.scope) for node in graph.nodes}
        self._secret_names = {p.name for p in graph.parameters if p.secret}
        self._view = view
        self._parameters = parameters
        self._artifacts = artifacts
        self._lists: dict[tuple[str, str, str], _Elements] = {}

    def arguments(self, node: Node, index: str) -> dict[str, TaskArgument] | Blocked | Skipped | NotReady:
        """The instance's arguments, or why there are none. Guards are asked first: a false one skips, whatever else."""
        chain = self._chains[node.name]
        try:
            self._obey(node.guards, index, chain)
            self._wait(node, index, chain)
            try:
                return {name: self._resolve(each, index, chain) for name, each in node.inputs.items()}
            except Refusal as refusal:
                return self._verdict(refusal.verdict, node.inputs, index, chain)
        except Refusal as refusal:
            return refusal.verdict
        except ArtifactError as error:  # a list that is mapped over, or the value of a condition
            return Unreadable(f"what it needs cannot be read: {error.problem}", failure_of(error, loading=True))

    def expand(self, scope_name: str, index: str) -> int | Blocked | Skipped | NotReady:
        """The size of a scope at the index of its parent, or why it has none."""
        scope = self._scopes[scope_name]
        chain = self._graph.scopes_of(scope.parent)
        try:
            self._obey(scope.guards, index, chain)
            try:
                sizes = {name: len(self._elements(scope_name, name, index)) for name in scope.over}
            except Refusal as refusal:
                return self._verdict(refusal.verdict, scope.over, index, chain)
        except Refusal as refusal:
            return refusal.verdict
        except ArtifactError as error:
            because = f"what is mapped over cannot be read: {error.problem}"
            return Unreadable(because, failure_of(error, loading=True))
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{name}: {size}" for name, size in sizes.items())
            return Blocked(f"the lists mapped side by side differ in length ({shown})")
        size = next(iter(sizes.values()))
        if scope.max_size is not None and size > scope.max_size:
            return Blocked(f"the map has {size} elements, more than max_size={scope.max_size}")
        return size

    def result(self, argument: Argument) -> TaskArgument:
        """What the pipeline returned. Raises Refusal where it has no value."""
        return self._resolve(argument, "", ())

    def forget(self) -> None:
        """Split every list anew when it is asked for next: what one was made of may have been stored again."""
        self._lists.clear()

    # -- inside --------------------------------------------------------------------------------------------------

    def _verdict(
        self, first: Blocked | Skipped | NotReady, needs: dict[str, Argument], index: str, chain: tuple[str, ...]
    ) -> Blocked | Skipped | NotReady:
        """Of what is needed, one may have failed and another been skipped. The skip decides, for it stands whatever
        becomes of the failure; otherwise the order in which arguments are written, or stored, would decide."""
        if isinstance(first, Blocked):
            for output in [output for each in needs.values() for output in outputs_in(each) if not output.optional]:
                for run in self._runs_of(output.node, shared_prefix(index, chain, self._chains[output.node])):
                    if run.state is StepState.SKIPPED:
                        self._usable(run, optional=False)
        return first

    def _obey(self, guards: tuple[Guard, ...], index: str, chain: tuple[str, ...]) -> None:
        for guard in guards:
            value = self._resolve(guard.value, index, chain)
            held = self._json(value)
            if held != guard.equals:
                what = _shown(guard.value)
                raise Refusal(
                    Skipped(f"{what} is {held}" if guard.equals == "true" else f"{what} is {held}, not {guard.equals}")
                )

    def _wait(self, node: Node, index: str, chain: tuple[str, ...]) -> None:
        for name in node.after:
            for run in self._runs_of(name, shared_prefix(index, chain, self._chains[name])):
                self._usable(run, optional=True)

    def _resolve(self, argument: Argument, index: str, chain: tuple[str, ...]) -> TaskArgument:
        match argument:
            case Value(text):
                return Json(text)
            case Param(name):
                if name in self._secret_names:
                    return SecretValue(loads(self._parameters[name]).removeprefix("secret:"))
                return Json(self._parameters[name])
            case Secret(name):
                return SecretValue(name)
            case Output():
                return self._output(argument, index, chain)
            case Item(scope, name):
                depth = self._graph.scopes_of(scope)
                own = index.split(".")[: len(depth)]
                elements, at = self._elements(scope, name, ".".join(own[:-1])), int(own[-1])
                if at >= len(elements):  # asked for by an engine that counts otherwise
                    raise Refusal(Blocked(f"the map '{scope}' has no element {at}"))
                return elements[at]
            case Many(items, as_tuple):
                return Collected(tuple(self._resolve(each, index, chain) for each in items), as_tuple)
            case Mapping(keys, items):
                return Keyed(keys, tuple(self._resolve(each, index, chain) for each in items))
            case Fields(target, keys, items):
                return Whole(target, keys, tuple(self._resolve(each, index, chain) for each in items))

    def _output(self, output: Output, index: str, chain: tuple[str, ...]) -> TaskArgument:
        node = self._nodes[output.node]
        theirs = self._chains[output.node]
        prefix = shared_prefix(index, chain, theirs)
        return self._collect(node, output, prefix, theirs[len(prefix.split(".")) if prefix else 0 :])

    def _collect(self, node: Node, output: Output, prefix: str, scopes: tuple[str, ...]) -> TaskArgument:
        run = self._view.step(node.name, prefix)
        if not scopes or run.state.done:  # done above its scope: the scope was closed there, and has no elements
            return self._value(node, output, run)
        size = self._view.sizes.get((scopes[0], prefix))
        if size is None:
            raise Refusal(NotReady(node.name))
        return Collected(tuple(self._collect(node, output, child(prefix, at), scopes[1:]) for at in range(size)))

    def _value(self, node: Node, output: Output, run: StepRun) -> TaskArgument:
        if not self._usable(run, optional=output.optional):
            return NOTHING
        if output.field is not None:
            return Stored(run.outputs[output.field])
        if not node.several:
            return Stored(run.outputs[node.outputs[0]])
        return Whole(node.target, node.outputs, tuple(Stored(run.outputs[name]) for name in node.outputs), node.payload)

    def _usable(self, run: StepRun, *, optional: bool) -> bool:
        if run.state.has_output:
            return True
        shown = f"{run.step}[{run.index}]" if run.index else run.step
        if run.state in _FAILED:
            raise Refusal(Blocked(f"'{shown}' {run.state.value.replace('_', ' ')}"))
        if run.state is StepState.SKIPPED:
            if optional:
                return False
            raise Refusal(Skipped(f"'{shown}' was skipped"))
        raise Refusal(NotReady(run.step))

    def _runs_of(self, name: str, prefix: str) -> Iterator[StepRun]:
        chain = self._chains[name]
        depth = len(prefix.split(".")) if prefix else 0
        run = self._view.step(name, prefix)
        if run.state.done or depth == len(chain):
            yield run
            return
        size = self._view.sizes.get((chain[depth], prefix))
        if size is None:
            raise Refusal(NotReady(name))
        for at in range(size):
            yield from self._runs_of(name, child(prefix, at))

    def _elements(self, scope: str, name: str, index: str) -> _Elements:
        """The list that a scope goes through, element by element: each has an identity of its own."""
        if (known := self._lists.get((scope, name, index))) is not None:
            return known
        declared = self._scopes[scope]
        value = self._resolve(declared.over[name], index, self._graph.scopes_of(declared.parent))
        elements = _Elements()
        for element in self._split(value):
            elements.append(element)
        self._lists[scope, name, index] = elements
        return elements

    def _split(self, value: TaskArgument) -> Iterable[TaskArgument]:
        match value:
            case Collected(items) | Whole(_, _, items):
                return items
            case Json(text):
                return (Json(dumps(each)) for each in _listed(loads(text)))
            case Stored(ref) if ref.inline is not None:
                return (Json(dumps(each)) for each in _listed(loads(ref.inline)))
            case Stored(ref):
                return (Stored(self._artifacts.save(each)) for each in _listed(self._artifacts.load(ref)))
            case _:
                raise Refusal(Blocked("what is mapped over is not a list"))

    def _json(self, value: TaskArgument) -> str:
        match value:
            case Json(text):
                return text
            case Stored(ref):
                return ref.inline if ref.inline is not None else dumps(self._artifacts.load(ref))
            case _:
                return "a value that is not JSON"


class _Elements:
    """A list that is mapped over, in little room: each element is asked for once, most of the time."""

    def __init__(self) -> None:
        self._scratch = Scratch()
        self._places = array("q")
        self._decoder: msgspec.msgpack.Decoder[TaskArgument] = msgspec.msgpack.Decoder(TaskArgument)

    def append(self, element: TaskArgument) -> None:
        self._places.append(self._scratch.put(_encode(element)))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, at: int) -> TaskArgument:
        return self._decoder.decode(self._scratch.get(self._places[at]))


def _listed(value: object) -> list[object]:
    if isinstance(value, (list, tuple)):
        return list(value)
    raise Refusal(Blocked(f"what is mapped over is a {type(value).__name__}, not a list"))


def _shown(argument: Argument) -> str:
    match argument:
        case Output(node, field):
            return f"{node}.{field}" if field else node
        case Param(name) | Item(_, name):
            return name
        case _:
            return "the condition"
