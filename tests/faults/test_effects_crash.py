"""A pipeline with effects, crashed before and after every write and resumed: who receives them counts."""

from __future__ import annotations

from typing import Any

from penstock import deploy, notify, pipeline, register, step
from penstock.models.memory import MemoryRegistry
from penstock.ports.effects import Notification
from penstock.testing import Bench, crash_points


class Model:
    """Something to register."""


class Ears:
    """A receiver that counts messages, and knows a key again."""

    def __init__(self) -> None:
        self.heard: dict[str, list[str]] = {"at least": [], "at most": []}

    def send(self, to: str, body: bytes, *, key: str, timeout_s: float) -> Notification:
        self.heard[to].append(key)
        return Notification(to, key, "heard")


@step
def fit() -> Model:
    return Model()


@pipeline
def release() -> None:
    version = register("churn", fit())
    deployed = deploy(version)
    notify.after(deployed)("released", to="at least")
    notify.named("once").after(deployed).with_options(effect="at-most-once", retry=None)("released", to="at most")


def test_each_kind_of_effect_keeps_its_promise_at_every_crash_point() -> None:
    outside: list[tuple[MemoryRegistry, Ears]] = []

    def make() -> Bench:
        outside.append((MemoryRegistry(), Ears()))
        services: dict[str, Any] = {"registry": outside[-1][0], "notifier": outside[-1][1]}
        return Bench(services=services)

    repeated, refused, points = 0, 0, 0
    for crashed in crash_points(release, make=make):
        run = crashed.resume()
        registry, ears = outside[-1]
        points += 1
        assert [each.version for each in registry.list("churn")] == ["1"], crashed
        assert registry.get("churn", "champion").version == "1", crashed
        assert len(registry.moves("churn", "champion")) == 1, crashed
        assert {name: str(run.states[name]) for name in ("register", "deploy", "notify")} == {
            "register": "succeeded", "deploy": "succeeded", "notify": "succeeded",
        }, crashed  # fmt: skip
        assert len(ears.heard["at least"]) in (1, 2), crashed
        assert len(set(ears.heard["at least"])) == 1, crashed
        assert len(ears.heard["at most"]) <= 1, crashed
        assert (run.states["once"] == "succeeded") <= (len(ears.heard["at most"]) == 1), crashed
        repeated += len(ears.heard["at least"]) == 2
        refused += run.states["once"] == "failed"
    assert points > 40
    assert repeated > 0  # a crash between the message and its record is among these
    assert refused > 0
