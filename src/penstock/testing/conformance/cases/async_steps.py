"""Async steps are steps: they may wait side by side, and what follows them gets plain values."""

import asyncio

from penstock import pipeline, step


@step
async def fetch(number: int) -> int:
    await asyncio.sleep(0.01)
    return number * 10


@step
def add(numbers: list[int], one_more: int) -> int:
    return sum(numbers) + one_more


@pipeline
def async_steps(numbers: list[int] = [1, 2, 3]) -> int:
    return add(fetch.map(number=numbers), fetch(4))
