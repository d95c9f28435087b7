"""Where a conformance suite of the run log runs: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.stores.runlog import SqlStore, open_store

from . import postgres


class TurnedClock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.us = 1_795_414_725_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.us / 1_000_000

    def turn(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


class Place:
    """Somewhere a run log lies. Every store opened there is closed with the test."""

    def __init__(self, kind: str, url: str, home: Path) -> None:
        self.kind = kind
        self.url = url
        self.home = home
        self._opened: list[SqlStore] = []

    def open(self, clock: TurnedClock | None = None, *, home: Path | None = None) -> SqlStore:
        store = open_store(self.url, home=home or self.home, clock=clock)
        assert isinstance(store, SqlStore)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    folder = postgres.binaries()
    if folder is None:
        pytest.skip("missing capability: a PostgreSQL server (initdb and postgres) on this machine")
    pytest.importorskip("psycopg", reason="missing capability: psycopg (extra 'postgres')")
    with postgres.server(folder) as url:
        yield url


def _place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    home = tmp_path / ".penstock"
    if kind == "memory":
        return Place(kind, "memory:", home)
    if kind == "sqlite":
        return Place(kind, f"sqlite:///{home}/runs.db", home)
    import psycopg

    url = request.getfixturevalue("postgres_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS penstock CASCADE")
    return Place(kind, url, home)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    found = _place(request.param, tmp_path, request)
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgres"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place that several processes can open."""
    found = _place(request.param, tmp_path, request)
    yield found
    found.close()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def store(place: Place, clock: TurnedClock) -> SqlStore:
    return place.open(clock)
