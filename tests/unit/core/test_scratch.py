"""Small things come back as they were put, whether they still lie in memory or in the file."""

from __future__ import annotations

import random
import tempfile

import pytest

from penstock.core.scratch import Scratch


def _filled(pieces: list[bytes]) -> tuple[Scratch, list[int]]:
    scratch = Scratch()
    return scratch, [scratch.put(piece) for piece in pieces]


def test_what_was_put_comes_back_from_memory_and_from_the_file() -> None:
    random.seed(0)
    pieces = [random.randbytes(random.choice([0, 1, 300, 507, 508, 509, 5000])) for _ in range(2000)]
    scratch, places = _filled(pieces)
    assert sum(map(len, pieces)) > 1_500_000
    assert len(scratch._tail) < 1_100_000  # the rest is in the file
    for at in random.sample(range(2000), 2000):
        assert scratch.get(places[at]) == pieces[at]


def test_where_there_is_no_room_for_a_file_everything_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    pieces = [bytes([at % 256]) * 1000 for at in range(5000)]
    scratch, places = _filled(pieces)
    assert [scratch.get(place) for place in places] == pieces
    monkeypatch.undo()
    more = [scratch.put(b"x" * 1_000_000) for _ in range(9)]
    assert len(scratch._tail) < 9_000_000  # it went to a file as soon as there was room
    assert [scratch.get(place) for place in places] == pieces
    assert all(scratch.get(place) == b"x" * 1_000_000 for place in more)
