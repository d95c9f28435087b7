"""One attempt: what comes of it is an outcome, whatever the step does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from penstock.core.clock import SystemClock
from penstock.engine.capture import teed
from penstock.engine.execute import Execution
from penstock.engine.services import Services
from penstock.engine.tasks import Json, SecretValue, StepTask, TaskArgument
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.context import context
from penstock.ports.records import FailureClass, Fingerprint
from penstock.ports.steps import LoadedStep


class Inline:
    def save(self, value: Any, annotation: Any = Any) -> ArtifactRef:
        return ArtifactRef(digest=repr(value), codec="repr", inline=repr(value))

    def load(self, ref: ArtifactRef, annotation: Any = Any) -> Any:
        raise AssertionError("nothing is stored here")

    def intact(self, ref: ArtifactRef) -> bool:
        return True

    def weed(self, ref: ArtifactRef) -> bool:
        return False


class One:
    def __init__(self, fn: Callable[..., Any], returns: Any) -> None:
        self._fn = fn
        self._returns = returns

    def load(self, target: str, payload: str | None = None) -> LoadedStep:
        return LoadedStep(
            target=target, fn=self._fn, parameters={}, returns=self._returns, outputs={"output": self._returns},
            result_type=None, is_async=False,
        )  # fmt: skip

    def load_result_type(self, target: str, payload: str | None = None) -> type | None:
        return None


class NoCode:
    def of(self, target: str) -> Fingerprint | None:
        return None

    def edited(self, target: str) -> list[str]:
        return []


def execution(fn: Callable[..., Any], text: list[str], returns: Any = Any, **arguments: TaskArgument) -> Execution:
    services = Services(
        artifacts=Inline(),
        loader=One(fn, returns),
        fingerprints=NoCode(),
        clock=SystemClock(),
        secret=lambda name: "hush-hush",
    )
    task = StepTask("run", "p", "s", "", 1, "f.py:s", arguments, ("output",))
    return Execution(task, services, text=text.append)


def test_a_value_is_saved_with_metrics_notes_and_observations() -> None:
    def fn(x: int) -> int:
        context().metric("auc", 0.5)
        context().observe("file", "a.csv", "1")
        return x + 1

    outcome = execution(fn, [], x=Json("1")).run()
    assert outcome.failure is None
    assert outcome.outputs["output"].inline == "2"
    assert outcome.metrics == {"auc": 0.5}
    assert [seen.name for seen in outcome.observations] == ["a.csv"]


def test_a_value_that_its_plain_annotation_does_not_promise_fails_the_step_with_the_place_of_the_step() -> None:
    def names() -> Any:
        return "abc"

    failure = execution(names, [], list[str]).run().failure
    assert failure is not None
    assert failure.kind is FailureClass.INVALID_DATA
    place = f"test_execute.py:{names.__code__.co_firstlineno}"
    assert "'output' of step 's' is a str, but " in failure.message
    assert failure.message.endswith(f"{place} promises list[str]")
    assert 'execute.py", line' not in failure.traceback.replace("test_execute.py", "")
    assert execution(lambda: ["abc"], [], list[str]).run().failure is None
    assert execution(lambda: 1, [], float | None).run().failure is None

    @functools.wraps(names)
    def wrapped() -> Any:  # whose annotation is that of what it wraps
        return 1

    assert execution(wrapped, [], list[str]).run().failure is None
    forgot = execution(lambda: None, [], list[str]).run().failure
    assert forgot is not None
    assert "is None, but" in forgot.message


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no"), FailureClass.ERROR, "no"),
        (MemoryError(), FailureClass.OUT_OF_MEMORY, "MemoryError"),
        (KeyboardInterrupt("stopped"), FailureClass.CANCELLED, "stopped"),
        (SystemExit(), FailureClass.ERROR, "the step called sys.exit()"),
        (SystemExit("bye"), FailureClass.ERROR, "the step called sys.exit('bye')"),
    ],
)
def test_whatever_is_raised_becomes_a_failure_of_its_class(
    error: BaseException, kind: FailureClass, message: str
) -> None:
    def fn() -> None:
        raise error

    run = execution(fn, [])
    outcome = run.run()
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.message) == (kind, message)
    assert run.error is error


def test_a_secret_reaches_the_step_and_nothing_else() -> None:
    def fn(token: str) -> None:
        context().observe("sql", f"db://u:{token}@h", token)
        context().note = token
        print(token)
        raise ValueError(token)

    text: list[str] = []
    with teed(echo=False):
        outcome = execution(fn, text, token=SecretValue("TOKEN")).run()
    assert outcome.failure is not None
    assert "hush" not in repr(outcome)
    assert outcome.failure.pickled is None
    assert "".join(text) == "•••\n"


def test_a_huge_message_is_cut_in_the_middle() -> None:
    def fn() -> None:
        raise ValueError("a" + "x" * 1_000_000 + "z")

    failure = execution(fn, []).run().failure
    assert failure is not None
    assert len(failure.message) < 10_000
    assert (failure.message[0], failure.message[-1]) == ("a", "z")


def test_a_metric_that_is_no_number_is_told_in_the_log_and_left_out() -> None:
    def fn() -> None:
        context().metric("loss", float("inf"))

    text: list[str] = []
    assert execution(fn, text).run().metrics == {}
    assert "metric 'loss' is inf" in "".join(text)


def test_a_field_that_is_left_to_its_default_breaks_no_promise() -> None:
    @dataclass
    class Out:
        auc: float = cast(float, None)
        rows: int = 0

    outputs = {"auc": float, "rows": int}
    loaded = LoadedStep(
        target="f.py:s", fn=Out, parameters={}, returns=Out, outputs=outputs, result_type=Out, is_async=False
    )
    assert loaded.promised == {"auc": (float, int, type(None)), "rows": (int, int)}
