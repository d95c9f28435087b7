"""A condition may compare with any value: of the branches, one runs."""

from penstock import optional, pipeline, step, when


@step
def size(rows: int) -> str:
    return "large" if rows > 100 else "small"


@step
def sample(rows: int) -> int:
    return min(rows, 100)


@step
def everything(rows: int) -> int:
    return rows


@step
def report(sampled: int | None, whole: int | None) -> str:
    return f"sampled {sampled}, whole {whole}"


@pipeline
def guard_value(rows: int = 500) -> str:
    found = size(rows)
    with when(found, is_="large"):
        sampled = sample(rows)
    with when(found, is_="small"):
        whole = everything(rows)
    return report(optional(sampled), optional(whole))
