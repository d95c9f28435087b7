"""A file that a step says it reads is a part of its inputs: the second run hits, because the file is what it was."""

from pathlib import Path

from penstock import pipeline, step


@step(reads="words.txt")
def read_words(least: int) -> list[str]:
    words = Path("words.txt").read_text(encoding="utf-8").split()
    return [word for word in words if len(word) >= least]


@step
def count_words(words: list[str]) -> int:
    return len(words)


@pipeline
def declared_file(least: int = 5) -> int:
    return count_words(read_words(least))
