"""The textbook DAG: ingest, train several candidates, evaluate, keep the best. Written for Airflow by hand.

The libraries of the project must not meet Airflow's, so each task runs in the project's interpreter. It can import
nothing from this file then, so each imports for itself; and since XCom is no place for a table or a model, they are
written to files, whose names somebody has to think of.
"""

import os
from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, task

PYTHON = os.environ.get("PROJECT_PYTHON", "/srv/wine/.venv/bin/python")
FOLDER = os.environ.get("PROJECT_DATA", "/srv/wine/data")


@dag(
    dag_id="wine_native",
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC"),
    catchup=False,
    params={"minimum": Param(0.9, type="number")},
    tags=["team:cellar"],
)
def wine():
    @task.external_python(python=PYTHON, retries=3, retry_delay=timedelta(seconds=2), retry_exponential_backoff=2.0)
    def ingest(folder, run):
        from pathlib import Path

        from sklearn.datasets import load_wine

        path = Path(folder) / run / "wine.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        load_wine(as_frame=True).frame.to_csv(path, index=False)
        return str(path)

    @task.external_python(python=PYTHON)
    def split(path):
        from pathlib import Path

        import pandas as pd
        from sklearn.model_selection import train_test_split

        rows = pd.read_csv(path)
        parts = train_test_split(rows, test_size=0.3, random_state=7, stratify=rows["target"])
        names = [Path(path).with_name(name) for name in ("train.csv", "test.csv")]
        for part, name in zip(parts, names, strict=True):
            part.to_csv(name, index=False)
        return {"train": str(names[0]), "test": str(names[1])}

    @task.external_python(python=PYTHON, execution_timeout=timedelta(minutes=5))
    def fit(paths, depth):
        import pickle
        from pathlib import Path

        import pandas as pd
        from sklearn.ensemble import RandomForestClassifier

        rows = pd.read_csv(paths["train"])
        model = RandomForestClassifier(max_depth=depth, random_state=7)
        model.fit(rows.drop(columns="target"), rows["target"])
        path = Path(paths["train"]).with_name(f"model-{depth}.pickle")
        path.write_bytes(pickle.dumps(model))
        return str(path)

    @task.external_python(python=PYTHON)
    def evaluate(paths, model):
        import pickle
        from pathlib import Path

        import pandas as pd
        from sklearn.metrics import accuracy_score

        rows = pd.read_csv(paths["test"])
        found = pickle.loads(Path(model).read_bytes()).predict(rows.drop(columns="target"))
        return {"model": model, "accuracy": float(accuracy_score(rows["target"], found))}

    @task
    def pick(scores):
        return max(scores, key=lambda each: each["accuracy"])

    @task.short_circuit
    def is_good_enough(best, params=None):
        return best["accuracy"] >= params["minimum"]

    @task.external_python(python=PYTHON)
    def publish(folder, best):
        import shutil
        from pathlib import Path

        shutil.copy(best["model"], Path(folder) / "current.pickle")

    paths = split(ingest(FOLDER, "{{ run_id }}"))
    models = fit.partial(paths=paths).expand(depth=[2, 4, 8])
    best = pick(evaluate.partial(paths=paths).expand(model=models))
    is_good_enough(best) >> publish(FOLDER, best)


wine()
