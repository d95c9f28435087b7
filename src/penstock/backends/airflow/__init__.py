"""Airflow 3: a DAG file that a person can read, and the talk with Airflow's REST API.

What is written here imports Airflow's SDK and nothing else; each task starts one penstock command in the project's own
environment. This package may know the graph and the ports. It never imports Airflow, and never decides about a step.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...core.errors import ConfigError, did_you_mean
from ...ports.backend import Blueprint, Bundle, Declarations, EngineRun, EngineState, Places
from . import declarations, deploying, running
from .pods import check_container
from .writing import FORMS, SUBPROCESS, dag_file


class AirflowBackend:
    """Airflow 3.x."""

    name = "airflow"
    label = "Airflow 3"

    def declarations(self, blueprint: Blueprint) -> Declarations:
        return declarations.declarations(blueprint, _form(blueprint))

    def compile(self, blueprint: Blueprint) -> Bundle:
        form = _form(blueprint)
        if form != SUBPROCESS:
            check_container(blueprint, form)
        entry = f"{blueprint.name}_dag.py"  # not the name that the pipeline's own file is likely to have
        return Bundle(self.name, entry, {entry: dag_file(blueprint, form)})

    def deploy(self, bundle: Bundle, blueprint: Blueprint, places: Places) -> str:
        return deploying.deploy(bundle, blueprint, _form(blueprint), places)

    def submit(
        self, blueprint: Blueprint, places: Places, run_id: str, key: str, parameters: Mapping[str, object]
    ) -> EngineRun:
        return running.submit(blueprint, places, run_id, key, parameters)

    def state(self, blueprint: Blueprint, places: Places, run: EngineRun) -> EngineState:
        return running.state(blueprint, places, run)

    def cancel(self, blueprint: Blueprint, places: Places, run: EngineRun) -> None:
        running.cancel(blueprint, places, run)


def _form(blueprint: Blueprint) -> str:
    form = blueprint.form or SUBPROCESS
    if form not in FORMS:
        raise ConfigError(f"Airflow has no form {form!r} for steps", hint=did_you_mean(form, FORMS))
    return form
