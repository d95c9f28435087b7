"""What comparing two stored values comes to: the same bytes, equal within a tolerance, or different, and where."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    IDENTICAL = "identical"  # the same bytes
    EQUAL = "equal"  # other bytes, and no difference beyond the tolerance
    DIFFERENT = "different"
    UNKNOWN = "unknown"  # could not be compared, or was not run


class Tolerance(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far apart two floating-point numbers may be: |a - b| <= atol + rtol * |b|. Everything else must be equal.

    `rtol` None takes the default of each number's own type: 1e-9 for 64 bits, 1e-5 for 32, 1e-2 for 16.
    """

    rtol: float | None = None
    atol: float = 0.0

    def relative(self, bits: int) -> float:
        """
        >>> Tolerance().relative(32), Tolerance(rtol=0.5).relative(32)
        (1e-05, 0.5)
        """
        if self.rtol is not None:
            return self.rtol
        return 1e-9 if bits >= 64 else 1e-5 if bits >= 32 else 1e-2


EXACT = Tolerance(rtol=0.0, atol=0.0)


class Agreement(msgspec.Struct, frozen=True, omit_defaults=True):
    """How two values compare. `where` is the first place that differs beyond the tolerance; else the first at all."""

    verdict: Verdict
    where: str = ""  # "column 'amount', row 3", "coef_[0, 2]"
    text: str = ""  # what differs there, in words
    max_abs: float | None = None  # largest difference of two numbers, anywhere
    max_rel: float | None = None
    count: int = 0  # places that differ beyond the tolerance
