"""prefect: a pipeline as a Prefect 3 flow with real tasks, whose steps run in warm workers of the project's Python.

`writing` makes the flow file, `beside/` holds the two files that lie beside it, `declarations` says what is kept and
how, `client` speaks to a Prefect server over its REST API. Prefect itself is needed only where flows run.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...ports.backend import Blueprint, Bundle, Declarations, EngineRun, EngineState, Places
from .client import Client
from .declarations import declared
from .writing import compiled


class PrefectBackend:
    """Prefect 3."""

    name = "prefect"
    label = "Prefect 3"

    def declarations(self, blueprint: Blueprint) -> Declarations:
        return declared(blueprint)

    def compile(self, blueprint: Blueprint) -> Bundle:
        return compiled(blueprint)

    def deploy(self, bundle: Bundle, blueprint: Blueprint, places: Places) -> str:
        return Client(places).deploy(bundle, blueprint)

    def submit(
        self, blueprint: Blueprint, places: Places, run_id: str, key: str, parameters: Mapping[str, object]
    ) -> EngineRun:
        return Client(places).submit(blueprint, run_id, key, parameters)

    def state(self, blueprint: Blueprint, places: Places, run: EngineRun) -> EngineState:
        return Client(places).state(run)

    def cancel(self, blueprint: Blueprint, places: Places, run: EngineRun) -> None:
        Client(places).cancel(run)
