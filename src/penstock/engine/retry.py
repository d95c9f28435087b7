"""Whether a failed attempt earns another one, and when. Pure: the same arguments give the same answer."""

from __future__ import annotations

from ..core.canonical import digest_bytes
from ..graph import RetryPolicy
from ..ports.records import Failure


def next_delay(
    policy: RetryPolicy | None, failure: Failure, attempt: int, *, seed: str, spent: int = 0, same: bool = False
) -> float | None:
    """Seconds to wait before attempt `attempt + 1`; None when there will be none.

    `spent`: attempts that do not count, because the run was resumed after them. `same`: the attempt before met the very
    same error. `seed` names run, step and index: with the attempt it decides the jitter, so that a delay can be
    replayed.

    >>> from ..ports.records import Failure, FailureClass
    >>> lost = Failure(FailureClass.ERROR, "", ("builtins:ConnectionError", "builtins:OSError"))
    >>> [next_delay(RetryPolicy(4, base_s=2, on=("builtins:OSError",)), lost, n, seed="") for n in (1, 2, 3, 4)]
    [2.0, 4.0, 8.0, None]
    """
    if policy is None or attempt - spent >= policy.attempts or failure.kind.is_final:
        return None
    if same and ends_when_same(policy):
        return None
    if policy.on and not _matches(policy.on, failure):
        return None
    if _matches(policy.not_on, failure):
        return None
    try:
        delay = min(policy.cap_s, policy.base_s * policy.factor ** (attempt - spent - 1))
    except OverflowError:
        delay = policy.cap_s
    match policy.jitter:
        case "none":
            return float(delay)
        case "full":
            return delay * _fraction(f"{seed}:{attempt}")
        case "equal":
            return delay / 2 + delay / 2 * _fraction(f"{seed}:{attempt}")


def ends_when_same(policy: RetryPolicy) -> bool:
    """Whether one error twice in a row ends the retries: not where the policy names what passes with time."""
    return not policy.on and not policy.even_if_same


def _matches(names: tuple[str, ...], failure: Failure) -> bool:
    return any(name == failure.kind or name in failure.types for name in names)


def _fraction(text: str) -> float:
    return int(digest_bytes(text.encode())[:13], 16) / 16**13
