"""Requests for processors, memory and GPUs are kept or waived by the place, and change nothing else."""

from penstock import Resources, pipeline, step


@step(resources=Resources(cpu=0.5, memory="64Mi"))
def modest(number: int) -> int:
    return number + 1


@pipeline
def resources() -> int:
    return modest(1)
