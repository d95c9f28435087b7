"""A map inside a map: elements are told apart by an index path, and results are lists of lists."""

from penstock import pipeline, step


@step
def folds(depth: int) -> list[int]:
    return list(range(depth))


@step
def fit(depth: int, fold: int) -> int:
    return depth * 10 + fold


@step
def mean(scores: list[int]) -> float:
    return sum(scores) / len(scores)


@step
def best(scores: list[float]) -> float:
    return max(scores)


@pipeline
def validated(depth: int) -> float:
    return mean(fit.partial(depth).map(fold=folds(depth)))


@pipeline
def map_nested(depths: list[int] = [1, 3, 2]) -> float:
    return best(validated.map(depth=depths))
