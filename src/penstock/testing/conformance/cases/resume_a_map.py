"""Of a map with a failed element, a resume runs that element and what joins the map, and nothing else."""

from penstock import context, pipeline, step


@step
def fragile(number: int) -> int:
    if number == 1 and context().attempt == 1:
        raise OSError("the first attempt fails")
    return number * 10


@step
def final_sum(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def resume_a_map(numbers: list[int] = [0, 1, 2]) -> int:
    return final_sum(fragile.map(number=numbers))
