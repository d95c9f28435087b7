"""Reaching MLflow: a server that answers within seconds or is named as the problem, a file that one process creates."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ..core.errors import RegistryError

_CONNECT_SECONDS = 3.0
_LOCK_SECONDS = 600.0  # a large model takes its time to be stored


def local_store_url(home: Path) -> str:
    """The SQLite file that a project has without asking for anything.

    >>> local_store_url(Path("/srv/project/.penstock"))
    'sqlite:////srv/project/.penstock/mlflow.db'
    """
    return f"sqlite:///{(home / 'mlflow.db').as_posix()}"


def reach(url: str) -> None:
    """Open and close a connection: MLflow's own client would try for minutes.

    Raises: RegistryError where nobody answers.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    if host is None:
        raise RegistryError(f"'{url}' names no host", hint="write it as http://host:5000")
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise RegistryError(
            f"the MLflow server at {parts.scheme}://{host}:{port} cannot be reached: {error.strerror or error}",
            hint="check `tracking` in penstock.toml, and that the server runs",
        ) from error


@contextmanager
def file_lock(path: Path, patience_s: float = _LOCK_SECONDS) -> Iterator[None]:
    """Hold a lock that the operating system drops when its process dies.

    Raises: RegistryError where somebody holds it for very long: a process that is stopped (Ctrl-Z) never lets go.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if sys.platform != "win32":
            _lock(handle, path, patience_s)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, path: Path, patience_s: float) -> None:
    import fcntl

    limit = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= limit:
                raise RegistryError(
                    f"another process has held {path} for more than {patience_s:g} s",
                    hint="is one stopped, or stuck, while it registers a model? `fuser` names it",
                ) from None
        time.sleep(0.02)
