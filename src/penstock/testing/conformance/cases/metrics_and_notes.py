"""What a step notes and measures beside its result is kept with the step run."""

from penstock import context, pipeline, step


@step
def fit(rounds: int) -> int:
    context().metric("auc", 0.75)
    context().metric("rounds", rounds)
    context().note = "fitted well"
    return rounds


@pipeline
def metrics_and_notes() -> int:
    return fit(3)
