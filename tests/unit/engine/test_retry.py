"""Whether there is another attempt, and when: pure and replayable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.retry import next_delay
from penstock.graph import RetryPolicy
from penstock.ports.records import Failure, FailureClass

LOST = Failure(FailureClass.ERROR, "", ("builtins:ConnectionError", "builtins:OSError", "builtins:Exception"))


@given(
    st.integers(1, 5000),
    st.floats(0, 1e6),
    st.floats(1, 100),
    st.floats(0, 1e6),
    st.sampled_from(["none", "full", "equal"]),
)
def test_a_delay_lies_within_its_jitter_and_cap_and_comes_out_the_same_again(
    attempt: int, base: float, factor: float, cap: float, jitter: str
) -> None:
    policy = RetryPolicy(attempt + 1, base, factor, cap, jitter)  # type: ignore[arg-type]
    delay = next_delay(policy, LOST, attempt, seed="run:step:0")
    assert delay == next_delay(policy, LOST, attempt, seed="run:step:0")
    full = next_delay(RetryPolicy(attempt + 1, base, factor, cap), LOST, attempt, seed="")
    assert delay is not None
    assert full is not None
    assert {"none": full, "full": 0.0, "equal": full / 2}[jitter] <= delay <= full <= cap


@pytest.mark.parametrize(
    ("on", "not_on", "again"),
    [
        ((), (), True),
        (("builtins:OSError",), (), True),
        (("builtins:ValueError",), (), False),
        (("error",), (), True),
        (("timeout",), (), False),
        ((), ("builtins:OSError",), False),
        (("builtins:OSError",), ("builtins:ConnectionError",), False),
    ],
)
def test_on_and_not_on_match_classes_their_bases_and_failure_classes(
    on: tuple[str, ...], not_on: tuple[str, ...], again: bool
) -> None:
    assert (next_delay(RetryPolicy(2, on=on, not_on=not_on), LOST, 1, seed="") is not None) is again


@pytest.mark.parametrize("kind", [FailureClass.CANCELLED, FailureClass.INPUT_LOST, FailureClass.ENCODING])
def test_what_would_meet_the_same_wall_is_never_tried_again(kind: FailureClass) -> None:
    assert next_delay(RetryPolicy(9, on=(kind.value,)), Failure(kind, ""), 1, seed="") is None


def test_attempts_before_a_resume_do_not_count() -> None:
    policy = RetryPolicy(2, base_s=3)
    assert next_delay(policy, LOST, 2, seed="") is None
    assert next_delay(policy, LOST, 3, seed="", spent=2) == 3
    assert next_delay(policy, LOST, 4, seed="", spent=2) is None


@pytest.mark.parametrize(
    ("policy", "again"),
    [
        (RetryPolicy(5), False),
        (RetryPolicy(5, even_if_same=True), True),
        (RetryPolicy(5, on=("builtins:OSError",)), True),
        (RetryPolicy(5, on=("error",)), True),
        (RetryPolicy(5, not_on=("builtins:KeyError",)), False),
    ],
)
def test_the_same_error_again_ends_the_retries_unless_the_policy_names_what_passes(
    policy: RetryPolicy, again: bool
) -> None:
    assert (next_delay(policy, LOST, 2, seed="", same=True) is not None) is again
    assert next_delay(policy, LOST, 2, seed="", same=False) is not None
