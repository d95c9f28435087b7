"""The measured pipelines, and the floors they are held against, as files of a user's project."""

HELLO = """
from penstock import pipeline, step

@step
def extract() -> list[int]:
    return [1, 2, 3]

@step
def train(data: list[int]) -> int:
    return sum(data)

@pipeline
def sums() -> int:
    return train(extract())
"""

CHAIN = """
from penstock import Static, pipeline, step

@step
def increment(x: int) -> int:
    return x + 1

@pipeline
def chain(start: int = 0, length: Static[int] = 100) -> int:
    x = start
    for _ in range(length):
        x = increment(x)
    return x
"""

# What is hard to go below: one durable SQLite transaction and one JSON value per step, and nothing else.
FLOOR = """
import json, sqlite3, sys
steps, mode = int(sys.argv[1]), sys.argv[2]
db = sqlite3.connect("floor.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute(f"PRAGMA synchronous={mode}")
db.execute("CREATE TABLE IF NOT EXISTS done (run, step, value)")
x = 0
for step in range(steps):
    x += 1
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO done VALUES (?, ?, ?)", ("run", step, json.dumps(x)))
    db.execute("COMMIT")
"""
