"""A pure step that meets the very same error twice in a row is not tried a third time."""

from penstock import Retry, pipeline, step


@step(retry=Retry(attempts=5, base="50ms"))
def parse(text: str) -> int:
    return int(text)


@step(retry=Retry(attempts=3, base="50ms", factor=1, even_if_same=True))
def stubborn(text: str) -> int:
    return int(text)


@pipeline
def retry_same_error(text: str = "twelve") -> list[int]:
    return [parse(text), stubborn(text)]
