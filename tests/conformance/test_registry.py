"""One suite for every model registry: in memory, MLflow on its SQLite file, MLflow behind a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from penstock.core.errors import FencedError, NotFoundError, RegistryError
from penstock.models.memory import MemoryRegistry
from penstock.models.observing import observers
from penstock.ports.models import AliasMove, Column, ModelCard, ModelRegistry
from penstock.tracking.glance import Glance, UnreadableError
from penstock.tracking.mlflow_registry import MlflowRegistry

CARD = ModelCard(
    run_id="churn-2026-11-23-7f3a",
    pipeline="churn",
    step="register",
    digest="d" * 64,
    parameters={"depth": "4"},
    metrics={"auc": 0.94},
    tags={"team": "growth"},
    lineage={"example": "e" * 64},
)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real `mlflow server` process on a free port, stopped with its children."""
    if find_spec("flask") is None or find_spec("flask_cors") is None:
        pytest.skip("capability missing: flask, which `mlflow server` needs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 90
        while not _answers(f"{url}/health"):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, "mlflow server did not start in 90 s"
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


Fresh = Callable[[], ModelRegistry]


@pytest.fixture(
    scope="module", params=["memory", "sqlite", pytest.param("server", marks=pytest.mark.slow)], ids=lambda each: each
)
def reopen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Opens the same registry again, as another process would."""
    home = tmp_path_factory.mktemp(request.param)
    opened: list[MlflowRegistry] = []
    with ExitStack() as stack:
        if request.param == "memory":
            memory = MemoryRegistry()
            yield lambda: memory
            return
        url = stack.enter_context(mlflow_server(home / "server")) if request.param == "server" else None

        def open_again() -> ModelRegistry:
            opened.append(MlflowRegistry(url, home=home))
            return opened[-1]

        yield open_again
        for each in opened:
            each.close()


@pytest.fixture
def registry(reopen: Fresh) -> ModelRegistry:
    return reopen()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "visits": [1, 2, 3, 4], "label": [0, 0, 1, 1]})


@pytest.fixture(scope="module")
def model(table: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression().fit(table[["age", "visits"]], table["label"])


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return "m-" + request.node.name.partition("[")[0].removeprefix("test_")[:60]


def test_a_key_registers_once_even_from_another_process(
    registry: ModelRegistry, reopen: Fresh, model: Any, table: pd.DataFrame, name: str
) -> None:
    first = registry.register(name, model, CARD, key="k1", example=table)
    again = reopen().register(name, model, CARD, key="k1", example=table)
    other = registry.register(name, model, CARD, key="k2", example=table)
    assert (first.version, again.version, other.version) == ("1", "1", "2")
    assert [each.version for each in registry.list(name)] == ["2", "1"]


def test_threads_that_register_one_key_at_once_make_one_version(reopen: Fresh, model: Any, name: str) -> None:
    made: list[str] = []
    barrier = threading.Barrier(3)

    def work() -> None:
        mine = reopen()
        barrier.wait()
        made.append(mine.register(name, model, CARD, key="same").version)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert made == ["1", "1", "1"]
    assert len(reopen().list(name)) == 1


def test_a_version_carries_its_card(registry: ModelRegistry, model: Any, name: str) -> None:
    made = registry.register(name, model, CARD, key="k")
    assert made.uri == f"models:/{name}/1"
    assert (made.run_id, made.digest, made.key) == (CARD.run_id, CARD.digest, "k")
    assert made.metrics == {"auc": 0.94}
    assert made.tags["team"] == "growth"
    assert made.created_at > 1_700_000_000_000_000
    assert registry.find_key(name, "k") == made
    assert registry.find_key(name, "unknown") is None


def test_a_loaded_model_predicts_as_the_registered_one(
    registry: ModelRegistry, model: Any, table: pd.DataFrame, name: str
) -> None:
    made = registry.register(name, model, CARD, key="k", example=table)
    loaded = registry.load(made)
    rows = table[["age", "visits"]]
    assert loaded is not model
    assert (loaded.predict_proba(rows) == model.predict_proba(rows)).all()


def test_an_alias_moves_and_is_seen_from_both_sides(registry: ModelRegistry, model: Any, name: str) -> None:
    assert registry.find(name, "champion") is None
    for key in ("a", "b"):
        registry.register(name, model, CARD, key=key)
    registry.set_alias(name, "champion", "1")
    assert registry.get(name, "champion").version == "1"
    assert registry.get(name, "champion").aliases == ("champion",)
    registry.set_alias(name, "champion", "2")
    registry.set_alias(name, "blessed", "2")
    assert registry.get(name, "champion").version == "2"
    assert [(each.version, each.aliases) for each in registry.list(name)] == [("2", ("blessed", "champion")), ("1", ())]


def test_names_that_are_not_there_are_none_or_explained(registry: ModelRegistry, model: Any, name: str) -> None:
    assert registry.find("no-such-model", "champion") is None
    assert registry.find("no-such-model", "1") is None
    assert registry.list("no-such-model") == []
    registry.register(name, model, CARD, key="k")
    registry.set_alias(name, "champion", "1")
    assert registry.find(name, "7") is None
    with pytest.raises(NotFoundError, match="has no version 7"):
        registry.get(name, "7")
    with pytest.raises(NotFoundError, match="did you mean 'champion'"):
        registry.get(name, "champoin")
    with pytest.raises(NotFoundError, match=f"did you mean '{name}'"):
        registry.get(name + "x", "1")
    with pytest.raises(NotFoundError, match="has no version 7"):
        registry.set_alias(name, "champion", "7")


def test_moves_of_an_alias_are_noted_newest_first_and_each_once(
    registry: ModelRegistry, reopen: Fresh, model: Any, name: str
) -> None:
    assert registry.moves(name, "champion") == []
    for key in ("a", "b"):
        registry.register(name, model, CARD, key=key)
    registry.note_move(name, "champion", AliasMove("1", "k1", "churn-1", "deploy", "2", 3, at=7))
    registry.note_move(name, "champion", AliasMove("2", "k2", at=8))
    registry.note_move(name, "blessed", AliasMove("1", "k3", at=9))
    registry.note_move(name, "champion", AliasMove("1", "k1", "churn-1", "deploy", "2", 4, at=10))
    assert reopen().moves(name, "champion") == [
        AliasMove("1", "k1", "churn-1", "deploy", "2", 4, at=10),
        AliasMove("2", "k2", at=8),
    ]
    with pytest.raises(NotFoundError, match="has no version 7"):
        registry.note_move(name, "champion", AliasMove("7", "k4"))


def test_what_is_asked_at_the_last_moment_stops_a_registration(registry: ModelRegistry, model: Any, name: str) -> None:
    def replaced() -> None:
        raise FencedError("taken over")

    with pytest.raises(FencedError):
        registry.register(name, model, CARD, key="k", check=replaced)
    assert registry.list(name) == []
    assert registry.register(name, model, CARD, key="k", check=lambda: None).version == "1"


@pytest.mark.parametrize("alias", ["v3", "V12", "3", "latest", "a b", ""])
def test_an_alias_that_reads_like_a_version_is_refused(
    registry: ModelRegistry, model: Any, name: str, alias: str
) -> None:
    registry.register(name, model, CARD, key="k")
    with pytest.raises(RegistryError, match="cannot be an alias"):
        registry.set_alias(name, alias, "1")


def test_a_name_that_cannot_be_referred_to_is_refused(registry: ModelRegistry, model: Any) -> None:
    with pytest.raises(RegistryError, match="cannot be a model's name"):
        registry.register("churn/eu", model, CARD, key="k")


def test_observers_see_what_a_step_saw(registry: ModelRegistry, model: Any, name: str) -> None:
    look = observers(registry)
    assert look["model"].version(f"{name}@champion") == "none"
    assert look["model-version"].version(f"{name}/1") is None
    registry.register(name, model, CARD, key="k")
    registry.set_alias(name, "champion", "1")
    assert look["model"].version(f"{name}@champion") == "1"
    assert look["model-version"].version(f"{name}/1") == "exists:k"


class TestMlflow:
    """What only MLflow has: runs, signatures, files."""

    @pytest.fixture(autouse=True)
    def only_mlflow(self, registry: ModelRegistry) -> None:
        if isinstance(registry, MlflowRegistry):
            return
        pytest.skip("capability missing: the registry in memory has no experiments and no files")

    def test_the_signature_names_the_columns_the_model_reads(
        self, registry: ModelRegistry, model: Any, table: pd.DataFrame, name: str
    ) -> None:
        made = registry.register(name, model, CARD, key="k", example=table)
        signature = registry.signature(made)
        assert signature is not None
        assert signature.columns == (Column("age", "double"), Column("visits", "long"))
        assert signature.example[1] == {"age": 30.0, "visits": 2}
        bare = registry.register(name, model, CARD, key="bare")
        assert registry.signature(bare) is None

    def test_text_and_missing_values_show_in_the_signature(self, registry: ModelRegistry, name: str) -> None:
        rows = pd.DataFrame({"plan": ["a", "b", "a", "b"], "spend": [1.0, None, 3.0, 4.0]})
        encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["plan"]), remainder="passthrough")
        pipeline = make_pipeline(encode, RandomForestClassifier(3, random_state=0)).fit(rows, [0, 1, 0, 1])
        made = registry.register(name, pipeline, CARD, key="k", example=rows)
        signature = registry.signature(made)
        assert signature is not None
        assert signature.columns == (Column("plan", "string"), Column("spend", "double", optional=True))
        assert (registry.load(made).predict_proba(rows) == pipeline.predict_proba(rows)).all()

    def test_a_registration_leaves_one_finished_mlflow_run(
        self, registry: MlflowRegistry, model: Any, name: str
    ) -> None:
        registry.register(name, model, CARD, key=f"{name}-key")
        client = registry._client
        experiment = client.get_experiment_by_name("churn")
        runs = client.search_runs([experiment.experiment_id], f"tags.`penstock.key` = '{name}-key'")
        assert [each.info.status for each in runs] == ["FINISHED"]
        assert runs[0].data.params["depth"] == "4"
        assert runs[0].data.params["model.C"] == "1.0"
        assert runs[0].data.metrics == {"auc": 0.94}
        assert runs[0].data.tags["penstock.run"] == CARD.run_id
        version = client.get_model_version(name, "1")
        assert version.run_id == runs[0].info.run_id
        assert f"penstock show {CARD.run_id}" in version.description

    def test_of_two_hosts_that_register_one_key_at_the_same_moment_the_elder_version_stays(
        self, registry: MlflowRegistry, reopen: Fresh, model: Any, name: str, tmp_path: Path
    ) -> None:
        key = f"{name}-key"
        elsewhere = MlflowRegistry(registry.url, home=tmp_path)  # another host: it does not see our lock

        def meanwhile() -> None:
            assert elsewhere.register(name, model, CARD, key=key).version == "1"

        made = registry.register(name, model, CARD, key=key, check=meanwhile)
        elsewhere.close()
        assert made.version == "1"
        assert [each.version for each in reopen().list(name)] == ["1"]

    def test_a_registration_that_died_half_way_is_done_again_and_its_run_is_closed(
        self, registry: MlflowRegistry, model: Any, name: str
    ) -> None:
        key = f"{name}-key"
        experiment = registry._experiment("churn")
        dead = registry._client.create_run(experiment, tags={"penstock.key": key})
        made = registry.register(name, model, CARD, key=key)
        assert made.version == "1"
        assert registry._client.get_run(dead.info.run_id).info.status == "KILLED"

    def test_a_model_that_cannot_be_stored_leaves_no_version_and_a_failed_run(
        self, registry: MlflowRegistry, table: pd.DataFrame, name: str
    ) -> None:
        stranger = make_pipeline(FunctionTransformer(_halve), LogisticRegression())
        stranger.fit(table[["age", "visits"]], table["label"])
        with pytest.raises(RegistryError, match="_halve"):
            registry.register(name, stranger, CARD, key=f"{name}-key")
        with pytest.raises(RegistryError, match="not a scikit-learn estimator"):
            registry.register(name, object(), CARD, key=f"{name}-other")
        assert registry.list(name) == []
        experiment = registry._experiment("churn")
        runs = registry._client.search_runs([experiment], f"tags.`penstock.key` = '{name}-key'")
        assert [each.info.status for each in runs] == ["FAILED"]

    def test_nothing_is_written_beside_the_user_and_nothing_is_printed(
        self,
        reopen: Fresh,
        model: Any,
        table: pd.DataFrame,
        name: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        mine = reopen()
        made = mine.register(name, model, CARD, key="k", example=table)
        mine.set_alias(name, "champion", made.version)
        mine.load(made)
        assert list(tmp_path.iterdir()) == []
        assert capfd.readouterr() == ("", "")


def _halve(rows: Any) -> Any:
    return rows / 2


@pytest.fixture
def local(tmp_path: Path) -> Iterator[MlflowRegistry]:
    opened = MlflowRegistry(home=tmp_path / "home")
    yield opened
    opened.close()


def test_a_glance_at_the_file_says_what_mlflow_says(local: MlflowRegistry, model: Any, tmp_path: Path) -> None:
    for key in ("a", "b"):
        local.register("churn", model, CARD, key=key)
    for alias in ("champion", "blessed"):
        local.set_alias("churn", alias, "2")
    by_mlflow = MlflowRegistry(local.url, home=tmp_path / "home")
    assert (local._glance is None, by_mlflow._glance is None) == (False, True)
    for which in ("1", "2", "3", "champion", "blessed", "nobody"):
        assert local.find("churn", which) == by_mlflow.find("churn", which)
    for key in ("a", "b", "c"):
        assert local.find_key("churn", key) == by_mlflow.find_key("churn", key)
    local._client.delete_model_version("churn", "1")
    assert local.find("churn", "1") is by_mlflow.find("churn", "1") is None
    assert local.find_key("churn", "a") is by_mlflow.find_key("churn", "a") is None


def test_looking_where_nothing_is_makes_nothing_and_loads_no_mlflow(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from penstock.tracking.mlflow_registry import MlflowRegistry;"
        "assert MlflowRegistry(home=Path(sys.argv[1])).find('churn', 'champion') is None;"
        "assert not {'mlflow', 'sqlalchemy', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "home")], check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_glanced_at_is_left_to_mlflow(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "other" / "mlflow.db")) as database:
        database.execute("CREATE TABLE model_versions (name TEXT)")
    with pytest.raises(UnreadableError):
        Glance(tmp_path / "other" / "mlflow.db").find("churn", "1")


def test_changed_bytes_are_not_loaded(local: MlflowRegistry, model: Any, tmp_path: Path) -> None:
    made = local.register("churn", model, CARD, key="k")
    (file,) = (tmp_path / "home" / "mlflow-artifacts").rglob("model.skops")
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(RegistryError, match="not those that were registered"):
        local.load(made)


def test_a_project_that_moved_still_loads_its_models(local: MlflowRegistry, model: Any, tmp_path: Path) -> None:
    local.register("churn", model, CARD, key="k")
    local.close()
    (tmp_path / "home").rename(tmp_path / "moved")
    moved = MlflowRegistry(home=tmp_path / "moved")
    assert moved.load(moved.get("churn", "1")).coef_.shape == (1, 2)
    moved.close()


def test_a_pickled_model_is_refused_unless_the_registry_is_trusted(
    local: MlflowRegistry, model: Any, tmp_path: Path
) -> None:
    import mlflow.sklearn

    folder = tmp_path / "pickled"
    mlflow.sklearn.save_model(model, str(folder), serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
    local._client.create_registered_model("other")
    local._client.create_model_version("other", source=folder.as_uri())
    with pytest.raises(RegistryError, match="stored as cloudpickle, which can run code"):
        local.load(local.get("other", "1"))
    trusting = MlflowRegistry(home=tmp_path / "home", allow_pickle=True)
    assert (trusting.load(trusting.get("other", "1")).coef_ == model.coef_).all()
    trusting.close()


def test_a_server_that_does_not_answer_is_named_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(RegistryError, match=f"127.0.0.1:{port} cannot be reached"):
        MlflowRegistry(f"http://127.0.0.1:{port}", home=tmp_path).find("churn", "champion")
    assert time.monotonic() - started < 10


def test_a_database_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is not a database, it is a note of 100 characters or so" * 20)
    with pytest.raises(RegistryError, match="the MLflow registry at sqlite"):
        MlflowRegistry(home=tmp_path).find("churn", "champion")
