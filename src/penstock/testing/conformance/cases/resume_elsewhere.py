"""A run that failed is resumed by another engine, which executes only what is left."""

from penstock import context, pipeline, step


@step
def load(number: int) -> int:
    return number + 1


@step
def fragile(number: int) -> int:
    if context().attempt == 1:
        raise OSError("the first attempt fails")
    return number * 10


@step
def independent(number: int) -> int:
    return number - 1


@step
def finish(a: int, b: int) -> list[int]:
    return [a, b]


@pipeline
def resume_elsewhere(number: int = 4) -> list[int]:
    return finish(fragile(load(number)), independent(number))
