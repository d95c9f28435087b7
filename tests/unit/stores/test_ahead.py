"""Files that the disk starts on early: the same bytes, and an error is an error."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.stores.codecs import ahead
from penstock.stores.codecs.ahead import AHEAD_BYTES, open_ahead

SIZES = [0, 1, 1000, AHEAD_BYTES - 1, AHEAD_BYTES, 2 * AHEAD_BYTES + 7]


@given(sizes=st.lists(st.sampled_from(SIZES), max_size=6))
def test_what_was_written_is_what_lies_there_whatever_the_size_of_the_pieces(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("ahead") / "file"
    pieces = [bytes([place + 1]) * size for place, size in enumerate(sizes)]
    with open_ahead(path) as file:
        for piece in pieces:
            file.write(piece)
    assert path.read_bytes() == b"".join(pieces)
    path.unlink()


def test_a_system_that_cannot_be_asked_to_start_gets_a_plain_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_system_call", lambda: None)
    content = bytes(range(256)) * (AHEAD_BYTES // 100)
    with open_ahead(tmp_path / "file") as file:
        file.write(content)
    assert (tmp_path / "file").read_bytes() == content


def test_a_file_that_may_not_grow_says_so_with_the_systems_number(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (AHEAD_BYTES + 5, before[1]))
    try:
        with pytest.raises(OSError) as caught, open_ahead(tmp_path / "file") as file:
            file.write(bytes(3 * AHEAD_BYTES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
