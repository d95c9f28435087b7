"""An object store that speaks S3, on this machine: moto's server, which forgets everything when it stops."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .places import clean_environment, free_port
from .processes import Processes

BUCKET = "lake"


@dataclass(frozen=True)
class Objects:
    port: int

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}"

    @property
    def environment(self) -> dict[str, str]:
        """What the libraries of S3 look for."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def server(logs: Path) -> Iterator[Objects]:
    """A server with one empty bucket."""
    processes = Processes(logs)
    port = free_port()
    try:
        command: list[str | Path] = [
            sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)
        ]  # fmt: skip
        processes.start("moto", command, clean_environment("AWS"))
        processes.wait_until("moto answers", lambda: _answers(port), timeout=60)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield Objects(port)
    finally:
        processes.stop()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2).close()
    except OSError:
        return False
    return True
