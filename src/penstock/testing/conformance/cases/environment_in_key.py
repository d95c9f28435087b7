"""A variable that a step declares belongs to its key: another value is another result, the old one is found again."""

import os

from penstock import pipeline, step


@step(env="PENSTOCK_CASE_REGION")
def rates(base: int) -> str:
    return f"{base} {os.environ.get('PENSTOCK_CASE_REGION', 'nowhere')}"


@step
def told(text: str) -> str:
    return text.upper()


@pipeline
def environment_in_key(base: int = 7) -> str:
    return told(rates(base))
