"""Where an element of a map failed elsewhere, a resume runs it and what joins the map, and nothing else."""

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
def resume_from_elsewhere(numbers: list[int] = [0, 1, 2]) -> int:
    return final_sum(fragile.map(number=numbers))
