"""Asking the outside again: several at a time, in order, not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import pytest

from penstock.core.errors import SourceError
from penstock.engine import outside
from penstock.engine.frontier import Item
from penstock.engine.outside import Answers, Looks, Unseen, look
from penstock.engine.services import Services

LONG = 600.0
A, B = ("url", "a"), ("url", "b")


class Server:
    """Answers by name; a name that is held back waits for `open`."""

    is_far = True

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.open = threading.Event()
        self.asked: list[str] = []
        self.woken = threading.Event()

    def version(self, name: str) -> str | None:
        self.asked.append(name)
        if name in self.held:
            self.open.wait(LONG)
        if name == "gone":
            return None
        if name == "unreachable":
            raise SourceError("no")
        if name == "bug":
            raise ZeroDivisionError
        return f"version of {name}"

    @property
    def services(self) -> Services:
        return cast(Services, _Services(self))

    def looks(self) -> Looks:
        return Looks(self.services, self.woken.set)

    def answers(self, looks: Looks, number: int) -> dict[str, Answers]:
        """The next so many, by item."""
        found: dict[str, Answers] = {}
        while len(found) < number:
            assert self.woken.wait(60)
            self.woken.clear()
            found |= {item.name: answers for item, answers in looks.collect()}
        return found


class _Services:
    def __init__(self, server: Server) -> None:
        self.observer: Callable[[str], Any] = lambda kind: server if kind == "url" else None


def at(name: str) -> Item:
    return Item(name, "")


def wait(*names: str) -> Unseen:
    return Unseen(tuple(("url", name) for name in names), LONG)


def test_what_is_there_what_is_gone_and_what_nobody_can_tell() -> None:
    unseen = Unseen((A, ("url", "gone"), ("url", "unreachable"), ("colour", "of the sky")), LONG)
    assert list(look(Server().services, unseen).values()) == ["version of a", "", None, None]


def test_what_was_known_comes_back_with_the_answers() -> None:
    server = Server()
    looks = server.looks()
    looks.start(at("one"), wait("a"), {B: "known"})
    assert server.answers(looks, 1) == {"one": {A: "version of a", B: "known"}}
    assert not looks


def test_a_quick_answer_does_not_wait_for_a_slow_one() -> None:
    server = Server("slow")
    looks = server.looks()
    looks.start(at("one"), wait("slow"), {})
    looks.start(at("two"), wait("a"), {})
    assert list(server.answers(looks, 1)) == ["two"]
    assert looks.items == [at("one")]
    server.open.set()
    assert list(server.answers(looks, 1)) == ["one"]


def test_two_items_that_ask_the_same_are_answered_by_two_looks() -> None:
    """The second may have become ready by a step that has just changed what is there."""
    server = Server()
    looks = server.looks()
    for name in ("one", "two"):
        looks.start(at(name), wait("a"), {})
    server.answers(looks, 2)
    assert server.asked == ["a", "a"]


def test_what_is_given_up_frees_its_place_and_its_late_answer_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outside, "_AT_ONCE", 1)
    server = Server("http://slow/x")
    looks = server.looks()
    looks.start(at("one"), Unseen((A, ("url", "http://slow/x")), 0.0), {})
    looks.start(at("two"), wait("b"), {})
    found: list[tuple[Item, Answers]] = []
    while not found:
        found = list(looks.collect())
    assert found[0][0] == at("one")
    assert found[0][1]["url", "http://slow/x"] is None
    assert list(server.answers(looks, 1)) == ["two"]
    looks.start(at("one"), wait("a"), {})
    server.open.set()
    assert server.answers(looks, 1) == {"one": {A: "version of a"}}
    assert not looks


def test_as_many_as_there_are_places_are_asked_at_the_same_time_and_the_rest_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outside, "_AT_ONCE", 2)
    server = Server("a", "b", "c")
    looks = server.looks()
    for name in ("a", "b", "c"):
        looks.start(at(name), wait(name), {})
    assert looks.items == [at("a"), at("b"), at("c")]
    server.open.set()
    assert set(server.answers(looks, 3)) == {"a", "b", "c"}
    assert set(server.asked[:2]) == {"a", "b"}


def test_an_error_that_no_observer_may_raise_is_raised_where_the_answer_is_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        look(Server().services, wait("bug"))


def test_a_wait_that_nobody_ends_ends_with_its_patience() -> None:
    server = Server("slow")
    assert look(server.services, Unseen((("url", "slow"),), 0.05)) == {("url", "slow"): None}
    server.open.set()


def test_a_step_that_took_long_may_be_checked_as_long() -> None:
    assert Unseen.of([A], 1.0).patience_s == outside.PATIENCE_S
    assert Unseen.of([A, B], 100.0).patience_s == 200.0
    looks = Server().looks()
    assert looks.next_deadline() is None
    looks.start(at("one"), Unseen.of([A]), {})
    assert (looks.next_deadline() or 0) > monotonic()


def test_who_let_a_look_wait_in_vain_is_not_waited_for_again() -> None:
    server = Server("http://slow/a", "http://slow/b")
    looks = server.looks()
    looks.start(Item("first", ""), Unseen((("url", "http://slow/a"),), 0.05), {})
    assert _later(looks, 1) == [(Item("first", ""), {("url", "http://slow/a"): None})]
    looks.start(Item("second", ""), Unseen((("url", "http://slow/b"),), LONG), {})
    looks.start(Item("third", ""), Unseen((("url", "http://quick/b"),), LONG), {})
    found = server.answers(looks, 2)
    assert found["second"] == {("url", "http://slow/b"): None}
    assert found["third"] == {("url", "http://quick/b"): "version of http://quick/b"}
    assert server.asked == ["http://slow/a", "http://quick/b"]
    server.open.set()


def _later(looks: Looks, number: int) -> list[tuple[Item, Answers]]:
    found: list[tuple[Item, Answers]] = []
    while len(found) < number:
        found += looks.collect()
    return found
