"""Where experiments happen: a store of their own, a folder with the code, an interpreter; one step tried alone.

Nothing in here writes to the project's own store, or does again what changes the outside.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ..core.errors import PenstockError
from ..engine.causes import HASH_0, HASH_1, ONE_THREAD, SAME, SEEDED, Probe, Signature
from ..engine.environment import THREADS
from ..engine.listener import Listener
from ..engine.replay import alone
from ..engine.reproduction import Place, Runs
from ..graph import Graph
from ..ports.agreement import Agreement, Tolerance
from ..ports.artifacts import ArtifactRef, BlobStore
from ..ports.events import Event
from ..stores.artifacts import ArtifactStore
from .config import Settings
from .project import Project
from .trial import Comparison, Pairing, Passes
from .trials import Interpreter, Tried, compared, run

PROBES = {
    SAME: Probe(SAME),
    ONE_THREAD: Probe(ONE_THREAD, dict.fromkeys(THREADS, "1")),
    HASH_0: Probe(HASH_0, {"PYTHONHASHSEED": "0"}),
    HASH_1: Probe(HASH_1, {"PYTHONHASHSEED": "1"}),
    SEEDED: Probe(SEEDED, {"PYTHONHASHSEED": "0"}, seed_globals=True),
}


def own_settings(project: Project, home: Path, root: str, seed: int) -> Settings:
    """The project's settings with stores of their own below `home`; models are looked up where the project has them."""
    local = project.home / "mlflow.db"
    tracking = project.settings.tracking or (f"sqlite:///{local.as_posix()}" if local.exists() else "")
    secrets = project.home / "secrets"
    home.mkdir(parents=True, exist_ok=True)
    if secrets.is_dir() and not os.path.lexists(home / "secrets"):
        (home / "secrets").symlink_to(secrets)
    return msgspec.structs.replace(
        project.settings,
        root=root,
        home=str(home),
        runs="",
        artifacts="",
        tracking=tracking,
        seed=seed,
        durability="normal",
        profile="",
    )


class Laboratory:
    """Experiments with one graph."""

    def __init__(
        self,
        graph: Graph,
        parameters: dict[str, str],
        settings: Settings,
        by: Interpreter,
        *,
        folder: str,
        path: tuple[str, ...] = (),
        logical_time: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.graph = graph
        self.project = Project(settings)
        # Settings of this process would lead a step process of an experiment to the project's own stores.
        unset: dict[str, str | None] = {name: None for name in os.environ if name.startswith("PENSTOCK_")}
        self.by = msgspec.structs.replace(by, variables={**unset, **by.variables})
        self._passes = Passes(
            settings=settings,
            graphs=(),
            parameters=parameters,
            folder=folder,
            path=path,
            tags=dict(tags or {}),
            logical_time=logical_time,
        )

    @property
    def home(self) -> Path:
        return self.project.home

    def run(
        self,
        *graphs: Graph,
        known: Iterable[Event] = (),
        workers: int = 1,
        one_process_per_step: bool = False,
        variables: Mapping[str, str | None] | None = None,
        seed_globals: bool = False,
        listener: Listener | None = None,
    ) -> list[Tried]:
        """These graphs, one after another in one process."""
        passes = msgspec.structs.replace(
            self._passes,
            graphs=graphs,
            known=tuple(known),
            workers=workers,
            one_process_per_step=one_process_per_step,
            seed_globals=seed_globals,
        )
        return run(passes, self.by.with_variables(**variables or {}), self.home, listener)

    def keep(self, refs: Iterable[ArtifactRef], source: ArtifactStore) -> list[str]:
        """Copy stored values into the store of the experiments; says which are no longer to be had."""
        lost = []
        mine = self.project.artifacts.blobs
        for ref in refs:
            try:
                for blob in ref.blobs:
                    if not blob.path.endswith("/") and mine.size(blob.digest) != blob.size_bytes:
                        _copy(source.blobs.open_local(blob.digest, blob.size_bytes), mine)
            except PenstockError as error:
                lost.append(error.problem)
        return lost

    def alone(
        self,
        run_id: str,
        runs: Runs,
        sizes: Mapping[tuple[str, str], int],
        place: tuple[str, str],
        source: ArtifactStore,
    ) -> Subject | None:
        """One instance, ready to be tried on the inputs that `runs` had; None where these are no longer to be had."""
        only = alone(self.graph, run_id, runs, sizes, *place, at=self.project.clock.now_us())
        return None if self.keep(only.needs, source) else Subject(self, place, only.graph, only.known)

    def agreements(
        self, places: Iterable[Place], before: Runs, after: Runs, lefts: Settings, tolerance: Tolerance
    ) -> dict[Place, Agreement]:
        """What the named outputs of two runs compare to: looked at by the interpreter that made them."""
        pairs = [
            Pairing(step, index, name, before[step, index].outputs[name], after[step, index].outputs[name])
            for step, index, name in places
        ]
        comparison = Comparison(
            left=lefts,
            right=self.project.settings,
            pairs=tuple(pairs),
            tolerance=tolerance,
            entry=self.graph.target,
            folder=self._passes.folder,
            path=self._passes.path,
        )
        found = compared(comparison, self.by, self.home)
        return {(each.step, each.index, each.output): each.agreement for each in found}


class Subject:
    """One instance of a step that is tried alone."""

    def __init__(self, laboratory: Laboratory, place: tuple[str, str], graph: Graph, known: tuple[Event, ...]) -> None:
        self._laboratory = laboratory
        self._place = place
        self._graph = graph
        self._known = known

    def tried(self, probe: Probe, times: int) -> tuple[Signature, ...]:
        """What it comes to, each time in a fresh process."""
        found = []
        for _ in range(times):
            (ended,) = self._laboratory.run(
                self._graph, known=self._known, variables=probe.variables, seed_globals=probe.seed_globals
            )
            found.append(Signature.of(ended.steps[self._place]))
        return tuple(found)

    def steadied(self) -> dict[str, tuple[Signature, ...]]:
        """Of a step that differs from itself: what it comes to, twice, under what may make it agree."""
        found = {}
        for name in (ONE_THREAD, HASH_0, SEEDED):
            found[name] = self.tried(PROBES[name], 2)
            if found[name][0] == found[name][1]:
                break
        return found


def _copy(blob: Path, to: BlobStore) -> None:
    staging = to.staging()
    try:
        try:
            os.link(blob, staging / "blob")
        except OSError:  # another file system, or one without links
            shutil.copyfile(blob, staging / "blob")
        to.put_file(staging / "blob")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def fresh_home(home: Path) -> Path:
    """An empty folder for experiments; what an earlier one left there is gone."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    return home
