"""What may be deleted, and deleting it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...core.errors import StoreError
from ...ports.artifacts import Blob
from .database import Row, place_of, unpacked
from .runs import RunsPart


class _Ref(msgspec.Struct):
    """As much of an ArtifactRef as matters here: its preview is passed over, which makes it several times as fast."""

    blobs: tuple[Blob, ...] = ()


class _Node(msgspec.Struct):
    payload: str | None = None


class _Manifest(msgspec.Struct):
    """As much of a graph as matters here, whatever its format."""

    nodes: tuple[_Node, ...] = ()


_REF = msgspec.json.Decoder(_Ref)
_MANIFEST = msgspec.json.Decoder(_Manifest)
_TABLES_OF_A_RUN = ("steps", "texts", "tags", "record")


class RetentionPart(RunsPart):
    """The Retention of ports.runlog."""

    def live_digests(self, without: Sequence[str] = ()) -> set[str]:
        """Artifacts, their blobs, manifests, and functions that travel by value (notebooks)."""
        live: set[str] = set()
        for digest, ref in self._artifacts_without(without):
            live.add(unpacked(digest))
            live.update(blob.digest for blob in _REF.decode(ref).blobs)
        for digest, body in self.database.rows("all_manifests"):
            live.add(unpacked(digest))
            live.update(_payloads(body))
        return live

    def _artifacts_without(self, run_ids: Sequence[str]) -> list[Row]:
        found = [self.database.one("run_no", (run_id,)) for run_id in run_ids]
        numbers = ",".join(str(int(row[0])) for row in found if row is not None)
        if not numbers:
            return self.database.rows("all_artifacts")
        by_others = f"u.digest = artifacts.digest AND u.place / 4294967296 NOT IN ({numbers})"
        others = f"SELECT 1 FROM uses u WHERE {by_others}"
        return self.database.rows_where("all_artifacts", f"WHERE EXISTS ({others})", ())

    def delete_runs(self, run_ids: Sequence[str]) -> None:
        """Unknown ids are passed over. Source text stays: it is small, and shared by runs that are kept."""
        with self.database.transaction():
            for run_id in run_ids:
                self._delete_run(run_id)
            for sweep in ("cache_entries", "uses", "artifacts", "manifests"):
                self.database.run(f"sweep_{sweep}")
            self.database.run("sweep_cache_leases", (self.database.now_us(),))
        for run_id in run_ids:
            self._known.pop(run_id, None)
            self._locks.remove(run_id)

    def _delete_run(self, run_id: str) -> None:
        head = self.database.one("lock_run", (run_id,))
        if head is None:
            return
        summary = self.find_run(run_id)
        if summary is not None and summary.finished_at is None and self.alive(run_id):
            raise StoreError(
                f"run '{run_id}' is running and cannot be deleted", hint=f"stop it first: penstock cancel {run_id}"
            )
        for table in _TABLES_OF_A_RUN:
            self.database.run(f"delete_run_{table}", (head[0],))
        self.database.run("delete_run_events", (place_of(head[0], 0), place_of(head[0] + 1, 0)))
        self.database.run("delete_run", (head[0],))

    def version(self) -> int:
        row = self.database.one("schema")
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        """Write what waits, give up what is held, and close the connection. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        for run_id in list(self._epochs):
            self.release(run_id)
        self.flush()
        self._locks.close()
        self.database.close()

    _closed: bool


def _payloads(manifest: bytes) -> list[str]:
    try:
        nodes = _MANIFEST.decode(manifest).nodes
    except msgspec.DecodeError:
        return []  # a manifest that is no JSON object names nothing
    return [node.payload for node in nodes if node.payload is not None]
