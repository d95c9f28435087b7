"""The recorder: what a pipeline's body writes into while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
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
from .handles import Handle, broken_handle
from .identity import by_value_target, hidden_by, is_notebook, target_of
from .options import SecretName
from .signature import Signature, shown_type
from .typecheck import element_of, fits, parts_of, value_fits

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

    def __init__(self, root: str, body: Callable[..., Any], *, by_value: bool = False) -> None:
        self.root = root
        self._by_value = by_value  # what another process could not find travels as the function itself
        self.nodes: dict[str, Node] = {}
        self.scopes: dict[str, Scope] = {}
        self.parameters: list[Parameter] = []
        self.problems: list[PenstockError] = []
        self.functions: dict[str, Callable[..., Any]] = {}  # notebook steps by target: they travel by value
        self._owners: dict[str, Callable[..., Any]] = {}  # base name -> the function that has it
        self._nests: set[str] = set()  # nested pipelines by name
        self._inside = [body]  # pipelines whose bodies are being traced
        self._numbers: dict[str, int] = {}  # the last number given to a name that was taken
        self._prefix = ""
        self._scope: str | None = None
        self._guards: list[Guard] = []
        self._targets: dict[Callable[..., Any], str] = {}

    # -- recording -----------------------------------------------------------------------------------------------

    def record(self, call: StepCall, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Handle:
        """One step call -> a handle on what it will return."""
        where = caller_location()
        bound, problems = call.signature.bind(args, kwargs, where=where)
        self.problems += problems
        name = self._unique_name(call, where)
        return self._add(call, name, self._given(call.signature, bound, where), self._scope, where)

    def record_map(
        self, call: StepCall, fixed: Mapping[str, Any], over: Mapping[str, Any], *, max_size: int | None
    ) -> Handle:
        """One fan-out of a step -> a handle on the list of what its elements return."""
        where = caller_location()
        name = self._unique_name(call, where)
        signature = call.signature
        inputs = self._given(signature, fixed, where)
        inputs |= self._open_scope(signature, name, over, where, max_size)
        ordered = {key: inputs[key] for key in signature.names if key in inputs}
        return self._add(call, name, ordered, name, where)

    @contextmanager
    def nested(self, name: str, body: Callable[..., Any], where: Location | None) -> Iterator[None]:
        """Names recorded inside get the prefix `name/`."""
        if body in self._inside:
            raise DefinitionError(
                f"pipeline '{name}' contains itself",
                where=where,
                hint="a graph has a fixed size; repeat work inside a step",
            )
        inside = self._free(self._prefix + name, self._nests, self.nodes)
        self._nests.add(inside)
        self._inside.append(body)
        outer, self._prefix = self._prefix, f"{inside}/"
        try:
            yield
        finally:
            self._prefix = outer
            self._inside.pop()

    @contextmanager
    def mapped(
        self, signature: Signature, over: Mapping[str, Any], where: Location | None, max_size: int | None
    ) -> Iterator[tuple[str, dict[str, Handle]]]:
        """Everything recorded inside is fanned out; gives the scope, and the handles of one element."""
        name = self._prefix.rstrip("/")
        elements = self._open_scope(signature, name, over, where, max_size)
        outer, self._scope = self._scope, name
        handles = {
            key: Handle(self, item, signature.annotations[key], f"element '{key}' of '{name}'", name)
            for key, item in elements.items()
        }
        try:
            yield name, handles
        finally:
            self._scope = outer

    def collected(self, result: Any, name: str, scope: str, where: Location | None) -> Any:
        """What a mapped pipeline gives: the list of what its last step returned, element by element."""
        if result is None or (isinstance(result, Handle) and result._mistake is not None):
            return result
        if isinstance(result, Handle) and scope in self._chain(result._scope) and isinstance(result._argument, Output):
            return result
        what = result._label if isinstance(result, Handle) else f"a value of type {type(result).__name__}"
        return self.broken(
            DefinitionError(
                f"'{name}.map()' makes a list of what '{name}' returns, but {what} is not made inside it, "
                "element by element",
                where=where,
                hint=f"let '{name}' return what one of its own steps returned",
            )
        )

    @contextmanager
    def guarded(self, condition: Any, equals: Any, where: Location | None) -> Iterator[None]:
        """Everything recorded inside runs only if `condition` equals `equals`."""
        self._guards.append(Guard(self.argument(condition, where), self._compared(condition, equals, where)))
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
            self.problem(f"{handle._label} is not a step, so it cannot wait", where)

    def broken(self, mistake: DefinitionError) -> Handle:
        """Note a mistake and give something to go on with. Outside this trace there is nowhere to note it: raise."""
        if ACTIVE.get() is not self:
            raise mistake
        self.problems.append(mistake)
        return broken_handle(self, mistake)

    def problem(self, problem: str, where: Location | None, *, hint: str | None = None) -> None:
        self.problems.append(DefinitionError(problem, hint=hint, where=where))

    # -- arguments -----------------------------------------------------------------------------------------------

    def argument(self, value: Any, where: Location | None) -> Argument:
        """What the graph keeps of a value given in a call."""
        match value:
            case Handle():
                return value._argument if self._in_reach(value, where) else Value("null")
            case SecretName():
                return Secret(value.name)
            case list() | tuple() if has_handle(value) and not hasattr(value, "_fields"):
                items = tuple(self.argument(each, where) for each in value)
                return Many(items, as_tuple=isinstance(value, tuple))
            case dict() if has_handle(value.values()):
                return MappingArgument(tuple(value), tuple(self.argument(each, where) for each in value.values()))
        try:
            return Value(dumps(value))
        except CodecError as error:
            self._no_constant(value, error, where)
            return Value("null")

    def misfit(self, value: Any, expected: Any) -> str | None:
        """How a value in a call breaks an annotation, in words; None where it fits."""
        match value:
            case Handle():
                produced = self.annotation_here(value)
                return None if fits(produced, expected) else f"{value._label} is {shown_type(produced)}"
            case SecretName():
                return None if fits(str, expected) else f"{value!r} is a text"
            case list() | tuple() | dict() if has_handle([value]):
                return self._misfit_inside(value, expected)
        return None if value_fits(value, expected) else f"{value!r} was given"

    def annotation_here(self, handle: Handle) -> Any:
        """A handle's annotation as seen from the current scope: one `list` per scope that is left."""
        if handle._scope == self._scope:
            return handle._annotation
        inside, here = self._chain(handle._scope), self._chain(self._scope)
        left = len(inside) - _common(inside, here)
        annotation = handle._annotation
        for _ in range(left):
            annotation = list if annotation is Any else GenericAlias(list, (annotation,))
        return annotation

    def check_argument(self, signature: Signature, key: str, value: Any, where: Location | None) -> bool:
        """Whether a value fits the parameter it is given to; noted where it does not."""
        expected = signature.annotations[key]
        if (wrong := self.misfit(value, expected)) is not None:
            self._mismatch(signature, key, wrong, where, has_handle([value]))
        return wrong is None

    # -- inside --------------------------------------------------------------------------------------------------

    def _given(self, signature: Signature, bound: Mapping[str, Any], where: Location | None) -> dict[str, Argument]:
        for key, value in bound.items():
            self.check_argument(signature, key, value, where)
        return {key: self.argument(value, where) for key, value in bound.items()}

    def _mismatch(self, signature: Signature, key: str, wrong: str, where: Location | None, converts: bool) -> None:
        self.problem(
            f"'{signature.name}' takes '{key}: {shown_type(signature.annotations[key])}', but {wrong}",
            where,
            hint=f"change the annotation at {signature.where}, or convert in a step between them" if converts else None,
        )

    def _misfit_inside(self, value: Any, expected: Any) -> str | None:
        parts = parts_of(value, expected)
        if parts is None:
            return f"a {type(value).__name__} was given"
        return next((wrong for part, wanted in parts if (wrong := self.misfit(part, wanted)) is not None), None)

    def _in_reach(self, handle: Handle, where: Location | None) -> bool:
        """A handle belongs to one trace; an element exists only inside its own fan-out. Noted where it is not so."""
        if handle._recorder is not self:
            self.problem(f"{handle._label} belongs to another pipeline", where)
        elif isinstance(handle._argument, Item) and handle._argument.scope not in self._chain(self._scope):
            self.problem(f"{handle._label} is used outside the fan-out that it is an element of", where)
        else:
            return True
        return False

    def _no_constant(self, value: Any, error: CodecError, where: Location | None) -> None:
        kind = type(value).__name__
        if _holds_handles(value):
            self.problem(
                f"a {kind} with handles in it cannot be passed whole", where, hint="pass its fields one by one"
            )
        else:
            self.problem(
                f"a constant in a pipeline is a plain value, but {error.problem}",
                where,
                hint="make it in a step and pass that step's handle",
            )

    def _compared(self, condition: Any, equals: Any, where: Location | None) -> str:
        """The text that a guard's value must have."""
        if not isinstance(condition, Handle):
            self.problem(
                f"when() takes a handle, not {condition!r}",
                where,
                hint="a value that is known while building can be tested with a plain `if`",
            )
            return "true"
        annotation = self.annotation_here(condition)
        if not value_fits(equals, annotation):
            self.problem(
                f"when({condition._label}) compares {shown_type(annotation)} with {equals!r}",
                where,
                hint="return a bool from a step, or give the value to compare with: when(handle, is_=…)",
            )
            return "true"
        if annotation is float and type(equals) is int:
            equals = float(equals)  # the value will be written as a float is
        try:
            return dumps(equals)
        except CodecError as error:
            self.problem(f"when(…, is_={equals!r}): {error.problem}", where, hint="compare with a plain value")
            return "true"

    def _add(
        self,
        call: StepCall,
        name: str,
        inputs: dict[str, Argument],
        scope: str | None,
        where: Location | None,
    ) -> Handle:
        signature = call.signature
        self.problems += [problem for problem in signature.problems if problem not in self.problems]
        self.nodes[name] = Node(
            name=name,
            target=self._target(call, where),
            inputs=inputs,
            outputs=tuple(signature.fields or ("output",)),
            several=bool(signature.fields),
            scope=scope,
            guards=tuple(self._guards),
            after=self._nodes_behind(call.after, where),
            options=call.options,
            where=where,
            returns=shown_type(signature.returns),
            types=tuple(shown_type(each) for each in (signature.fields or {}).values()),
        )
        label = f"the output of step '{name}'"
        return Handle(self, Output(name), signature.returns, label, scope, signature.fields)

    def _open_scope(
        self,
        signature: Signature,
        name: str,
        over: Mapping[str, Any],
        where: Location | None,
        max_size: int | None,
    ) -> dict[str, Argument]:
        """A new fan-out over these lists; gives its elements by parameter."""
        lists = {key: list(value) if isinstance(value, range) else value for key, value in over.items()}
        if not lists:
            self.problem(nothing_to_map(signature.name), where, hint="name at least one list: step.map(depth=depths)")
        for key, value in lists.items():
            self._check_elements(signature, key, value, where)
        lengths = {key: len(value) for key, value in lists.items() if isinstance(value, (list, tuple))}
        if len(set(lengths.values())) > 1:
            self.problem(unequal(signature.name, lengths), where)
        if max_size is not None and any(length > max_size for length in lengths.values()):
            longest = max(lengths.values())
            self.problem(f"'{signature.name}.map()' goes over {longest} elements, but max_size is {max_size}", where)
        self.scopes[name] = Scope(
            name=name,
            over={key: self.argument(value, where) for key, value in lists.items()},
            parent=self._scope,
            max_size=max_size,
            guards=tuple(self._guards),
            where=where,
        )
        return {key: Item(name, key) for key in lists}

    def _check_elements(self, signature: Signature, key: str, value: Any, where: Location | None) -> None:
        expected = signature.annotations[key]
        if isinstance(value, Handle):
            produced = self.annotation_here(value)
            element = element_of(produced)
            if element is None:
                self._no_list(signature, key, shown_type(produced), where)
            elif not fits(element, expected):
                self._mismatch(signature, key, f"an element of {value._label} is {shown_type(element)}", where, True)
        elif isinstance(value, (list, tuple)):
            wrong = next((text for each in value if (text := self.misfit(each, expected)) is not None), None)
            if wrong is not None:
                self._mismatch(signature, key, wrong, where, has_handle(value))
        else:
            self._no_list(signature, key, repr(value), where)

    def _no_list(self, signature: Signature, key: str, given: str, where: Location | None) -> None:
        self.problem(
            f"'{signature.name}.map({key}=…)' needs a list, but got {given}",
            where,
            hint="pass what does not vary with .partial()",
        )

    # -- names ---------------------------------------------------------------------------------------------------

    def _target(self, call: StepCall, where: Location | None) -> str:
        """What another process will find the step by; a problem where it would not find it."""
        if call.target is not None:
            return call.target
        known = self._targets.get(call.fn)
        if known is None:
            known = self._targets[call.fn] = self._found_again(call, where)
        return known

    def _found_again(self, call: StepCall, where: Location | None) -> str:
        target = target_of(call.fn, self.root)
        if self._by_value and ("<" in target or hidden_by(call.fn) is not None):
            target = by_value_target(call.fn)
        if is_notebook(target):
            if self.functions.setdefault(target, call.fn) is not call.fn:
                name = call.fn.__name__
                self.problem(f"two different functions are named '{name}'", where, hint="give one another name")
        elif "<locals>" in target or "<lambda>" in target:
            self.problem(
                f"step '{call.name}' is defined inside another function, so another process could not find it",
                call.signature.where,
                hint="move it to module level",
            )
        elif (instead := hidden_by(call.fn)) is not None:
            self.problem(
                f"step '{call.name}' could not be found again: '{call.fn.__qualname__}' in its file is {instead}",
                call.signature.where,
                hint="write @step as the topmost decorator, and let nothing else in the file have the function's name",
            )
        return target

    def _unique_name(self, call: StepCall, where: Location | None) -> str:
        name = self._prefix + call.name
        owner = self._owners.setdefault(name, call.fn)
        if call.explicit and name in self.nodes:
            self.problem(f"two steps are named '{name}'", where, hint='give one of them another .named("…")')
        elif owner is not call.fn and not call.explicit:
            self.problem(
                f"two different steps are named '{name}'",
                where,
                hint='rename one function, or call it as step.named("…")(…)',
            )
        return self._free(name, self.nodes, self.scopes)

    def _free(self, name: str, *taken: Container[str]) -> str:
        """`name`, or `name_2`, `name_3`, … where it is taken."""
        candidate = name
        while any(candidate in names for names in taken):
            self._numbers[name] = self._numbers.get(name, 1) + 1
            candidate = f"{name}_{self._numbers[name]}"
        return candidate

    def _nodes_behind(self, values: Sequence[Any], where: Location | None) -> tuple[str, ...]:
        names = []
        for value in values:
            if isinstance(value, Handle) and value._mistake is not None:
                continue
            if isinstance(value, Handle) and isinstance(value._argument, Output):
                if self._in_reach(value, where):
                    names.append(value._argument.node)
            else:
                self.problem(f".after() takes what a step returned, not {value!r}", where)
        return tuple(names)

    def _chain(self, scope: str | None) -> tuple[str, ...]:
        chain: list[str] = []
        while scope is not None:
            chain.append(scope)
            scope = self.scopes[scope].parent
        return tuple(reversed(chain))


class when:
    """The one branch form: what is called inside runs only if the value is True (or equals `is_`).

    Steps inside that are not run are *skipped*, and so is whatever needs their outputs, unless `optional()`.
    """

    def __init__(self, condition: Any, is_: Any = True) -> None:
        where = caller_location()
        recorder = ACTIVE.get()
        if recorder is None:
            raise DefinitionError("when() belongs inside a pipeline", where=where, hint="in a step, use a plain `if`")
        self._guard = recorder.guarded(condition, is_, where)

    def __enter__(self) -> None:
        self._guard.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._guard.__exit__(*error)


def checked_name(name: str | None) -> str | None:
    """A name that somebody chose for a step or a pipeline: it must be fit for a command line and a file."""
    if name is not None and (not isinstance(name, str) or not name.replace("-", "_").isidentifier()):
        raise DefinitionError(
            f"{name!r} cannot be a name", hint="write letters, digits, - and _", where=caller_location()
        )
    return name


def nothing_to_map(name: str) -> str:
    return f"'{name}.map()' has nothing to map over"


def unequal(name: str, lengths: Mapping[str, int]) -> str:
    shown = ", ".join(f"{key}: {length}" for key, length in lengths.items())
    return f"'{name}.map()' goes through its lists side by side, but they differ in length ({shown})"


def has_handle(values: Iterable[Any]) -> bool:
    """Whether a handle or a secret is among the values, or in a list, tuple or dict among them."""
    for value in values:
        if isinstance(value, (Handle, SecretName)):
            return True
        if isinstance(value, (list, tuple)) and has_handle(value):
            return True
        if isinstance(value, dict) and has_handle(value.values()):
            return True
    return False


def _holds_handles(value: Any) -> bool:
    fields = getattr(value, "__dataclass_fields__", None)
    return has_handle(getattr(value, name, None) for name in fields) if fields else has_handle([value])


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        count += 1
    return count
