"""How a step that is only a name becomes something to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..core.promises import promised


class LoadedStep:
    """A step's function with its annotations resolved."""

    __slots__ = ("fn", "has_run", "is_async", "outputs", "parameters", "promised", "result_type", "returns", "target")

    def __init__(
        self,
        *,
        target: str,
        fn: Callable[..., Any],
        parameters: dict[str, Any],
        returns: Any,
        outputs: dict[str, Any],
        result_type: type | None,
        is_async: bool,
    ) -> None:
        self.target = target
        self.fn = fn
        self.parameters = parameters  # name -> annotation (Any where there is none)
        self.returns = returns
        self.outputs = outputs  # output name -> annotation; {"output": returns} unless several
        self.promised = _promises(fn, outputs, result_type)  # for a check of what is returned
        self.result_type = result_type  # the NamedTuple or dataclass when a step has several outputs
        self.is_async = is_async
        self.has_run = False  # in this process


class StepLoader(Protocol):
    """Finds a step again, in this process or in another one."""

    def load(self, target: str, payload: str | None = None) -> LoadedStep:
        """Raises DefinitionError where the file, the name or an annotation cannot be resolved."""
        ...

    def load_result_type(self, target: str, payload: str | None = None) -> type | None:
        """The NamedTuple or dataclass that a step returns, or that a pipeline's result is."""
        ...


def _promises(fn: Any, outputs: dict[str, Any], result_type: type | None) -> dict[str, tuple[type, ...]]:
    """Of each output, the classes that its annotation names. A field may have its own default, whatever that is; and
    the annotations of a function that wraps another one are that one's, who returned something else perhaps."""
    if hasattr(fn, "__wrapped__"):
        return {}
    found = {name: promised(annotation) for name, annotation in outputs.items()}
    for name, classes in found.items() if result_type is not None else ():
        default = getattr(result_type, "_field_defaults", vars(result_type)).get(name, _NO_DEFAULT)
        if classes and default is not _NO_DEFAULT:
            found[name] = (*classes, type(default))
    return found


_NO_DEFAULT = object()
