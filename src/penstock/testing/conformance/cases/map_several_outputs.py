"""Where a mapped step has several outputs, each field is a list of its own."""

from typing import NamedTuple

from penstock import pipeline, step


class Fit(NamedTuple):
    weight: int
    loss: float


@step
def fit(number: int) -> Fit:
    return Fit(number * 2, number / 4)


@step
def best(weights: list[int], losses: list[float]) -> int:
    return weights[losses.index(min(losses))]


@pipeline
def map_several_outputs(numbers: list[int] = [3, 1, 2]) -> int:
    fits = fit.map(number=numbers)
    return best(fits.weight, fits.loss)  # type: ignore[attr-defined]  # a list of fits has the fields of one
