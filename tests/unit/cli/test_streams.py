"""A stream whose reader left is silent; it raises nothing, now or when it is closed."""

from __future__ import annotations

import os

from penstock.cli.live import LiveProgress
from penstock.cli.progress import JsonStream, PlainProgress, Tally
from penstock.cli.streams import lasting
from penstock.graph import Graph
from penstock.ports.events import RunView
from penstock.ports.records import RunRecord

RECORD = RunRecord(id="p-1", pipeline="p", project="x", manifest="m", parameters={}, created_at=0)


def _left() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_every_listener_outlives_its_reader() -> None:
    for make in (PlainProgress, JsonStream, LiveProgress):
        with os.fdopen(_left(), "w", encoding="utf-8") as stream:
            listener: Tally = make(stream)
            listener.begin(RECORD, Graph("p", "p.py:p"), RunView())
            listener.finish(None)


def test_a_closed_stream_is_silent_and_an_odd_letter_is_replaced() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="ascii") as stream:
        lasting(stream).write("naïve\n")
    lasting(stream).write("nobody hears this")
    lasting(stream).flush()
    with os.fdopen(reading) as heard:
        assert heard.read() == "na?ve\n"
