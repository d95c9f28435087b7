import sys

from dagster import DagsterInstance, job, op


@op
def first() -> int:
    return 1


@op
def increment(before: int) -> int:
    return before + 1


@job
def chain():
    x = first()
    for number in range(2, int(sys.argv[1]) + 1):
        x = increment.alias(f"increment_{number}")(x)


with DagsterInstance.get() as instance:  # DAGSTER_HOME: event log in SQLite, outputs as files
    result = chain.execute_in_process(instance=instance)
assert result.success
print(len(result.get_step_success_events()))
