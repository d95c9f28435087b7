"""The model registry on MLflow: its own SQLite file in the project, or a shared server by URL.

How a registration happens once: the version is created together with the tag `penstock.key`, in one transaction of
MLflow's store. A retry looks that tag up first, under a lock, so that whatever died before it left no version, and
whatever died after it is found. What was half done stays behind as an MLflow run, which the retry marks as killed.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import msgspec

from ..core.clock import SystemClock
from ..core.errors import RegistryError
from ..models.moving import noted
from ..models.reference import ModelReference, check_alias, check_name, version_not_found
from ..ports.models import AliasMove, ModelCard, ModelSignature, ModelVersion
from .connecting import file_lock, local_store_url, reach
from .glance import Glance, UnreadableError, model_version
from .mlflow_model import read_model, read_signature, write_model
from .quiet import import_mlflow, quiet

_ARTIFACTS = "mlflow-artifacts"
_MOVES = "penstock.moves."  # and the alias: a tag of the registered model
_MOVES_DECODER = msgspec.json.Decoder(list[AliasMove])
_TAG_CHARS = 4500  # MLflow refuses more than 5000
Moves: TypeAlias = list[AliasMove]  # inside the class, `list` is a method
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


class MlflowRegistry:
    """Models, versions and aliases in MLflow; one MLflow run per registration, linked both ways.

    Without `url`, everything lies in `home`: mlflow.db, mlflow-artifacts, mlflow.lock. `trusted` names further types
    that a model may contain; `allow_pickle` lets models that other tools stored as pickles run their code.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        home: Path,
        trusted: Sequence[str] = (),
        allow_pickle: bool = False,
    ) -> None:
        self._home = Path(home).absolute()
        self.url = url.rstrip("/") if url else local_store_url(self._home)
        self._glance = None if url else Glance(self._home / "mlflow.db")
        self._is_server = self.url.startswith(("http://", "https://"))
        self._trusted = tuple(trusted)
        self._allow_pickle = allow_pickle
        self._clock = SystemClock()
        self._connecting = threading.Lock()
        self._connected: Any = None

    def register(
        self,
        name: str,
        model: Any,
        card: ModelCard,
        *,
        key: str,
        example: Any = None,
        check: Callable[[], None] | None = None,
    ) -> ModelVersion:
        check_name(name)
        with self._asking(f"registering {name}"), file_lock(self._home / "mlflow.lock"):
            if known := self.find_key(name, key):
                return known
            experiment = self._experiment(card.pipeline or "penstock")
            self._end_abandoned(experiment, key)
            run = self._client.create_run(experiment, tags=_run_tags(card, key), run_name=card.run_id or name)
            finished = False
            try:
                self._log(run.info.run_id, model, card)
                version = self._store(name, model, card, key, example, experiment, run.info.run_id)
                if check is not None:
                    check()
                number = str(self._client.create_model_version(name, run_id=run.info.run_id, **version).version)
                finished = True
            finally:
                self._client.set_terminated(run.info.run_id, "FINISHED" if finished else "FAILED")
            return self._eldest(name, key, number)

    def find(self, name: str, which: str) -> ModelVersion | None:
        if self._glance is not None:
            with contextlib.suppress(UnreadableError):
                return self._glance.find(name, which)
        with self._asking(f"looking up {ModelReference(name, which)}"):
            try:
                if which.isdigit():
                    found = self._client.get_model_version(name, which)
                else:
                    found = self._client.get_model_version_by_alias(name, which)
            except _mlflow_error() as error:
                # MLflow calls an alias that is not there an invalid parameter.
                if error.error_code in _MISSING or ("alias" in str(error) and "not found" in str(error)):
                    return None
                raise
            return _version(found, tuple(sorted(found.aliases)))

    def find_key(self, name: str, key: str) -> ModelVersion | None:
        if self._glance is not None:
            with contextlib.suppress(UnreadableError):
                return self._glance.find_key(name, key)
        with self._asking(f"looking up {name} by its key"):
            found = self._client.search_model_versions(f"name = '{name}' and tag.`penstock.key` = '{key}'")
        oldest = min(found, key=lambda each: int(each.version), default=None)
        return self.get(name, str(oldest.version)) if oldest is not None else None

    def get(self, name: str, which: str) -> ModelVersion:
        if found := self.find(name, which):
            return found
        known = [text for each in self.list(name) for text in (each.version, *each.aliases)]
        raise version_not_found(ModelReference(name, which), names=self.names(), known=known)

    def names(self) -> list[str]:
        """Every registered model's name."""
        with self._asking("listing models"):
            return [each.name for each in self._client.search_registered_models(max_results=1000)]

    def list(self, name: str) -> list[ModelVersion]:
        with self._asking(f"listing versions of {name}"):
            model = self._model(name)  # the search leaves aliases out; the model has them
            if model is None:
                return []
            found: list[Any] = []
            page = None
            while True:
                batch = self._client.search_model_versions(f"name = '{name}'", max_results=200, page_token=page)
                found += batch
                if not (page := batch.token):
                    break
        aliases: dict[str, list[str]] = {}
        for alias, number in model.aliases.items():
            aliases.setdefault(str(number), []).append(alias)
        newest_first = sorted(found, key=lambda each: -int(each.version))
        return [_version(each, tuple(sorted(aliases.get(str(each.version), ())))) for each in newest_first]

    def _model(self, name: str) -> Any:
        """None where no model has this name."""
        try:
            return self._client.get_registered_model(name)
        except _mlflow_error() as error:
            if error.error_code in _MISSING:
                return None
            raise

    def set_alias(self, name: str, alias: str, version: str) -> None:
        check_alias(alias)
        self.get(name, version)
        with self._asking(f"pointing {name}@{alias} at version {version}"):
            self._client.set_registered_model_alias(name, alias, version)

    def moves(self, name: str, alias: str) -> Moves:
        with self._asking(f"looking up who moved {name}@{alias}"):
            model = self._model(name)
        try:
            return [] if model is None else _MOVES_DECODER.decode(model.tags.get(f"{_MOVES}{alias}", "[]"))
        except msgspec.DecodeError:
            return []  # somebody else wrote it

    def note_move(self, name: str, alias: str, move: AliasMove) -> None:
        self.get(name, move.version)
        made = msgspec.structs.replace(move, at=move.at or self._clock.now_us())
        notes = noted(self.moves(name, alias), made)
        while len(text := msgspec.json.encode(notes).decode()) > _TAG_CHARS and len(notes) > 1:
            notes.pop()
        with self._asking(f"noting who moved {name}@{alias}"):
            self._client.set_registered_model_tag(name, f"{_MOVES}{alias}", text)

    def load(self, version: ModelVersion) -> Any:
        name = f"{version.name} version {version.version}"
        with self._asking(f"loading {name}"), self._files(version) as folder:
            return read_model(
                folder,
                digest=version.tags.get("penstock.file"),
                trusted=self._trusted,
                allow_pickle=self._allow_pickle,
                name=name,
            )

    def signature(self, version: ModelVersion) -> ModelSignature | None:
        doing = f"reading the signature of {version.name} version {version.version}"
        with self._asking(doing), self._files(version, only=("MLmodel", "input_example.json")) as folder:
            return read_signature(folder)

    def close(self) -> None:
        """Give back the connections to a database; the registry connects again when it is used again."""
        if self._connected is not None and not self._is_server:
            self._connected._tracking_client.store.engine.dispose()
            self._connected._get_registry_client().store.engine.dispose()

    # -- connecting ---------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                import_mlflow()
                from mlflow import MlflowClient

                if self._is_server:
                    reach(self.url)
                self._home.mkdir(parents=True, exist_ok=True)
                # Two processes that create the same database at once would each find it half made.
                with quiet(), file_lock(self._home / "mlflow-create.lock"):
                    client = MlflowClient(tracking_uri=self.url, registry_uri=self.url)
                    client.search_registered_models(max_results=1)
                self._connected = client
            return self._connected

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn what MLflow, its database or the network raise into one RegistryError that says what we were doing."""
        import_mlflow()
        from alembic.util import CommandError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (_mlflow_error(), SQLAlchemyError, CommandError, OSError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RegistryError(f"{doing}: the MLflow registry at {_shown(self.url)} answered: {first}") from error

    # -- registering --------------------------------------------------------------------------------------------

    def _experiment(self, name: str) -> str:
        client = self._client
        known = client.get_experiment_by_name(name)
        if known is not None:
            if known.lifecycle_stage == "deleted":
                client.restore_experiment(known.experiment_id)
            return str(known.experiment_id)
        where = None if self._is_server else (self._home / _ARTIFACTS).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=where))
        except _mlflow_error() as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(client.get_experiment_by_name(name).experiment_id)

    def _end_abandoned(self, experiment: str, key: str) -> None:
        """MLflow runs of registrations that died half way would show as running for ever."""
        query = f"tags.`penstock.key` = '{key}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([experiment], query):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _log(self, run_id: str, model: Any, card: ModelCard) -> None:
        from mlflow.entities import Metric, Param

        params = dict(card.parameters)
        if callable(settings := getattr(model, "get_params", None)):
            params |= {f"model.{name}": str(value) for name, value in settings(deep=False).items()}
        written = [Param(name, value[:500]) for name, value in params.items()]
        now_ms = self._clock.now_us() // 1000
        metrics = [Metric(name, value, now_ms, 0) for name, value in card.metrics.items()]
        for start in range(0, max(len(written), len(metrics)), 100):
            self._client.log_batch(run_id, metrics[start : start + 100], written[start : start + 100])

    def _store(
        self, name: str, model: Any, card: ModelCard, key: str, example: Any, experiment: str, run_id: str
    ) -> dict[str, Any]:
        """Upload the model's files; what is returned makes a version of them."""
        from mlflow.models import Model

        client = self._client
        logged = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags={"penstock.key": key})
        ready = False
        try:
            with tempfile.TemporaryDirectory(prefix="penstock-model-") as scratch, quiet():
                folder = Path(scratch) / "model"
                described = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
                file = write_model(
                    model, folder, example=example, described=described, trusted=self._trusted, name=name
                )
                client.log_model_artifacts(logged.model_id, str(folder))
            ready = True
        finally:
            client.finalize_logged_model(logged.model_id, "READY" if ready else "FAILED")
        try:
            client.create_registered_model(name)
        except _mlflow_error() as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # With a database, MLflow would resolve models:/… against a default store of its own; the place is the same.
        source = f"models:/{logged.model_id}" if self._is_server else logged.artifact_location
        return {
            "source": source,
            "tags": _version_tags(card, key, file),
            "description": _description(card),
            "model_id": logged.model_id,
        }

    def _eldest(self, name: str, key: str, number: str) -> ModelVersion:
        """The version of this key. Where another host made one at the same moment, the elder stays and ours goes."""
        eldest = self.find_key(name, key)
        if eldest is not None and int(eldest.version) < int(number):
            self._client.delete_model_version(name, number)
            return eldest
        return self.get(name, number)

    # -- reading ------------------------------------------------------------------------------------------------

    @contextmanager
    def _files(self, version: ModelVersion, only: Sequence[str] = ()) -> Iterator[Path]:
        """The version's folder: where it lies if that is here, else a copy that is removed afterwards."""
        from mlflow.artifacts import download_artifacts

        uri = self._client.get_model_version_download_uri(version.name, version.version)
        if (here := self._local_folder(uri)) is not None:
            yield here
            return
        with tempfile.TemporaryDirectory(prefix="penstock-model-") as scratch:
            wanted = [f"{uri.rstrip('/')}/{each}" for each in only] or [uri]
            for each in wanted:
                try:
                    got = download_artifacts(artifact_uri=each, dst_path=scratch, tracking_uri=self.url)
                except _mlflow_error():
                    if not each.endswith("input_example.json"):
                        raise
            yield Path(scratch) if only else Path(got)

    def _local_folder(self, uri: str) -> Path | None:
        """MLflow stores absolute paths; a project that was moved still finds its models under its home."""
        if (not uri.startswith("file:") and "://" in uri) or uri.startswith("mlflow-artifacts:"):
            return None
        folder = Path(unquote(urlsplit(uri).path))
        if not folder.is_dir() and f"/{_ARTIFACTS}/" in folder.as_posix():
            folder = self._home / _ARTIFACTS / folder.as_posix().rpartition(f"/{_ARTIFACTS}/")[2]
        return folder if folder.is_dir() else None


def _mlflow_error() -> type[Any]:
    from mlflow.exceptions import MlflowException

    return MlflowException


def _shown(url: str) -> str:
    """A URL without the password that it may hold."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://…@{after}" if at else url


def _run_tags(card: ModelCard, key: str) -> dict[str, str]:
    ours = {"run": card.run_id, "pipeline": card.pipeline, "step": card.step, "key": key, "digest": card.digest}
    lineage = {f"penstock.lineage.{name}": value for name, value in card.lineage.items()}
    return {f"penstock.{name}": value for name, value in ours.items() if value} | lineage | card.tags


def _version_tags(card: ModelCard, key: str, file_digest: str) -> dict[str, str]:
    kept = {"penstock.file": file_digest, "penstock.metrics": json.dumps(card.metrics, sort_keys=True)}
    return _run_tags(card, key) | kept


def _description(card: ModelCard) -> str:
    if not card.run_id:
        return "Registered by penstock outside a run."
    return f"Registered by step {card.step} of {card.pipeline}, run {card.run_id}.\n\n    penstock show {card.run_id}"


def _version(found: Any, aliases: tuple[str, ...]) -> ModelVersion:
    tags = {str(name): str(value) for name, value in found.tags.items()}
    return model_version(found.name, str(found.version), tags, aliases, int(found.creation_timestamp))
