"""In a nested map an inner list may be empty: that element succeeds with an empty list, beside others that do not."""

from penstock import pipeline, step


@step
def days(shop: str) -> list[int]:
    return {"north": [1, 2], "south": [], "west": [3]}[shop]


@step
def label(shop: str, day: int) -> str:
    return f"{shop} {day}"


@step
def told(labels: list[list[str]]) -> str:
    return repr(labels)


@pipeline
def of_shop(shop: str) -> list[str]:
    return label.partial(shop).map(day=days(shop))


@pipeline
def map_nested_empty(shops: list[str] = ["north", "south", "west"]) -> str:
    return told(of_shop.map(shop=shops))
