"""The conformance suite on Kubeflow's SDK: kfp.local, a container per step, PostgreSQL and an S3 server for stores."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from penstock.testing.conformance.case import Case
from penstock.testing.conformance.commands import Place, resume_here, run_here
from penstock.testing.conformance.driving import Answer, EngineRun, Ground, answers

from . import images, objects, podman, postgres
from .places import python

LIBRARIES = ("pandas", "pyarrow", "numpy")
_LIMIT_S = 900.0  # a container takes its second or two
_ENDING_S = 60.0
_STATES = {"succeeded": "succeeded", "failed": "failed"}


def driver() -> KubeflowDriver:
    return KubeflowDriver()


_GONE = "the folder is in the container, and goes with it: the next attempt is another container"


class KubeflowDriver:
    name = "kubeflow"
    at_once = 2

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._place: Place | None = None
        self._image = ""
        self._postgres: postgres.Postgres | None = None

    def versions(self) -> Mapping[str, str]:
        words = [str(python("kubeflow")), "-c", "import kfp; print(kfp.__version__)"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return {
            "KFP SDK (kfp.local)": done.stdout.strip(),
            "podman": podman.version().rpartition(" ")[2],
            "PostgreSQL": postgres.version().split()[2],
        }

    def prepare(self, ground: Ground) -> Mapping[str, str]:
        work = ground.work
        server = self._postgres = self._stack.enter_context(postgres.server(work / "postgres"))
        store = self._stack.enter_context(objects.server(work / "s3"))
        service = self._stack.enter_context(podman.service(work / "podman"))
        image = self._image = f"localhost/conformance-{os.getpid()}:latest"
        self._stack.callback(images.remove, image)
        images.build(image, ground.folder, work, *LIBRARIES)
        stores = {"PENSTOCK_RUNS": server.create_database(), "PENSTOCK_ARTIFACTS": f"{store.url}/penstock"}
        settings = {
            **stores,
            **store.environment,
            **service.environment,
            "PENSTOCK_HOME": str(ground.folder / ".penstock"),
            "PENSTOCK_ENDPOINT": "local",
            "PENSTOCK_IMAGE": image,
            "PENSTOCK_ENGINE_PYTHON": str(python("kubeflow")),
        }
        os.environ.update(store.environment)  # this process looks into the store as well
        self._place = Place.of(ground, settings)._replace(limit_s=_LIMIT_S * (4 if ground.full else 1))
        return {"PENSTOCK_HOME": settings["PENSTOCK_HOME"], **stores}

    def declared(self, case: Case) -> Mapping[str, Answer]:
        found = answers("kubeflow", case, endpoint="local")
        if "checkpoint_dir" in case.path.read_text(encoding="utf-8"):  # nothing that a graph could tell
            return {**found, "context().checkpoint_dir": Answer("refused", _GONE)}
        return found

    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        assert self._place is not None
        run = run_here(self._place, case, parameters, {}, "--on", "kubeflow")
        return run._replace(state=self._state_there(run))

    def resume(self, case: Case, run_id: str) -> EngineRun:
        assert self._place is not None
        run = resume_here(self._place, run_id, {}, "--on", "kubeflow")
        return run._replace(state=self._state_there(run))

    def places_to_search(self) -> Iterable[Path]:
        assert self._place is not None
        assert self._postgres is not None
        dump = self._place.work / "postgres.sql"
        dump.write_text(self._postgres.dump(), encoding="utf-8")
        return (self._place.folder / ".penstock" / "deployments", self._place.work / "podman", dump)

    def close(self) -> None:
        self._stack.close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _state_there(self, run: EngineRun) -> str:
        """How kfp.local says that it ended, which is not what penstock's command says."""
        assert self._place is not None
        runs = self._place.folder / ".penstock/deployments/kubeflow/runs"
        names = [str(run.run_id), *(each.name for each in runs.glob(f"{run.run_id}.*"))]  # a resume is a run of its own
        file = runs / max(names, key=lambda name: int(name.partition(".")[2] or 0)) / "state.json"
        deadline = monotonic() + _ENDING_S  # the run is over in the run log a moment before it is in the engine
        while True:
            try:
                told = json.loads(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                return ""
            if told["state"] != "running" or monotonic() > deadline:
                return str(_STATES.get(told["state"], told["state"]))
            sleep(0.2)
