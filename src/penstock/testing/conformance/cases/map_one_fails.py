"""One element of a map fails: the others finish, and what joins the map is blocked."""

from penstock import pipeline, step


@step
def picky(number: int) -> int:
    if number == 2:
        raise ValueError(f"not {number}")
    return number * 10


@step
def grand_total(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def map_one_fails(numbers: list[int] = [0, 1, 2, 3]) -> int:
    return grand_total(picky.map(number=numbers))
