"""What an adapter for an orchestrator must do: say what it keeps, write its native form, and talk to its server.

A backend turns a graph into the orchestrator's own form. It orders steps and decides whether another attempt happens;
everything else is the step launcher's, which the generated code starts in the project's own environment by three
commands (the *engine commands*). They share `--manifest FILE --engine NAME --engine-run KEY`, where KEY is the engine's
own name of its run: the first command of a run creates penstock's run under it, every later one finds it.

    exec-step  --step S [--index "2.0"] [--engine-attempt N]     runs, skips or takes from the cache one instance
    exec-map   --scope M                                         how many elements: prints a JSON list of index paths
    exec-end   [--engine-state failed|cancelled|succeeded]       closes the run: what never started, and its state

Exit codes of exec-step: `engine.processes.StepExit` (0 done, 1 failed for good, 3 something it needs failed, 4 not
ready, 5 fenced, 6 skipped where --tell-skips asks for it, 75 failed and another attempt is wanted, 2 could not begin).
Parameters come as a JSON object in PENSTOCK_PARAMETERS, places as PENSTOCK_RUNS, _ARTIFACTS, _HOME, _ROOT, and a run
that penstock has created already as PENSTOCK_RUN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from ..graph import Graph
from ..graph.demands import Demand
from .records import RunState


class Support(StrEnum):
    SUPPORTED = "supported"  # the engine's own
    EMULATED = "emulated"  # kept all the same, by the launcher or by what is generated; `how` says how
    REFUSED = "refused"  # not kept; `how` says why


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a backend makes of a feature."""

    support: Support
    how: str = ""  # supported: the engine's own name of it; emulated: how; refused: why, and what to do instead


def supported(how: str = "") -> Verdict:
    return Verdict(Support.SUPPORTED, how)


def emulated(how: str) -> Verdict:
    return Verdict(Support.EMULATED, how)


def refused(why: str) -> Verdict:
    return Verdict(Support.REFUSED, why)


# A feature -> its verdict, or a function of the demand where the value decides ("cap" below "base", …).
Declarations = Mapping[str, Verdict | Callable[[Demand], Verdict]]


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One demand, answered."""

    demand: Demand
    verdict: Verdict
    accepted: bool = False  # refused, and waived by name with --accept


class Report(msgspec.Struct, frozen=True):
    """A pipeline against a backend, row by row."""

    backend: str
    pipeline: str
    rows: tuple[Row, ...]

    @property
    def refused(self) -> list[Row]:
        return [row for row in self.rows if row.verdict.support is Support.REFUSED and not row.accepted]

    @property
    def waived(self) -> list[str]:
        """Names of what somebody accepted to do without."""
        return [row.demand.name for row in self.rows if row.accepted]


class Blueprint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that generated code may depend on: the graph, and the places it is bound to."""

    graph: Graph
    name: str  # of the deployment in the engine: letters, digits, _ and -
    digest: str  # of the manifest: a command refuses one that was altered
    manifest: (
        str  # where commands find it: a path or URL; "" = the file `<name>.manifest.json` beside the generated one
    )
    root: str  # the project's folder, where steps run
    python: str  # the interpreter of the project's environment
    runs: str  # URL of the run log, without a password
    artifacts: str
    home: str
    profile: str = ""
    image: str = ""
    form: str = ""  # where steps run: "subprocess", "docker", "kubernetes", …; "" = the backend's default
    endpoint: str = ""  # URL of the engine's API
    secret: str = ""  # Kubernetes: the secret that containers take their environment from; "" = "penstock"
    network: str = ""  # Docker: the network that containers join; "" = Docker's own default
    accelerator: str = ""  # Kubernetes: what `gpu=1` asks for; "" = nvidia.com/gpu
    source: str = ""  # the file as the user named it, for the head of generated files
    version: str = ""  # of penstock
    waived: tuple[str, ...] = ()
    pools: Mapping[str, int] = {}  # those that its steps need -> how many places each has


class Bundle(msgspec.Struct, frozen=True):
    """Generated files by name, and which of them the engine reads."""

    backend: str
    entry: str
    files: dict[str, str]


class EngineRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run as the engine knows it."""

    id: str
    url: str = ""  # of the page that shows it


class EngineState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the engine says that a run stands."""

    state: RunState
    note: str = ""  # the engine's own words: a DAG that cannot be imported, an image that cannot be pulled


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach an engine from here, as settings say."""

    endpoint: str = ""
    folder: str = (
        ""  # where the engine looks for generated files (Airflow's DAG folder); "" = a folder of the project's home
    )
    python: str = ""  # the interpreter that has the engine's own library
    environment: Mapping[str, str] = {}  # tokens and such, by name
    work: str = ""  # a folder of ours to write into


class Backend(Protocol):
    """One orchestrator. Holds no state of its own; it raises PenstockError with the fix where the engine is away."""

    name: str
    label: str  # with its versions, for people: "Airflow 3"

    def declarations(self, blueprint: Blueprint) -> Declarations:
        """What it makes of each feature, in the form that the blueprint asks for."""
        ...

    def compile(self, blueprint: Blueprint) -> Bundle:
        """The native form. Pure: the same blueprint gives the same bytes. The caller has refused what is refused."""
        ...

    def deploy(self, bundle: Bundle, blueprint: Blueprint, places: Places) -> str:
        """Make the engine know the pipeline (in its place of an older one). Returns words for people: what is where."""
        ...

    def submit(
        self, blueprint: Blueprint, places: Places, run_id: str, key: str, parameters: Mapping[str, object]
    ) -> EngineRun:
        """Start the run that penstock has created, under this name: a second call with it starts no second one.

        `key` is the run's id, or for a resume the id with the number of the ownership behind it ("ID.2"). The engine's
        commands bring it back as `--run`: those of an earlier ownership have no say any more.
        """
        ...

    def state(self, blueprint: Blueprint, places: Places, run: EngineRun) -> EngineState:
        """What the engine says of it; asked every second or so while somebody watches."""
        ...

    def cancel(self, blueprint: Blueprint, places: Places, run: EngineRun) -> None:
        """Tell the engine to start nothing more of it."""
        ...


def check(
    name: str, declarations: Declarations, graph: Graph, asked: Sequence[Demand], accepted: Sequence[str]
) -> Report:
    """Answer every demand. What was never declared is refused: nothing is dropped silently."""

    def rows() -> Iterator[Row]:
        for demand in asked:
            found = declarations.get(demand.feature)
            verdict = found(demand) if callable(found) else found
            if verdict is None:
                verdict = refused(f"the {name} backend does not say what it makes of '{demand.feature}'")
            waived = verdict.support is Support.REFUSED and (demand.name in accepted or demand.feature in accepted)
            yield Row(demand, verdict, waived)

    return Report(name, graph.pipeline, tuple(rows()))
