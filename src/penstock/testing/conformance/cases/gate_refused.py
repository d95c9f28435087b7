"""A gate that refuses is no failure: its verdict is kept, what it guards is skipped, and the run succeeds."""

from dataclasses import dataclass

from penstock import pipeline, step, when


@dataclass
class Verdict:
    passed: bool
    reasons: list[str]


@step
def fit(depth: int) -> float:
    return 0.5 + depth / 100


@step
def judge(score: float, minimum: float) -> Verdict:
    passed = score >= minimum
    return Verdict(passed, [f"the score is {score}, {minimum} is {'reached' if passed else 'not reached'}"])


@step
def release(score: float) -> str:
    return f"released with {score}"


@pipeline
def gate_refused(depth: int = 4, minimum: float = 0.8) -> list[str]:
    score = fit(depth)
    verdict = judge(score, minimum)
    with when(verdict.passed):
        release(score)
    return verdict.reasons
