"""What steps printed, and the source text behind fingerprints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from ...core.errors import NotFoundError
from ...ports.records import CodePart
from .database import Database, packed
from .rows import encoded
from .waiting import WaitingPart


class LogTextPart:
    """The LogText of ports.runlog. Text is kept as bytes: PostgreSQL's own text type cannot hold every character."""

    database: Database

    def write_text(self, run_id: str, step: str, index: str, attempt: int, text: str) -> None:
        with self.database.transaction():
            # Holding the run's row makes numbers grow in commit order, so that a follower misses no chunk.
            run = self.database.one("lock_run", (run_id,))
            if run is None:
                raise NotFoundError(f"there is no run '{run_id}' in {self.database.name}", hint="penstock ls")
            self.database.run("insert_text", (run[0], step, index, attempt, _bytes(text)))

    def read_text(
        self,
        run_id: str,
        step: str | None = None,
        index: str | None = None,
        attempt: int | None = None,
        after: int = 0,
    ) -> Iterator[tuple[int, str, str, int, str]]:
        tail = "WHERE r.id = ? AND t.no > ?"
        values: list[str | int] = [run_id, after]
        for column, value in (("t.step", step), ('t."index"', index), ("t.attempt", attempt)):
            if value is not None:
                tail += f" AND {column} = ?"
                values.append(value)
        for no, name, at, number, body in self.database.rows_where("select_texts", tail + " ORDER BY t.no", values):
            yield no, name, at, number, _text(body)


_UNSEEN = "(unseen)"  # beside the packages, none of which can have this name


class CodeTextPart(WaitingPart):
    """The CodeText of ports.runlog. What is put waits for the next append, and costs no transaction of its own.

    Losing it with a process that dies before that loses nothing: the step that it explains has not started.
    """

    _put: set[str]

    def put_code(
        self, fingerprint: str, parts: Sequence[CodePart], packages: dict[str, str], unseen: Sequence[str] = ()
    ) -> None:
        if fingerprint in self._put:
            return
        known = packages | {_UNSEEN: "\n".join(unseen)} if unseen else packages
        names = encoded([(part.name, part.digest) for part in parts])
        self._waiting.append(("insert_fingerprint", [(packed(fingerprint), names, encoded(known))]))
        if parts:
            self._waiting.append(("insert_code_part", [(packed(part.digest), _bytes(part.text)) for part in parts]))
        self._put.add(fingerprint)

    def get_code(self, fingerprint: str) -> tuple[list[CodePart], dict[str, str]] | None:
        self.flush()
        row = self.database.one("fingerprint", (packed(fingerprint),))
        if row is None:
            return None
        names: list[tuple[str, str]] = msgspec.json.decode(row[0], type=list[tuple[str, str]])
        packages: dict[str, str] = msgspec.json.decode(row[1], type=dict[str, str])
        packages.pop(_UNSEEN, None)
        return [CodePart(name, digest, self._code(digest)) for name, digest in names], packages

    def get_unseen(self, fingerprint: str) -> tuple[str, ...]:
        self.flush()
        row = self.database.one("fingerprint", (packed(fingerprint),))
        text = "" if row is None else msgspec.json.decode(row[1], type=dict[str, str]).get(_UNSEEN, "")
        return tuple(text.split("\n")) if text else ()

    def _code(self, digest: str) -> str:
        row = self.database.one("code_part", (packed(digest),))
        return "" if row is None else _text(row[0])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(raw: bytes) -> str:
    return bytes(raw).decode("utf-8", "surrogatepass")
