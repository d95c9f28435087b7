"""A DAG file: it lies in AIRFLOW_HOME/dags and is run by `airflow dags test chain`; STEPS says how long it is."""

import os

from airflow.sdk import dag, task


@task
def increment(before: int) -> int:
    return before + 1


@dag(schedule=None, dag_id="chain")
def chain():
    x = 0
    for _ in range(int(os.environ.get("STEPS", "2"))):
        x = increment(x)


chain()
