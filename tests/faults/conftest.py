"""What faults need of the machine: a PostgreSQL server that may be restarted under a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..conformance import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    folder = postgres.binaries()
    if folder is None:
        pytest.skip("missing capability: a PostgreSQL server (initdb and postgres) on this machine")
    pytest.importorskip("psycopg", reason="missing capability: psycopg (extra 'postgres')")
    with postgres.server(folder) as url:
        yield url
