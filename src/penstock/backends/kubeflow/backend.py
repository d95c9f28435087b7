"""The backend that `penstock … --on kubeflow` talks to."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.errors import ConfigError
from ...ports.backend import Blueprint, Bundle, Declarations, EngineRun, EngineState, Places
from .client import Client
from .declarations import declared
from .writing import pipeline_text


class KubeflowBackend:
    """Compiles here; deploys, starts and watches through the SDK."""

    name = "kubeflow"
    label = "Kubeflow Pipelines 2"

    def declarations(self, blueprint: Blueprint) -> Declarations:
        return declared(blueprint)

    def compile(self, blueprint: Blueprint) -> Bundle:
        if not blueprint.image:
            raise ConfigError(
                "Kubeflow runs every step in a container, and no image is set",
                hint='`penstock build` makes one; then write image = "…" into penstock.toml, or into the profile',
            )
        if not blueprint.manifest:
            raise ConfigError(
                f"containers cannot reach the artifact store at {blueprint.artifacts}, nor the manifest in it",
                hint='artifacts = "s3://…" (or gs://…) and runs = "postgresql://…" in penstock.toml, or in the profile',
            )
        entry = f"{blueprint.name}.yaml"
        return Bundle(self.name, entry, {entry: pipeline_text(blueprint)})

    def deploy(self, bundle: Bundle, blueprint: Blueprint, places: Places) -> str:
        return Client(blueprint, places).deploy(bundle.files[bundle.entry])

    def submit(
        self, blueprint: Blueprint, places: Places, run_id: str, key: str, parameters: Mapping[str, object]
    ) -> EngineRun:
        return Client(blueprint, places).submit(run_id, key, parameters)

    def state(self, blueprint: Blueprint, places: Places, run: EngineRun) -> EngineState:
        return Client(blueprint, places).state(run.id)

    def cancel(self, blueprint: Blueprint, places: Places, run: EngineRun) -> None:
        Client(blueprint, places).cancel(run.id)
