"""What a case of the suite is: a user's file, what is done with it, and what must come of that."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

FOLDER = Path(__file__).parent / "cases"
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Act(NamedTuple):
    """One thing that is done with a case: a run is started, or the run of the act before is resumed."""

    state: str = "succeeded"  # how the run must end; "": nothing is said about it
    output: Any = ...  # what the pipeline must return; `...`: nothing is said about it
    parameters: Mapping[str, Any] = NOTHING
    where: Literal["engine", "local"] = "engine"  # on the engine that is tried, or always on the local one
    resume: bool = False  # the run of the act before
    environment: Mapping[str, str] = NOTHING  # on the local engine only: the servers of others are started once


OURS = ("local", "apart", "airflow", "prefect", "kubeflow")  # engines of which the catalogue says what they refuse


class Case(NamedTuple):
    """One idea. Its file is `cases/NAME.py`, and the pipeline in it is the function of the same name.

    needs:  what an engine must be able to do for it, in the words in which backends declare it.
    full:   parameters of the full suite; the small ones of every day are the defaults in the file.
    apart:  steps whose state depends on who was quicker -> the states that are allowed.
    refused: engines that cannot keep it, and say so; a refusal by any other is a difference.
    """

    name: str
    group: str
    needs: tuple[str, ...] = ()
    acts: tuple[Act, ...] = (Act(),)
    sample: bool = False  # one of the few that CI runs on every engine
    full: Mapping[str, Any] = NOTHING
    environment: Mapping[str, str] = NOTHING  # variables that must be there wherever steps run
    secrets: tuple[str, ...] = ()  # variables with a planted value that must not be found afterwards
    apart: Mapping[str, tuple[str, ...]] = NOTHING
    refused: tuple[str, ...] = ()
    folder: Path = FOLDER

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.py"

    @property
    def file(self) -> str:
        """Relative to the project's folder."""
        return self.path.name

    @property
    def pipeline(self) -> str:
        """The function's name, as in `penstock run FILE:PIPELINE`."""
        return self.name

    @property
    def large(self) -> bool:
        """Whether the full suite runs it at another size than CI."""
        return bool(self.full)

    @property
    def idea(self) -> str:
        """The one sentence at the head of its file."""
        return ast.get_docstring(ast.parse(self.path.read_text(encoding="utf-8"))) or ""

    def script(self, *, full: bool) -> tuple[Act, ...]:
        """Its acts; at full size nothing is said about the outputs, which the comparison sees to."""
        if not (full and self.full):
            return self.acts
        return tuple(act._replace(parameters={**act.parameters, **self.full}, output=...) for act in self.acts)
