"""A map over one item is a map with one element, not a step."""

from penstock import pipeline, step


@step
def listed(word: str) -> list[str]:
    return [word]


@step
def shout(word: str) -> str:
    return word.upper()


@step
def told(words: list[str]) -> str:
    return repr(words)


@pipeline
def map_of_one(word: str = "only") -> str:
    return told(shout.map(word=listed(word)))
