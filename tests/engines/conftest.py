"""Real engines, each started once for all tests that ask for it. `make test-engines` runs them, not `make test`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines.airflow import Airflow, airflow
from engines.kubeflow import Kubeflow, kubeflow
from engines.prefect import Prefect, prefect
from engines.processes import marked


@pytest.fixture(scope="session")
def airflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Put DAG files into its `dags`."""
    folder = tmp_path_factory.mktemp("airflow")
    with airflow(folder, dags=folder / "dags") as server:
        yield server
    assert list(marked(server.processes.mark)) == []


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    with prefect(tmp_path_factory.mktemp("prefect")) as server:
        yield server
    assert list(marked(server.processes.mark)) == []


@pytest.fixture(scope="session")
def kubeflow_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubeflow]:
    with kubeflow(tmp_path_factory.mktemp("kubeflow")) as runner:
        yield runner
    assert runner.service.containers() == []
    assert list(marked(runner.service.processes.mark)) == []
