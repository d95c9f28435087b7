"""The seam that an engine plugs into: a driver starts the engine once, makes it know every case, and runs them.

A driver of another engine lives outside this package, in `engines/conformance_NAME.py` of a checkout, with a function
`driver()`; it is found by name. It may be asked for several runs at the same time, from several threads.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from ...authoring.identity import load_file
from ...core.errors import UsageError
from ...graph import Graph
from ...ports.backend import Support
from ...wiring.backends import blueprint, report
from ...wiring.config import Settings
from .case import Case


class Ground(NamedTuple):
    """What a driver is given to make ready: one project that holds the files of all cases."""

    folder: Path  # the project: a file per case, words.txt and penstock.toml; it is the driver's to keep
    cases: tuple[Case, ...]
    environment: Mapping[str, str]  # must be set wherever steps run: planted secrets, and what cases ask for
    work: Path  # a folder for whatever the driver writes; it is deleted afterwards
    full: bool = False  # at full size, with time to spare


class EngineRun(NamedTuple):
    """What the engine itself says of a run that has come to its end there."""

    run_id: str | None  # penstock's id of it; None where no step of it ever got as far
    state: str = ""  # "succeeded", "failed" or "cancelled" in the engine's own eyes; "" where it has no opinion
    failed_steps: frozenset[str] | None = None  # "step" or "step[index]" that the engine shows as failed; None: unknown
    told: str = ""  # what somebody would read who wants to know why there is no run
    look_again: Callable[[], frozenset[str]] | None = (
        None  # `failed_steps` of later, where the engine's news may be late
    )


class Answer(NamedTuple):
    """What the engine's backend says of one feature, by its `check`."""

    support: str  # "supported", "emulated" or "refused"
    how: str = ""


class EngineDriver(Protocol):
    """One engine, really running."""

    name: str
    at_once: int  # how many cases it is given at the same time

    def versions(self) -> Mapping[str, str]:
        """Of everything whose version matters: {"Airflow": "3.3.2", "PostgreSQL": "15.18"}."""
        ...

    def prepare(self, ground: Ground) -> Mapping[str, str]:
        """Start servers; deploy all cases, where `run` does not. Returns settings as variables (PENSTOCK_HOME, _RUNS,
        _ARTIFACTS, …) under which this process finds what will have happened, and the local engine goes on. A case that
        cannot be deployed is no reason to raise: its `run` may."""
        ...

    def declared(self, case: Case) -> Mapping[str, Answer]:
        """Feature -> answer, for all that this case asks for; `answers` asks the backend. A case with a refused feature
        is not run, and not deployed: this is asked before `prepare`."""
        ...

    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        """One run with these parameters, to its end. Any exception is taken for an engine that is broken."""
        ...

    def resume(self, case: Case, run_id: str) -> EngineRun:
        """The same for a run that failed, here or elsewhere: what is finished stays finished."""
        ...

    def places_to_search(self) -> Iterable[Path]:
        """Files and folders where no planted secret may be found: logs, generated files, a dump of its database."""
        ...

    def close(self) -> None:
        """Stop what was started. Called once, whatever has happened."""
        ...


_graphs: dict[Path, Graph] = {}  # a campaign takes hours, and files that are edited meanwhile are not traced any more


def graph_of(case: Case) -> Graph:
    """The case's pipeline, traced in this process with the parameters of its first act."""
    if case.path not in _graphs:
        pipeline = getattr(load_file(str(case.path)), case.pipeline)
        _graphs[case.path] = pipeline.trace(pipeline.parameters(dict(case.acts[0].parameters))).graph
    return _graphs[case.path]


def answers(backend: str, case: Case, **settings: Any) -> dict[str, Answer]:
    """What `penstock check --on BACKEND` says of a case: by feature, the least that any demand for it gets."""
    root = str(case.folder)
    plan = blueprint(Settings(root=root, home=f"{root}/.penstock", **settings), graph_of(case))
    rank = list(Support)
    found: dict[str, Answer] = {}
    for row in report(backend, plan).rows:
        before = found.get(row.demand.feature)
        if before is None or rank.index(row.verdict.support) > rank.index(Support(before.support)):
            found[row.demand.feature] = Answer(row.verdict.support.value, row.verdict.how)
    return found


MODULE = "engines.conformance_{name}"


def driver_of(name: str, checkout: Path) -> EngineDriver:
    """The driver of an engine by its name. Raises UsageError where there is none."""
    from .commands import LOCAL

    if name in LOCAL:
        return LOCAL[name]()
    module = MODULE.format(name=name)
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    if importlib.util.find_spec("engines") is None or importlib.util.find_spec(module) is None:
        known = sorted(path.stem.removeprefix("conformance_") for path in checkout.glob("engines/conformance_*.py"))
        raise UsageError(
            f"there is no driver for the engine '{name}': {checkout / module.replace('.', '/')}.py is missing",
            hint=f"known: {', '.join([*LOCAL, *known])}; `make engines` installs the engines themselves",
        )
    return cast(EngineDriver, importlib.import_module(module).driver())
