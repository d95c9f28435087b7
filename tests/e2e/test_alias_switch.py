"""A real server process over a real MLflow store: the alias moves under load, and nobody notices but the version."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from penstock.ports.models import ModelCard
from penstock.tracking.mlflow_registry import MlflowRegistry

SERVER = """
import sys
from pathlib import Path
from penstock.serving.server import serve
from penstock.tracking.mlflow_registry import MlflowRegistry
registry = MlflowRegistry(home=Path(sys.argv[1]))
serve("models:/churn@champion", registry=registry, port=0, poll_s=0.05, on_ready=lambda url: print(url, flush=True))
registry.close()
print("ended", flush=True)
"""
CLIENTS = 4
PATIENCE_S = 60
COLUMNS = ["age", "visits", "spend"]


class Store:
    """Two versions in a real store, and what each answers to each batch."""

    def __init__(self, home: Path) -> None:
        self.home = home
        random = np.random.default_rng(7)
        table = pd.DataFrame(random.normal(size=(200, 3)), columns=COLUMNS)
        label = (table["age"] + table["visits"] > 0).astype(int)
        self.registry = MlflowRegistry(home=home)
        self.batches = [table[start : start + size] for start, size in ((0, 1), (10, 5), (20, 40), (60, 1), (70, 13))]
        self.expected: dict[str, list[tuple[list[int], Any]]] = {}
        card = ModelCard(run_id="churn-2026-11-23-7f3a", pipeline="churn", step="register", digest="d")
        for key, labels in (("right", label), ("wrong", 1 - label)):
            model = RandomForestClassifier(20, random_state=0).fit(table, labels)
            made = self.registry.register("churn", model, card, key=key, example=table)
            self.expected[made.version] = [
                (model.predict(each).tolist(), model.predict_proba(each)) for each in self.batches
            ]
        self.bodies = [json.dumps({"rows": each.to_dict(orient="records")}) for each in self.batches]


class Served:
    """The server process, started while the alias points at version 1."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.registry, self.bodies, self.expected = store.registry, store.bodies, store.expected
        self.registry.set_alias("churn", "champion", "1")
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(store.home)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.log.read_text()
        self.host, self.port = str(urlsplit(self.url).hostname), int(urlsplit(self.url).port or 0)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)

    def get(self, path: str) -> Any:
        connection = self.connect()
        connection.request("GET", path)
        content = json.loads(connection.getresponse().read())
        connection.close()
        return content

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    made.registry.close()


@pytest.fixture
def served(store: Store, tmp_path: Path) -> Iterator[Served]:
    made = Served(store, tmp_path)
    yield made
    made.close()


class Clients:
    """Threads that ask without a pause, check every answer against the version it names, and count."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._stop = threading.Event()
        self._news = threading.Condition()
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join(PATIENCE_S)

    def wait_for_more(self, version: str, count: int = 25) -> None:
        """Until that many further answers came from the version."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            goal = self.versions[version] + count
            while self.versions[version] < goal:
                assert not self.failures, self.failures[0]
                assert self._news.wait(deadline - time.monotonic()), f"version {version} did not answer"

    def _ask(self, number: int) -> None:
        connection = self._served.connect()
        for turn in range(50_000):
            if self._stop.is_set():
                break
            place = (number + turn) % len(self._served.bodies)
            try:
                connection.request("POST", "/predict", self._served.bodies[place])
                response = connection.getresponse()
                failure, version = self._judge(response.status, response.read(), place)
            except (OSError, http.client.HTTPException) as error:
                failure, version = repr(error), ""
            with self._news:
                if failure:
                    self.failures.append(failure)
                self.versions[version] += 1
                self._news.notify_all()
            if failure:
                break
        connection.close()

    def _judge(self, status: int, content: bytes, place: int) -> tuple[str | None, str]:
        if status != 200:
            return f"{status}: {content.decode()}", ""
        answer = json.loads(content)
        predictions, probabilities = self._served.expected[answer["version"]][place]
        if answer["predictions"] != predictions:
            return f"version {answer['version']}, batch {place}: {answer['predictions']}, not {predictions}", ""
        if not np.allclose(answer["probabilities"], probabilities, rtol=0, atol=1e-12):
            return f"version {answer['version']}, batch {place}: other probabilities", ""
        return None, answer["version"]


def test_the_alias_moves_under_load_and_no_request_fails(served: Served) -> None:
    with Clients(served) as clients:
        clients.wait_for_more("1")
        for version in ("2", "1", "2"):
            served.registry.set_alias("churn", "champion", version)
            clients.wait_for_more(version)
        asked_before_the_end = sum(clients.versions.values())
        clients.wait_for_more("2", 100)
    assert clients.failures == []
    assert set(clients.versions) == {"1", "2"}
    assert asked_before_the_end > 4 * 25
    assert served.get("/model")["version"] == "2"
    # The switch is behind us: whoever asks from now on gets version 2, and only that.
    with Clients(served) as late:
        late.wait_for_more("2", 100)
    assert (late.failures, set(late.versions)) == ([], {"2"})


def test_a_signal_lets_a_request_finish_takes_no_other_and_ends_with_0(served: Served) -> None:
    body = served.bodies[2].encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((served.host, served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(head.encode())
        # The server asks for the body: from here on this request is in flight.
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        served.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while _accepts(served):
            assert time.monotonic() < deadline, "it still takes connections after SIGTERM"
        connection.sendall(body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        assert json.loads(answer.read())["predictions"] == served.expected["1"][2][0]
    ended, _ = served.process.communicate(timeout=PATIENCE_S)
    assert (served.process.returncode, ended) == (0, "ended\n")
    assert served.log.read_text() == ""


def _accepts(served: Served) -> bool:
    try:
        socket.create_connection((served.host, served.port), timeout=1).close()
    except OSError:
        return False
    return True


def test_ctrl_c_ends_it_with_0(served: Served) -> None:
    assert served.get("/health/ready")["ready"] is True
    os.kill(served.process.pid, signal.SIGINT)
    served.process.communicate(timeout=PATIENCE_S)
    assert served.process.returncode == 0
