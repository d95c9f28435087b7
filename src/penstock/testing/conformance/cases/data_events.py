"""Data that a pipeline waits for and data that a step writes are carried along; a run by hand does not wait."""

from penstock import OnData, pipeline, step


@step(updates="s3://penstock-conformance/prices")
def publish(number: int) -> int:
    return number * 3


@pipeline(schedule=OnData("s3://penstock-conformance/orders"))
def data_events(number: int = 2) -> int:
    return publish(number)
