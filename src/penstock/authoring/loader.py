"""Finds a step again from its name: the StepLoader of files on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.errors import DefinitionError
from ..ports.steps import LoadedStep
from .identity import find_qualname, is_notebook, load_module, split_target
from .step import AsyncStep, Step


class FileLoader:
    """Loads steps of one project; `entry`, the pipeline's own file, is imported first: names mean what they meant."""

    def __init__(
        self,
        root: str,
        entry: str | None = None,
        *,
        functions: dict[str, Callable[..., Any]] | None = None,
        unpack: Callable[[str], Callable[..., Any]] | None = None,
    ) -> None:
        self._root = root
        self._entry = entry
        self._functions = functions or {}
        self._unpack = unpack
        self._known: dict[str, LoadedStep] = {}

    def load(self, target: str, payload: str | None = None) -> LoadedStep:
        if (known := self._known.get(target)) is None:
            known = self._known[target] = self._load(target, payload)
        return known

    def load_result_type(self, target: str, payload: str | None = None) -> type | None:
        place, qualname = split_target(target)
        if not is_notebook(target):
            found = find_qualname(load_module(self._root, place), qualname, place)
            if isinstance(found, type):
                return found
        return self.load(target, payload).result_type

    def _load(self, target: str, payload: str | None) -> LoadedStep:
        if is_notebook(target):
            return loaded_step(target, Step(self._by_value(target, payload)))
        if self._entry is not None:
            entry, self._entry = self._entry, None
            load_module(self._root, split_target(entry)[0])
        place, qualname = split_target(target)
        found = find_qualname(load_module(self._root, place), qualname, place)
        if not isinstance(found, Step):
            raise DefinitionError(
                f"'{qualname}' in {place} is a {type(found).__name__}, not a step",
                hint=f"decorate it with @step, and let nothing else be named '{qualname}'",
            )
        return loaded_step(target, found)

    def _by_value(self, target: str, payload: str | None) -> Callable[..., Any]:
        if target in self._functions:
            return self._functions[target]
        if payload is not None and self._unpack is not None:
            return self._unpack(payload)
        raise DefinitionError(
            f"{target} lives in a notebook, and this process does not have it",
            hint="move the function to a .py file beside the notebook and import it",
        )


def loaded_step(target: str, found: Step[..., Any]) -> LoadedStep:
    """A step with its annotations resolved, for whoever runs it."""
    signature = found.signature
    if signature.problems:
        raise signature.problems[0]
    return LoadedStep(
        target=target,
        fn=found.fn,
        parameters=dict(signature.annotations),
        returns=signature.returns,
        outputs=signature.fields or {"output": signature.returns},
        result_type=signature.result_type,
        is_async=isinstance(found, AsyncStep),
    )
