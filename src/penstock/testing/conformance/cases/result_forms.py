"""A pipeline returns lists, tuples and dicts with results of steps, parameters and constants in them."""

from penstock import pipeline, step


@step
def make_double(number: int) -> int:
    return number * 2


@pipeline
def result_forms(number: int = 7) -> dict[str, object]:
    made = make_double(number)
    return {"list": [made, [number]], "tuple": (made, 1), "plain": "text", "dict": {"number": number, "made": made}}
