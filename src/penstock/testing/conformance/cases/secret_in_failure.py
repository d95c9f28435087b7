"""A secret in the message of an exception is hidden before the message is kept."""

from penstock import Retry, Secret, context, pipeline, step


@step(retry=Retry(attempts=2, base="50ms"))
def call(token: str) -> int:
    print(f"trying {token}")
    raise OSError(f"attempt {context().attempt}: {token} was refused")


@pipeline
def secret_in_failure() -> int:
    return call(Secret("PENSTOCK_CASE_TOKEN"))
