"""The main job from beginning to end, as a person would type it: run by `make demo`.

Nothing here is needed to use penstock; it only types the commands, sends requests to the live model, and stops it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from pathlib import Path

import make_data
import pandas as pd
from pipeline import LABEL, features

HERE = Path(__file__).parent
PENSTOCK = [sys.executable, "-m", "penstock"]
# Busy cores and two OpenMP threads per process fight; one is as fast here.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def say(text: str) -> None:
    print(f"\n\033[1m── {text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else f"\n== {text}")


def penstock(*arguments: str) -> None:
    """Type one command and wait for it."""
    print("$ penstock " + " ".join(arguments), flush=True)
    done = subprocess.run([*PENSTOCK, *arguments], cwd=HERE, env=ENVIRONMENT, check=False)
    if done.returncode:
        sys.exit(f"penstock {arguments[0]} ended with {done.returncode}")


class Server:
    """`penstock serve`, started and stopped."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = HERE / ".penstock" / "server.log"
        arguments = ["serve", "models:/tumour@champion", "--port", str(port)]
        print("$ penstock " + " ".join(arguments), flush=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*PENSTOCK, *arguments], cwd=HERE, env=ENVIRONMENT, stdout=log, stderr=log)
        while not self.ready():
            if self.process.poll() is not None:
                sys.exit(f"the server ended with {self.process.returncode}; see {self.log}")
            threading.Event().wait(0.1)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def predict(self, rows: list[dict[str, float]]) -> dict[str, object]:
        body = json.dumps({"rows": rows}).encode()
        request = urllib.request.Request(f"{self.url}/predict", data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        print(f"server stopped with exit code {self.process.wait(timeout=20)}")


class Traffic:
    """Requests without a pause, until stopped: what happens to them while the alias moves?"""

    def __init__(self, server: Server, row: dict[str, float]) -> None:
        self.versions: Counter[str] = Counter()
        self.failed: list[str] = []
        self._server, self._row = server, row
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._done.is_set():
            try:
                self.versions[f"version {self._server.predict([self._row])['version']}"] += 1
            except OSError as error:
                self.failed.append(str(error))

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


def main() -> None:
    say("the data: scikit-learn's breast-cancer rows, and a dirty second batch")
    make_data.main()

    say("raw data -> validated -> features -> three candidates -> gate -> registered -> champion")
    penstock("run", "pipeline.py")

    say("again, on unchanged input: nothing is computed twice, and effects say that they are done")
    penstock("run", "pipeline.py")

    say("a live model: requests to the champion")
    server = Server()
    measurements = pd.read_csv(HERE / "data" / "measurements.csv")
    columns = ["mean_radius", "mean_texture", "mean_perimeter", "mean_area", "mean_smoothness", "mean_compactness",
               "mean_concavity", "mean_symmetry"]  # fmt: skip
    sample = measurements.iloc[[0, 20, 21, 100]]
    rows = features(sample[columns]).to_dict(orient="records")  # a step is a plain function: the one used in training
    answer = server.predict(rows)
    for row, truth, predicted, probability in zip(
        rows,
        sample[LABEL],
        answer["predictions"],
        answer["probabilities"],
        strict=True,  # type: ignore[call-overload]
    ):
        print(f"  radius {row['mean_radius']:5.2f}  texture {row['mean_texture']:5.2f}  ->  malignant "
              f"{predicted}  (p = {max(probability):.3f}, truth {truth})")  # fmt: skip
    print(f"  answered by {answer['model']} version {answer['version']}, request {answer['request_id']}")

    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        say("the dirty batch, while requests go on: bad rows are set aside, a new champion takes over live")
        traffic = Traffic(server, rows[0])
        stack.callback(traffic.stop)
        penstock("run", "pipeline.py", "--source", "data/dirty.csv", "--strengths", "1,10,100", "--name", "dirty")
        switched = threading.Event()
        for _ in range(100):
            if len(traffic.versions) > 1 or switched.wait(0.1):
                break
        traffic.stop()
        answered = ", ".join(f"{count} by {version}" for version, count in sorted(traffic.versions.items()))
        print(f"{sum(traffic.versions.values())} requests meanwhile: {answered}; {len(traffic.failed)} failed")
        if traffic.failed:
            sys.exit(f"requests failed: {traffic.failed[:3]}")

        say("a worse model: the gate refuses it, the champion stays")
        penstock("run", "pipeline.py", "--strengths", "0.00001")
        say("stopping")

    say("where to look next")
    print('  export PATH="$PWD/.venv/bin:$PATH" && cd examples/tumours')
    print("  penstock ls                        every run")
    print("  penstock show                      the last one, step by step")
    print("  penstock why last gate             why a step ran, or did not")
    print("  penstock artifact show dirty validate.output.quarantine    the bad rows, and why")
    print("  penstock graph pipeline.py         what it is made of")
    print("  less pipeline.py                   the whole of it, in two minutes")


if __name__ == "__main__":
    main()
