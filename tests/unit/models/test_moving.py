"""Moves of an alias: a repeat does nothing, a latecomer puts back what came after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock.core.errors import FencedError
from penstock.models.memory import MemoryRegistry
from penstock.models.moving import KEPT, move_alias, noted
from penstock.ports.effects import Effect
from penstock.ports.models import AliasMove, ModelCard

CARD = ModelCard(run_id="churn-1", pipeline="churn", step="register", digest="d")


class Gate:
    """A fence that a test closes."""

    def __init__(self) -> None:
        self.open = True

    def take(self, thing: str) -> None:
        self.check()

    def check(self, thing: str | None = None) -> None:
        if not self.open:
            raise FencedError("replaced")

    def drop(self, thing: str) -> None:
        return


class Slow(MemoryRegistry):
    """A registry whose caller is stopped right before an alias is set, while the rest of the world goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] | None = None
        self.set: list[str] = []

    def set_alias(self, name: str, alias: str, version: str) -> None:
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            meanwhile()
        self.set.append(version)
        super().set_alias(name, alias, version)


@pytest.fixture
def registry() -> Slow:
    made = Slow()
    for key in ("a", "b", "c"):
        made.register("churn", object(), CARD, key=key)
    return made


def move(registry: Slow, version: str, key: str, gate: Gate | None = None) -> str:
    with Effect(gate or Gate(), "churn@champion", key) as effect:
        return move_alias(registry, "churn", "champion", AliasMove(version, key), effect)


def at(registry: Slow) -> str | None:
    found = registry.find("churn", "champion")
    return found.version if found else None


def test_a_move_is_made_once_and_noted(registry: Slow) -> None:
    assert move(registry, "1", "k1") == "champion → version 1"
    assert move(registry, "1", "k1") == "champion already points to version 1"
    assert move(registry, "2", "k2") == "champion → version 2 (was 1)"
    assert [(note.version, note.key) for note in registry.moves("churn", "champion")] == [("2", "k2"), ("1", "k1")]


def test_a_repeat_does_not_undo_what_came_after_the_first_time(registry: Slow) -> None:
    move(registry, "1", "k1")
    move(registry, "2", "k2")
    assert move(registry, "1", "k1") == "an earlier attempt pointed champion to version 1; it has moved on to 2 since"
    assert at(registry) == "2"
    assert move(registry, "1", "k3") == "champion → version 1 (was 2)"  # another run may: it is another effect


def test_a_repeat_of_a_move_whose_note_was_lost_notes_it(registry: Slow) -> None:
    move(registry, "1", "k1")
    registry.set_alias("churn", "champion", "2")  # by k2, which died before its note
    assert move(registry, "2", "k2") == "champion already points to version 2"
    assert registry.moves("churn", "champion")[0].key == "k2"


def test_a_replaced_attempt_does_not_touch_the_alias(registry: Slow) -> None:
    gate = Gate()
    gate.open = False
    with pytest.raises(FencedError):
        move(registry, "1", "k1", gate)
    assert registry.set == []


def test_an_attempt_that_is_replaced_between_its_last_look_and_the_act_puts_back_the_newest_move(
    registry: Slow,
) -> None:
    move(registry, "1", "k0")
    gate = Gate()

    def resumed_elsewhere() -> None:
        gate.open = False
        move(registry, "2", "k1")  # the newer attempt of the same step
        move(registry, "3", "k9")  # and then another run

    registry.meanwhile = resumed_elsewhere
    with pytest.raises(FencedError):
        move(registry, "2", "k1", gate)
    assert (registry.set, at(registry)) == (["1", "2", "3", "2", "3"], "3")
    assert [note.key for note in registry.moves("churn", "champion")] == ["k9", "k1", "k0"]


def test_an_attempt_that_is_replaced_by_one_that_did_nothing_puts_back_what_was(registry: Slow) -> None:
    move(registry, "1", "k0")
    gate = Gate()

    def cancelled() -> None:
        gate.open = False

    registry.meanwhile = cancelled
    with pytest.raises(FencedError):
        move(registry, "2", "k1", gate)
    assert at(registry) == "1"


def test_the_last_few_notes_are_kept() -> None:
    notes: list[AliasMove] = []
    for number in range(KEPT + 5):
        notes = noted(notes, AliasMove(str(number), f"k{number}"))
    assert [note.version for note in notes] == [str(number) for number in range(KEPT + 4, 4, -1)]
