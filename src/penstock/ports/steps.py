"""How a step that is only a name becomes something to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..core.promises import promised


class LoadedStep:
    """A step's function with its annotations resolved."""

    __slots__ = ("fn", "is_async", "outputs", "parameters", "promised", "result_type", "returns", "target")

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
        self.promised = {name: promised(each) for name, each in outputs.items()}  # for a check of what is returned
        self.result_type = result_type  # the NamedTuple or dataclass when a step has several outputs
        self.is_async = is_async


class StepLoader(Protocol):
    """Finds a step again, in this process or in another one."""

    def load(self, target: str, payload: str | None = None) -> LoadedStep:
        """Raises DefinitionError where the file, the name or an annotation cannot be resolved."""
        ...

    def load_result_type(self, target: str, payload: str | None = None) -> type | None:
        """The NamedTuple or dataclass that a step returns, or that a pipeline's result is."""
        ...
