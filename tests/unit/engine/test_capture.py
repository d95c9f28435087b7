"""What is printed and logged goes to its own sink; secrets do not."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine import capture
from penstock.engine.capture import Sink, into, teed
from penstock.engine.redaction import MASK, Redactor, storable


def test_prints_and_logs_are_kept_and_still_shown(capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[str] = []
    before = sys.stdout
    with teed(echo=True), into(Sink(kept.append)):
        print("hello")
        logging.getLogger("anything").warning("careful")
    print("after")
    assert sys.stdout is before
    assert "".join(kept) == "hello\nWARNING anything: careful\n"
    assert capsys.readouterr().out == "hello\nafter\n"
    assert not [each for each in logging.getLogger().handlers if "_ToSink" in type(each).__name__]


def test_tasks_of_one_loop_keep_their_own_text() -> None:
    kept: dict[str, list[str]] = {"a": [], "b": []}

    async def speak(name: str) -> None:
        with into(Sink(kept[name].append)):
            for _ in range(3):
                print(name)
                await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(speak("a"), speak("b"))

    with teed(echo=False):
        asyncio.run(both())
    assert {name: "".join(parts) for name, parts in kept.items()} == {"a": "a\n" * 3, "b": "b\n" * 3}


def test_a_flood_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_LIMIT_CHARS", 10)
    kept: list[str] = []
    sink = Sink(kept.append)
    for _ in range(5):
        sink.add("12345678")
    sink.close()
    assert "".join(kept) == "1234567812\n[penstock: 30 more characters were not kept]\n"


@given(st.lists(st.text("abs3cret", max_size=8), max_size=12))
def test_a_secret_is_masked_wherever_the_stream_is_cut(pieces: list[str]) -> None:
    redactor = Redactor(["s3cret"])
    shown = "".join([redactor.feed(piece) for piece in pieces]) + redactor.rest()
    assert shown == "".join(pieces).replace("s3cret", MASK)


def test_nothing_is_held_back_without_secrets_and_forms_of_a_secret_are_known() -> None:
    assert Redactor().feed("abc") == "abc"
    assert Redactor(["a b/c"]).text("?k=a+b%2Fc&l=a%20b/c&m=a b/c") == f"?k={MASK}&l={MASK}&m={MASK}"
    assert Redactor(["x"]).text("xxx") == "xxx", "one letter is no secret, and would mask everything"


def test_text_that_no_store_takes_is_made_storable() -> None:
    assert storable("a\udcffb") == "a?b"
    assert storable("ünï") == "ünï"
