"""A secret reaches the step that uses it, and is found nowhere else: not stored, not logged, not hashed."""

from penstock import Secret, context, pipeline, step


@step
def call(token: str, number: int) -> int:
    print(f"calling with {token}")
    context().logger.warning("the token is %s", token)
    return len(token) * number


@step
def two_for_one(number: int) -> int:
    return number * 2


@pipeline
def secret_used(token: str = Secret("PENSTOCK_CASE_TOKEN"), number: int = 2) -> list[int]:
    return [two_for_one(call(token, number)), call(Secret("PENSTOCK_CASE_PASSWORD"), 1)]
