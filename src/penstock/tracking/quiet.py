"""MLflow as a quiet library: no telemetry, no progress bars, no git, no warnings of its own, short waits."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import MissingExtraError

# Only defaults: what the user's environment says stands.
_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


_FILTERS = threading.RLock()  # they are the whole process's: two threads that put them back would leave them changed


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back the warnings that MLflow and what is under it give about themselves; the user can act on none."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_mlflow() -> None:
    """Make `import mlflow` ready and silent. Raises MissingExtraError where it is not installed."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with quiet():
            import alembic
            import mlflow
            import mlflow.models
            import sqlalchemy
    except ImportError as error:
        raise MissingExtraError(f"the MLflow registry needs '{error.name}'", extra="mlflow") from error
    del alembic, mlflow, sqlalchemy
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
