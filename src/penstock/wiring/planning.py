"""What `penstock plan` plans on: the project's stores, read and never written.

A project that has never run anything stays as it is: nothing is made on disk for it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from ..core.canonical import digest_file
from ..engine.fingerprint import Fingerprints
from ..engine.plan import PlanItem, plan
from ..ports.artifacts import BlobStore
from ..ports.records import RunRecord
from ..ports.runlog import Store
from ..ports.runner import TracedPipeline
from ..stores.artifacts import ArtifactStore
from ..stores.blobs import open_blobs
from ..stores.memory import memory_store
from .config import Settings, load_settings
from .project import Project
from .runner import forced


def plan_run(
    traced: TracedPipeline,
    parameters: dict[str, str],
    *,
    settings: Settings | None = None,
    profile: str | None = None,
    cache: bool = True,
    restart_from: Sequence[str] = (),
) -> list[PlanItem]:
    """The plan of `LocalRunner.run(traced, parameters, cache=…, restart_from=…)`."""
    graph = traced.graph
    force = forced(graph, restart_from)
    with tempfile.TemporaryDirectory(prefix="penstock-plan-") as scratch:
        project = _ReadOnlyProject(settings or load_settings(traced.root, profile=profile), Path(scratch))
        record = RunRecord(
            id="planned",
            pipeline=graph.pipeline,
            project="",
            manifest="",
            parameters=parameters,
            created_at=project.clock.now_us(),
            seed=project.settings.seed,
            options={"cache": cache, "force": force},
        )
        try:
            return plan(graph, record, project.store, project.services(graph, traced.functions))
        finally:
            project.store.close()


class _ReadOnlyProject(Project):
    def __init__(self, settings: Settings, scratch: Path) -> None:
        super().__init__(settings)
        self._scratch = scratch

    @cached_property
    def store(self) -> Store:
        url = self.settings.runs_url
        path = url.removeprefix("sqlite:///")
        if "://" not in path and not Path(path).expanduser().exists():
            return memory_store(self.clock)
        return super().store

    @cached_property
    def artifacts(self) -> ArtifactStore:
        def blobs() -> BlobStore:
            return _Rehearsed(open_blobs(self.settings.artifacts_url, home=self.home), self._scratch)

        return ArtifactStore(blobs)

    @cached_property
    def fingerprints(self) -> Fingerprints:
        return Fingerprints(Path(self.settings.root), self.home / "fingerprints" if self.home.exists() else None)


class _Rehearsed:
    """Blobs that are read from a store and written to a scratch folder."""

    def __init__(self, blobs: BlobStore, scratch: Path) -> None:
        self.url = blobs.url
        self.cache = blobs.cache
        self._blobs = blobs
        self._scratch = scratch

    def put_file(self, path: Path) -> tuple[str, int]:
        digest, size = digest_file(str(path))
        shutil.move(path, self._scratch / digest)
        return digest, size

    def open_local(self, digest: str, size_bytes: int) -> Path:
        here = self._scratch / digest
        return here if here.exists() else self._blobs.open_local(digest, size_bytes)

    def size(self, digest: str) -> int | None:
        return self._blobs.size(digest)

    def keep(self, digest: str, size_bytes: int) -> bool:
        return self._blobs.size(digest) == size_bytes

    def list(self) -> Iterator[tuple[str, int, float]]:
        return self._blobs.list()

    def delete(self, digest: str) -> None:
        return

    def collect(self, digest: str, older_than_s: float) -> bool:
        return False

    def now_s(self) -> float:
        return self._blobs.now_s()

    def staging(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._scratch))

    def sweep(self, older_than_s: float) -> int:
        return 0
