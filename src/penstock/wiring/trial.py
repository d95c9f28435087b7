"""`python -m penstock.wiring.trial FILE FD`: one experiment in a process of its own, told as lines of JSON.

A run under given conditions, or a comparison of stored values where the classes that they need can be imported. The
conditions that must hold before Python starts (interpreter, variables) are whoever starts this process's to set.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from ..authoring.identity import is_notebook, load_module, split_target
from ..core.errors import PenstockError
from ..engine.listener import Silent
from ..graph import Graph
from ..ports.agreement import Agreement, Tolerance
from ..ports.artifacts import ArtifactRef
from ..ports.events import Change, Event, RunView
from ..ports.records import RunRecord, RunState
from .config import Settings
from .project import Project
from .runner import LocalRunner

MODULE = __name__


class Passes(msgspec.Struct, frozen=True, tag="passes", omit_defaults=True):
    """Run these graphs one after another in this process, nothing taken from the cache."""

    settings: Settings
    graphs: tuple[Graph, ...]
    parameters: dict[str, str]
    folder: str  # where relative paths are looked up
    path: tuple[str, ...] = ()  # where imports are looked up first
    tags: dict[str, str] = {}
    known: tuple[Event, ...] = ()  # what is done already; for a single graph
    logical_time: int | None = None
    workers: int = 1
    one_process_per_step: bool = False
    seed_globals: bool = False  # seed the global generators of random and numpy first


class Pairing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two stored values to compare."""

    step: str
    index: str
    output: str
    left: ArtifactRef
    right: ArtifactRef


class Comparison(msgspec.Struct, frozen=True, tag="comparison", omit_defaults=True):
    """Compare stored values of two stores."""

    left: Settings
    right: Settings
    pairs: tuple[Pairing, ...]
    tolerance: Tolerance
    entry: str  # the pipeline's target, whose file defines the classes of values
    folder: str
    path: tuple[str, ...] = ()


Experiment: TypeAlias = Passes | Comparison


class Began(msgspec.Struct, frozen=True, tag="began"):
    record: RunRecord
    graph: Graph


class Happened(msgspec.Struct, frozen=True, tag="happened"):
    event: Event


class Said(msgspec.Struct, frozen=True, tag="said"):
    """What a step printed."""

    step: str
    index: str
    text: str


class Progressed(msgspec.Struct, frozen=True, tag="progressed"):
    step: str
    index: str
    done: float
    total: float | None
    note: str


class Compared(msgspec.Struct, frozen=True, tag="compared"):
    step: str
    index: str
    output: str
    agreement: Agreement


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A pass is over."""

    state: RunState


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It could not even begin."""

    problem: str
    hint: str | None = None


Message: TypeAlias = Began | Happened | Said | Progressed | Compared | Ended | Refused


class Teller(Silent):
    """The listener that writes down all it hears, for the process at the other end of a pipe."""

    def __init__(self, to: BinaryIO) -> None:
        super().__init__()
        self._to = to
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def tell(self, message: Message) -> None:
        self._to.write(self._encoder.encode(message) + b"\n")
        self._to.flush()

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        self.tell(Began(record, graph))

    def event(self, change: Change) -> None:
        self.tell(Happened(change.event))

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None:
        self.tell(Progressed(step, index, done, total, note))

    def text(self, step: str, index: str, text: str) -> None:
        self.tell(Said(step, index, text))


class _Given:
    """A graph that is known already, in the place of a traced pipeline."""

    def __init__(self, graph: Graph, root: str) -> None:
        self.graph = graph
        self.root = root
        self.functions: dict[str, object] = {}


def main() -> None:
    """Do what FILE says; every message goes to FD."""
    experiment = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Experiment)
    with os.fdopen(int(sys.argv[2]), "wb") as pipe:
        os.set_inheritable(pipe.fileno(), False)  # a child of a step must not keep it open
        teller = Teller(pipe)
        sys.path[:0] = experiment.path
        os.chdir(experiment.folder)
        try:
            if isinstance(experiment, Passes):
                _run(experiment, teller)
            else:
                _compare(experiment, teller)
        except PenstockError as error:
            teller.tell(Refused(error.problem, error.hint))


def _run(passes: Passes, teller: Teller) -> None:
    pools = {node.options.pool: 1 for graph in passes.graphs for node in graph.nodes if node.options.pool is not None}
    # The store is the experiments' own, so a place is shared with nobody, however many there are now.
    project = Project(msgspec.structs.replace(passes.settings, pools={**pools, **passes.settings.pools}))
    runner = LocalRunner(project=project)
    if passes.seed_globals:
        _seed_globals(passes.settings.seed)
    for graph in passes.graphs:
        run = runner.run(
            _Given(graph, passes.settings.root),  # type: ignore[arg-type]
            passes.parameters,
            listener=teller,
            check=False,
            done=passes.known,
            cache=False,
            tags=passes.tags,
            workers=passes.workers,
            one_process_per_step=passes.one_process_per_step,
            logical_time=passes.logical_time,
            trigger="reproduce",
            echo=False,
        )
        teller.tell(Ended(run.state))
    project.store.close()


def _seed_globals(seed: int) -> None:
    import random

    random.seed(seed)
    try:
        import numpy
    except ImportError:
        return
    numpy.random.seed(seed)


def _compare(comparison: Comparison, teller: Teller) -> None:
    from ..stores.agreement import compare_stored

    lefts, rights = Project(comparison.left).artifacts, Project(comparison.right).artifacts
    if not is_notebook(comparison.entry):  # its classes get the names that stored values know them by
        load_module(comparison.right.root, split_target(comparison.entry)[0])
    for pair in comparison.pairs:
        found = compare_stored(pair.left, pair.right, lefts, rights, comparison.tolerance)
        teller.tell(Compared(pair.step, pair.index, pair.output, found))


if __name__ == "__main__":
    main()
