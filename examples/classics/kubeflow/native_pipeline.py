"""The textbook training job in containers, written for Kubeflow's SDK by hand.

A component travels as the text of its function, so each imports for itself and nothing can be shared between them;
packages are installed when a container starts, or stand in an image that somebody builds; tables and models are files
at paths that Kubeflow gives, in formats that each pair of components must agree on.
"""

from kfp import compiler, dsl

PACKAGES = ["pandas==2.3.3", "pyarrow==22.0.0", "scikit-learn==1.7.2"]


@dsl.component(base_image="python:3.11-slim", packages_to_install=PACKAGES)
def load(rows: dsl.Output[dsl.Dataset]):
    from sklearn.datasets import load_digits

    frame = load_digits(as_frame=True).frame
    frame.to_parquet(rows.path)
    rows.metadata["rows"] = len(frame)


@dsl.component(base_image="python:3.11-slim", packages_to_install=PACKAGES)
def split(rows: dsl.Input[dsl.Dataset], train: dsl.Output[dsl.Dataset], test: dsl.Output[dsl.Dataset]):
    import pandas as pd
    from sklearn.model_selection import train_test_split

    frame = pd.read_parquet(rows.path)
    parts = train_test_split(frame, test_size=0.25, random_state=7, stratify=frame["target"])
    for part, to in zip(parts, (train, test), strict=True):
        part.to_parquet(to.path)


@dsl.component(base_image="python:3.11-slim", packages_to_install=PACKAGES)
def train(rows: dsl.Input[dsl.Dataset], trees: int, model: dsl.Output[dsl.Model]):
    import pickle

    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier

    frame = pd.read_parquet(rows.path)
    fitted = RandomForestClassifier(n_estimators=trees, random_state=7)
    fitted.fit(frame.drop(columns="target"), frame["target"])
    with open(model.path, "wb") as file:
        pickle.dump(fitted, file)


@dsl.component(base_image="python:3.11-slim", packages_to_install=PACKAGES)
def score(
    model: dsl.Input[dsl.Model], rows: dsl.Input[dsl.Dataset], minimum: float, metrics: dsl.Output[dsl.Metrics]
) -> bool:
    import pickle

    import pandas as pd
    from sklearn.metrics import accuracy_score, f1_score

    frame = pd.read_parquet(rows.path)
    with open(model.path, "rb") as file:
        fitted = pickle.load(file)
    found = fitted.predict(frame.drop(columns="target"))
    accuracy = float(accuracy_score(frame["target"], found))
    metrics.log_metric("accuracy", accuracy)
    metrics.log_metric("f1", float(f1_score(frame["target"], found, average="macro")))
    return accuracy >= minimum


@dsl.component(base_image="python:3.11-slim", packages_to_install=PACKAGES)
def card(model: dsl.Input[dsl.Model], metrics: dsl.Input[dsl.Metrics], page: dsl.Output[dsl.Markdown]):
    import pickle

    with open(model.path, "rb") as file:
        fitted = pickle.load(file)
    lines = [f"# {type(fitted).__name__}, {fitted.n_estimators} trees", ""]
    lines += [f"- {name}: {value:.3f}" for name, value in metrics.metadata.items()]
    with open(page.path, "w") as file:
        file.write("\n".join(lines) + "\n")


@dsl.pipeline(name="digits-native")
def digits(trees: int = 100, minimum: float = 0.9):
    loaded = load().set_retry(3, backoff_duration="2s", backoff_factor=2.0, backoff_max_duration="60s")
    parts = split(rows=loaded.outputs["rows"])
    fitted = train(rows=parts.outputs["train"], trees=trees)
    fitted.set_cpu_request("1").set_memory_request("1Gi").set_memory_limit("2Gi")
    scored = score(model=fitted.outputs["model"], rows=parts.outputs["test"], minimum=minimum)
    with dsl.If(scored.outputs["Output"] == True):  # noqa: E712 - what is compared is no bool yet
        card(model=fitted.outputs["model"], metrics=scored.outputs["metrics"])


if __name__ == "__main__":
    compiler.Compiler().compile(digits, "digits_native.yaml")
