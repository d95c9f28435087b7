"""Ray and Dask clusters of two nodes on this machine, one of which can be killed and replaced."""

from __future__ import annotations

import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from engines.places import clean_environment, free_port, program, python
from engines.processes import MARK, end_marked

ROOT = Path(__file__).parents[2]
TOKEN = "s3cr3t-of-the-nodes"
DEADLINE_S = 60.0

RAY = """
import sys
from ray.cluster_utils import Cluster

def big():
    return cluster.add_node(num_cpus=4, memory=2 << 30)

head = {"num_cpus": 2, "memory": 1 << 30, "include_dashboard": False, "ray_client_server_port": int(sys.argv[1])}
cluster = Cluster(initialize_head=True, head_node_args=head)
node = big()
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(node, allow_graceful=False)
    else:
        node = big()
    print("done", flush=True)
"""


class Place(Protocol):
    """A cluster, as `penstock run` reaches it."""

    name: str
    workers: str
    environment: dict[str, str]

    def kill_big(self) -> None:
        """The node with four processors is gone, and what ran there."""
        ...

    def add_big(self) -> None: ...

    def end(self) -> None:
        """Take leave of processes that are killed by their mark."""
        ...


def environment() -> dict[str, str]:
    """With the project as it is in this checkout, whichever one is installed."""
    found = clean_environment("RAY_", "DASK_")
    return found | {"PYTHONPATH": str(ROOT / "src"), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}


@contextmanager
def apart() -> Iterator[dict[str, str]]:
    """An environment by which every process that was started with it is found, and ended, at the end."""
    mark = uuid.uuid4().hex
    try:
        yield environment() | {MARK: mark, "SPT_NOENV": "1", "CLUSTER_TOKEN": TOKEN}
    finally:
        end_marked(mark)


def wait_for(what: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, f"it never came: {what}"
        time.sleep(0.02)


class RayPlace:
    name = "ray"
    workers = "ray"

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self.client_port = free_port()
        with open(logs / "ray.log", "w") as log:
            self._helper = subprocess.Popen(
                [python("cluster"), "-c", RAY, str(self.client_port)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.environment = environment | {"RAY_ADDRESS": self._answer()}

    def kill_big(self) -> None:
        self._tell("kill")

    def add_big(self) -> None:
        self._tell("add")

    def end(self) -> None:
        self._helper.kill()
        self._helper.communicate()

    def _tell(self, word: str) -> None:
        assert self._helper.stdin is not None
        self._helper.stdin.write(word + "\n")
        self._helper.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._helper.stdout is not None
        line = self._helper.stdout.readline().strip()
        assert line, "the Ray cluster did not come up"
        return line


class DaskPlace:
    name = "dask"

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self.environment = environment
        self._logs = logs
        self._all: list[subprocess.Popen[bytes]] = []
        port = free_port()
        self.workers = f"dask://127.0.0.1:{port}"
        self._start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        wait_for(lambda: _answers(port))
        self._address = f"tcp://127.0.0.1:{port}"
        self._worker(2, 1 << 30)
        self._big = self._worker(4, 2 << 30)

    def kill_big(self) -> None:
        self._big.kill()
        self._big.wait()

    def add_big(self) -> None:
        self._big = self._worker(4, 2 << 30)

    def end(self) -> None:
        for process in self._all:
            process.kill()
            process.wait()

    def _worker(self, processors: int, memory: int) -> subprocess.Popen[bytes]:
        has = f"CPU={processors} MEMORY={memory}"
        return self._start(
            "worker", self._address, "--no-nanny", "--nthreads", str(processors), "--memory-limit", "0",
            "--resources", has, "--no-dashboard", "--local-directory", str(self._logs),
        )  # fmt: skip

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with open(self._logs / f"dask-{words[0]}.log", "a") as log:
            started = subprocess.Popen(
                [program("cluster", "dask"), *words],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._all.append(started)
        return started


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
