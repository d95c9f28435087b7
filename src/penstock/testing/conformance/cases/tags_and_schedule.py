"""Tags come along with every run, and a schedule is carried by the pipeline; a run by hand does not wait for it."""

from penstock import Cron, pipeline, step


@step
def nightly(number: int) -> int:
    return number + 1


@pipeline(tags={"team": "growth", "größe": "klein"}, schedule=Cron("30 3 * * mon-fri", tz="Europe/Paris"))
def tags_and_schedule(number: int = 1) -> int:
    return nightly(number)
