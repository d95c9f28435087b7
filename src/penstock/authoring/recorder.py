"""The recorder: what a pipeline's body writes into while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import GenericAlias
from typing import Any

import msgspec

from ..core.errors import CodecError, DefinitionError, PenstockError
from ..core.jsonvalue import dumps
from ..core.location import Location, caller_location
from ..graph import Argument, Guard, Item, Many, Node, Output, Parameter, Scope, Secret, StepOptions, Value
from ..graph import Mapping as MappingArgument
from .handles import Handle
from .identity import is_notebook, target_of
from .options import SecretName
from .signature import Signature, fields_of, shown_type
from .typecheck import element_of, fits, value_fits

ACTIVE: ContextVar[Recorder | None] = ContextVar("penstock_recorder", default=None)


class StepCall(msgspec.Struct, frozen=True):
    """What the recorder must know of a step to record a call of it."""

    fn: Callable[..., Any]
    signature: Signature
    options: StepOptions
    name: str
    explicit: bool = False  # the user chose the name for this call
    after: tuple[Any, ...] = ()
    target: str | None = None  # where the step is found again, when its function is defined elsewhere


class Recorder:
    """Collects nodes, scopes and problems of one trace; problems are gathered so that all are told at once."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.nodes: dict[str, Node] = {}
        self.scopes: dict[str, Scope] = {}
        self.parameters: list[Parameter] = []
        self.problems: list[PenstockError] = []
        self.functions: dict[str, Callable[..., Any]] = {}  # notebook steps by target: they travel by value
        self._owners: dict[str, Callable[..., Any]] = {}  # base name -> the function that has it
        self._nests: set[str] = set()  # nested pipelines and scopes by name
        self._numbers: dict[str, int] = {}  # the last number given to a name that was taken
        self._prefix = ""
        self._scope: str | None = None
        self._guards: list[Guard] = []

    # -- recording -----------------------------------------------------------------------------------------------

    def record(self, call: StepCall, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Handle:
        """One step call -> a handle on what it will return."""
        where = caller_location()
        bound, problems = call.signature.bind(args, kwargs, where=where)
        self.problems += problems
        name = self._unique_name(call, where)
        return self._add(call, name, {key: (value, None) for key, value in bound.items()}, self._scope, where)

    def record_map(
        self, call: StepCall, fixed: Mapping[str, Any], over: Mapping[str, Any], *, max_size: int | None
    ) -> Handle:
        """One fan-out of a step -> a handle on the list of what its elements return."""
        where = caller_location()
        bound, problems = call.signature.bind((), {**fixed, **over}, where=where)
        self.problems += problems
        if not over:
            self._problem(
                f"'{call.name}.map()' has nothing to map over",
                where,
                hint="name at least one list: step.map(depth=depths)",
            )
        name = self._unique_name(call, where)
        scope, elements = self._open_scope(name, {key: bound[key] for key in over if key in bound}, where, max_size)
        inputs = {key: (elements[key] if key in elements else (value, None)) for key, value in bound.items()}
        return self._add(call, name, inputs, scope, where)

    @contextmanager
    def nested(self, name: str) -> Iterator[None]:
        """Names recorded inside get the prefix `name/`."""
        inside = self._free(self._prefix + name, self._nests)
        self._nests.add(inside)
        outer, self._prefix = self._prefix, f"{inside}/"
        try:
            yield
        finally:
            self._prefix = outer

    @contextmanager
    def mapped(self, name: str, over: Mapping[str, Any]) -> Iterator[dict[str, Handle]]:
        """Everything recorded inside is fanned out; gives the handles of one element."""
        where = caller_location()
        with self.nested(name):
            scope, elements = self._open_scope(self._prefix.rstrip("/"), over, where, None)
            outer, self._scope = self._scope, scope
            handles = {
                key: Handle(self, argument, annotation, f"element '{key}' of '{name}'", scope)
                for key, (argument, annotation) in elements.items()
            }
            try:
                yield handles
            finally:
                self._scope = outer

    @contextmanager
    def guarded(self, condition: Any, equals: Any) -> Iterator[None]:
        """Everything recorded inside runs only if `condition` equals `equals`."""
        where = caller_location()
        annotation = self.annotation_here(condition) if isinstance(condition, Handle) else type(condition)
        if not isinstance(condition, Handle):
            self._problem(
                f"when() takes a handle, not {condition!r}",
                where,
                hint="a value that is known while building can be tested with a plain `if`",
            )
        elif not value_fits(equals, annotation) and annotation is not Any:
            self._problem(
                f"when({condition._label}) compares {shown_type(annotation)} with {equals!r}",
                where,
                hint="return a bool from a step, or give the value to compare with: when(handle, is_=…)",
            )
        self._guards.append(Guard(self.argument(condition, where), dumps(equals)))
        try:
            yield
        finally:
            self._guards.pop()

    def order(self, handle: Handle, others: Sequence[Any]) -> None:
        """The node behind `handle` waits for those behind `others`."""
        where = caller_location()
        first = handle._argument
        names = self._nodes_behind(others, where)
        if isinstance(first, Output) and first.node in self.nodes:
            node = self.nodes[first.node]
            self.nodes[first.node] = msgspec.structs.replace(node, after=(*node.after, *names))
        else:
            self._problem(f"{handle._label} is not a step, so it cannot wait", where)

    # -- arguments -----------------------------------------------------------------------------------------------

    def argument(self, value: Any, where: Location | None) -> Argument:
        """What the graph keeps of a value given in a call."""
        match value:
            case Handle():
                if value._recorder is not self:
                    self._problem(f"{value._label} belongs to another pipeline", where)
                return value._argument
            case SecretName():
                return Secret(value.name)
            case list() | tuple() if _has_handle(value):
                items = tuple(self.argument(each, where) for each in value)
                return Many(items, as_tuple=isinstance(value, tuple))
            case dict() if _has_handle(list(value.values())):
                return MappingArgument(tuple(value), tuple(self.argument(each, where) for each in value.values()))
        try:
            return Value(dumps(value))
        except CodecError as error:
            self._problem(
                f"a {type(value).__name__} cannot be a constant in a pipeline: {error.problem}",
                where,
                hint="make it in a step and pass that step's handle",
            )
            return Value("null")

    def annotation_here(self, handle: Handle) -> Any:
        """A handle's annotation as seen from the current scope: one `list` per scope that is left."""
        inside, here = self._chain(handle._scope), self._chain(self._scope)
        left = len(inside) - _common(inside, here)
        annotation = handle._annotation
        for _ in range(left):
            annotation = list if annotation is Any else GenericAlias(list, (annotation,))
        return annotation

    # -- inside --------------------------------------------------------------------------------------------------

    def _add(
        self,
        call: StepCall,
        name: str,
        inputs: Mapping[str, tuple[Any, Any]],
        scope: str | None,
        where: Location | None,
    ) -> Handle:
        signature = call.signature
        self.problems += [problem for problem in signature.unresolved if problem not in self.problems]
        target = self._target(call)
        arguments: dict[str, Argument] = {}
        for key, (value, element) in inputs.items():
            if key not in signature.annotations:
                continue
            self._check(call, key, value, element, where)
            arguments[key] = value if element is not None else self.argument(value, where)
        fields = fields_of(signature.returns)
        self.nodes[name] = Node(
            name=name,
            target=target,
            inputs=arguments,
            outputs=tuple(fields or ("output",)),
            several=bool(fields),
            scope=scope,
            guards=tuple(self._guards),
            after=self._nodes_behind(call.after, where),
            options=call.options,
            where=where,
            returns=shown_type(signature.returns),
        )
        return Handle(self, Output(name), signature.returns, f"the output of step '{name}'", scope, fields)

    def _check(self, call: StepCall, key: str, value: Any, element: Any, where: Location | None) -> None:
        expected = call.signature.annotations[key]
        if element is not None:
            produced, label = element, f"an element given to '{key}'"
        elif isinstance(value, Handle):
            produced, label = self.annotation_here(value), value._label
        elif (
            isinstance(value, SecretName)
            or _has_handle([value])
            or (
                isinstance(value, (list, tuple, dict))
                and (_has_handle(list(value.values()) if isinstance(value, dict) else list(value)))
            )
        ) or value_fits(value, expected):
            return
        else:
            self._problem(
                f"'{call.signature.name}' takes '{key}: {shown_type(expected)}', but {value!r} was given", where
            )
            return
        if not fits(produced, expected):
            self._problem(
                f"'{call.signature.name}' takes '{key}: {shown_type(expected)}', but {label} is {shown_type(produced)}",
                where,
                hint=f"change the annotation at {call.signature.where}, or convert in a step between them",
            )

    def _open_scope(
        self, name: str, over: Mapping[str, Any], where: Location | None, max_size: int | None
    ) -> tuple[str, dict[str, tuple[Item, Any]]]:
        elements: dict[str, tuple[Item, Any]] = {}
        lists: dict[str, Argument] = {}
        lengths: dict[str, int] = {}
        for key, value in over.items():
            if isinstance(value, Handle):
                element = element_of(self.annotation_here(value))
            else:
                lengths[key] = len(value) if isinstance(value, (list, tuple)) else -1
                element = Any if lengths[key] >= 0 else None
                kinds = {type(each) for each in value} if lengths[key] > 0 else set()
                element = kinds.pop() if len(kinds) == 1 and Handle not in kinds else element
            if element is None:
                given = shown_type(self.annotation_here(value)) if isinstance(value, Handle) else repr(value)
                self._problem(
                    f"'{name}.map({key}=…)' needs a list, but got {given}",
                    where,
                    hint="pass what does not vary with .partial()",
                )
                element = Any
            lists[key] = self.argument(value, where)
            elements[key] = (Item(name, key), element)
        if len({length for length in lengths.values() if length >= 0}) > 1:
            shown = ", ".join(f"{key}: {length}" for key, length in lengths.items())
            self._problem(
                f"'{name}.map()' goes through its lists side by side, but they differ in length ({shown})", where
            )
        self.scopes[name] = Scope(
            name=name, over=lists, parent=self._scope, max_size=max_size, guards=tuple(self._guards), where=where
        )
        return name, elements

    def _target(self, call: StepCall) -> str:
        if call.target is not None:
            return call.target
        target = target_of(call.fn, self.root)
        if is_notebook(target):
            self.functions[target] = call.fn
        elif "<locals>" in target or "<lambda>" in target:
            self._problem(
                f"step '{call.name}' is defined inside another function, so another process could not find it",
                call.signature.where,
                hint="move it to module level",
            )
        return target

    def _unique_name(self, call: StepCall, where: Location | None) -> str:
        name = self._prefix + call.name
        owner = self._owners.setdefault(name, call.fn)
        if call.explicit and name in self.nodes:
            self._problem(f"two steps are named '{name}'", where, hint='give one of them another .named("…")')
        elif owner is not call.fn and not call.explicit:
            self._problem(
                f"two different steps are named '{name}'",
                where,
                hint='rename one function, or call it as step.named("…")(…)',
            )
        return self._free(name, self.nodes)

    def _free(self, name: str, taken: Container[str]) -> str:
        """`name`, or `name_2`, `name_3`, … where it is taken."""
        candidate = name
        while candidate in taken:
            self._numbers[name] = self._numbers.get(name, 1) + 1
            candidate = f"{name}_{self._numbers[name]}"
        return candidate

    def _nodes_behind(self, values: Sequence[Any], where: Location | None) -> tuple[str, ...]:
        names = []
        for value in values:
            if isinstance(value, Handle) and isinstance(value._argument, Output):
                names.append(value._argument.node)
            else:
                self._problem(f".after() takes what a step returned, not {value!r}", where)
        return tuple(names)

    def _chain(self, scope: str | None) -> tuple[str, ...]:
        chain: list[str] = []
        while scope is not None:
            chain.append(scope)
            scope = self.scopes[scope].parent
        return tuple(reversed(chain))

    def _problem(self, problem: str, where: Location | None, *, hint: str | None = None) -> None:
        self.problems.append(DefinitionError(problem, hint=hint, where=where))


class when:
    """The one branch form: what is called inside runs only if the value is True (or equals `is_`).

    Steps inside that are not run are *skipped*, and so is whatever needs their outputs, unless `optional()`.
    """

    def __init__(self, condition: Any, is_: Any = True) -> None:
        recorder = ACTIVE.get()
        if recorder is None:
            raise DefinitionError(
                "when() belongs inside a pipeline", where=caller_location(), hint="in a step, use a plain `if`"
            )
        self._guard = recorder.guarded(condition, is_)

    def __enter__(self) -> None:
        self._guard.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._guard.__exit__(*error)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        count += 1
    return count


def _has_handle(values: Sequence[Any]) -> bool:
    for value in values:
        if isinstance(value, (Handle, SecretName)):
            return True
        if isinstance(value, (list, tuple)) and _has_handle(value):
            return True
        if isinstance(value, dict) and _has_handle(list(value.values())):
            return True
    return False
