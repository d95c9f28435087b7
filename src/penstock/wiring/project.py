"""A project: its stores and services, each opened when first needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from ..authoring.loader import FileLoader
from ..core.clock import Clock, SystemClock
from ..core.errors import ConfigError, StoreUnavailableError
from ..engine.fingerprint import Fingerprints
from ..engine.services import Services
from ..graph import Graph
from ..ports.boundary import BoundaryCheck
from ..ports.effects import Acting, Fence, Unfenced
from ..ports.models import ModelRegistry
from ..ports.observers import Observer
from ..ports.records import Fingerprint
from ..ports.runlog import Store
from ..stores.artifacts import ArtifactStore
from ..stores.blobs import open_blobs
from ..stores.runlog import IN_MEMORY, open_store
from .config import Settings


class Project:
    """Everything that settings name, as objects."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.home = Path(settings.home)
        self._observers: dict[str, Observer] = {}

    @cached_property
    def store(self) -> Store:
        self.make_home()
        return open_store(self.settings.runs_url, home=self.home, clock=self.clock, durability=self.settings.durability)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        self.make_home()
        return ArtifactStore(
            lambda: open_blobs(self.settings.artifacts_url, home=self.home, durability=self.settings.durability)
        )

    @cached_property
    def registry(self) -> ModelRegistry:
        from ..tracking import MlflowRegistry

        self.make_home()
        return MlflowRegistry(
            self.settings.tracking or None,
            home=self.home,
            trusted=self.settings.trusted_types,
            allow_pickle=self.settings.allow_pickle,
        )

    @cached_property
    def fingerprints(self) -> Fingerprints:
        return Fingerprints(Path(self.settings.root), self.home / "fingerprints")

    def make_home(self) -> None:
        """`.penstock/`, ignored by git by itself."""
        ignore = self.home / ".gitignore"
        if ignore.exists():
            return
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            ignore.write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.home} cannot be written: {error.strerror}",
                hint="set PENSTOCK_HOME to a folder that can be",
            ) from error

    def services(self, graph: Graph, functions: dict[str, Callable[..., Any]] | None = None) -> Services:
        """What the launcher needs to run steps of this graph, with the code as it is now."""
        self.fingerprints.refresh()
        return Services(
            artifacts=self.artifacts,
            loader=FileLoader(self.settings.root, graph.target, functions=functions, unpack=_unpack),
            fingerprints=_StepFingerprints(self.fingerprints, functions or {}),
            clock=self.clock,
            boundaries=_boundaries,
            observer=self._observer,
            secret=self._secret,
            service=self._service,
            fence=self._fence,
            checkpoints=str(self.home / "checkpoints"),
            hidden=self.settings.hidden_inputs,
            own=[os.path.join(os.path.abspath(self.home), ""), *self._local_artifacts()],
            pools=self.settings.pools,
            boot={"settings": msgspec.structs.asdict(self.settings), "entry": graph.target, "path": list(sys.path)},
        )

    def _local_artifacts(self) -> list[str]:
        """The folder of the artifact store, where it is one of this machine."""
        url = self.settings.artifacts_url.removeprefix("file://")
        return [] if "://" in url else [os.path.join(os.path.abspath(os.path.expanduser(url)), "")]

    def _observer(self, kind: str) -> Observer | None:
        if kind not in self._observers:
            if kind in ("file", "folder", "url", "sql"):
                from ..data import observers

                self._observers.update(observers(self.home / "digests"))
            elif kind in ("model", "model-version"):
                from ..tracking import observers as model_observers

                self._observers.update(model_observers(self.registry))
        return self._observers.get(kind)

    def _service(self, name: str) -> Any:
        match name:
            case "registry":
                return self.registry
            case "scorer":
                from ..tracking import SklearnScorer

                return SklearnScorer()
            case "notifier":
                from ..tracking import OutsideNotifier

                return OutsideNotifier()
        raise LookupError(f"there is no service '{name}'")

    def _fence(self, acting: Acting) -> Fence:
        """A worker opens the run log for this, and for nothing else. One in memory belongs to the process that made it:
        nobody else can take its runs over."""
        if self.settings.runs_url in IN_MEMORY and "store" not in vars(self):
            return Unfenced()
        from ..engine.fencing import StoreFence

        return StoreFence(self.store, acting, self.clock)

    def _secret(self, name: str) -> str:
        if not (name.isascii() and name.isidentifier()):  # it becomes the name of a file
            raise ConfigError(
                f"'{name}' cannot be a secret's name",
                hint="letters, digits and _ only, and no digit first, as in API_TOKEN",
            )
        value = os.environ.get(name)
        if value is not None:
            return value
        path = self.home / "secrets" / name
        if path.is_file():
            return path.read_text(encoding="utf-8").rstrip("\n")
        raise ConfigError(
            f"secret '{name}' is not set here", hint=f"export {name}=…, or put it into {path} (readable by you only)"
        )


class _StepFingerprints:
    """Fingerprints by target; a function of a notebook has one only where its source is known."""

    def __init__(self, fingerprints: Fingerprints, functions: dict[str, Callable[..., Any]]) -> None:
        self._fingerprints = fingerprints
        self._functions = functions

    def of(self, target: str) -> Fingerprint | None:
        function = self._functions.get(target)
        if function is None:
            return None if target.startswith("<notebook>:") else self._fingerprints.of(target)
        import inspect

        try:
            source = inspect.getsource(function)
        except (OSError, TypeError):
            return None
        code, closure = function.__code__, function.__closure__ or ()
        enclosed = {name: cell.cell_contents for name, cell in zip(code.co_freevars, closure, strict=True)}
        return self._fingerprints.of_source(target, source, function.__globals__ | enclosed)

    def edited(self, target: str) -> list[str]:
        if target in self._functions or target.startswith("<notebook>:"):
            return []
        return self._fingerprints.edited(target)


def _boundaries() -> list[BoundaryCheck]:
    from ..data import boundary_checks

    return boundary_checks()


def _unpack(payload: str) -> Callable[..., Any]:
    import base64
    import pickle

    return pickle.loads(base64.b64decode(payload))  # type: ignore[no-any-return]
