"""A GPU that a place does not have is waived there, or the pipeline is refused; it never fails half-way."""

from penstock import Resources, pipeline, step


@step(resources=Resources(gpu=1))
def on_a_gpu(number: int) -> int:
    return number + 2


@pipeline
def resources_gpu() -> int:
    return on_a_gpu(1)
