"""A record with several outputs may also be passed on whole, and arrives as the class that it was."""

from dataclasses import dataclass

from penstock import pipeline, step


@dataclass
class Verdict:
    passed: bool
    reasons: list[str]


@step
def judge(score: int) -> Verdict:
    return Verdict(score > 2, [f"the score is {score}"])


@step
def told(verdict: Verdict) -> str:
    return f"{type(verdict).__name__}: {verdict.passed}, {'; '.join(verdict.reasons)}"


@pipeline
def whole_record(score: int = 3) -> str:
    return told(judge(score))
