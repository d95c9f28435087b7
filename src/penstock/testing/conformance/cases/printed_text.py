"""What a step prints and logs is kept with its attempt, line by line."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=2, base="50ms"))
def chatty(word: str) -> str:
    print(f"attempt {context().attempt} says {word}")
    print("größer als ASCII: 🌊")
    if context().attempt == 1:
        raise OSError("once more")
    return word


@pipeline
def printed_text(word: str = "hello") -> str:
    return chatty(word)
