"""One run of a pipeline on this machine, in containers, under kfp.local's DockerRunner: `python local.py FOLDER`.

FOLDER/request.json says what to run; FOLDER/state.json says how it stands. Nothing of penstock is imported here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

VERSIONS = "2.17"


def main(folder: Path) -> int:
    request: dict[str, Any] = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    stopping, ending = threading.Event(), _Ending()
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.set())
    _tell(folder, "running", "")
    try:
        _run(folder, request, stopping, ending)
    except Exception as error:
        text = str(error).strip()
        is_kfp_s = isinstance(error, RuntimeError) and "finished with status" in text
        _tell(folder, "failed", ending.note if is_kfp_s else f"{type(error).__name__}: {text[-2000:]}")
        raise
    _tell(folder, "succeeded", "")
    return 0


class _Ending:
    """What the task that closes the run printed. A failure of a step is told in the run log, by the step itself; what
    kept this task from closing the run is told by nobody else."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def heard(self, line: str) -> None:
        if line.strip():
            self._lines = [*self._lines, line.strip()][-5:]

    @property
    def note(self) -> str:
        has_closed = any(line.startswith("penstock: run ") for line in self._lines)
        return "" if has_closed else " | ".join(self._lines)[-2000:] or "the task that closes the run did not start"


def _run(folder: Path, request: dict[str, Any], stopping: threading.Event, ending: _Ending) -> None:
    import kfp
    from kfp import components, local

    if not kfp.__version__.startswith(VERSIONS + "."):
        raise ImportError(f"kfp {kfp.__version__} is installed, and penstock runs kfp.local of {VERSIONS}")
    warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
    root = folder / "outputs"
    root.mkdir(exist_ok=True)
    root.chmod(0o777)  # a container's user is another one; the folder above lets nobody else in
    workspace = folder / "workspace"  # it wants one, and removes it
    workspace.mkdir(exist_ok=True)
    _mend(stopping, ending)
    local.init(
        runner=local.DockerRunner(
            environment={name: os.environ[name] for name in request["environment"] if name in os.environ},
            labels={"penstock.run": request["run"]},
            network_mode="host",  # the stores are where they are for this machine
        ),
        pipeline_root=str(root),
        workspace_root=str(workspace),
    )
    pipeline = components.load_component_from_file(request["pipeline"])
    pipeline(**request["arguments"])


def _mend(stopping: threading.Event, ending: _Ending) -> None:
    """Keep kfp.local from calling a failed container a success, and a silent one a failure; let a stop be heard.

    It has each container removed as soon as it ends, and then takes one that it cannot find any more for a success;
    so a step that failed quickly would count as done. Here a container is removed after its exit code was read.
    """
    from kfp.local import docker_task_handler
    from kfp.local.orchestrator import task_executor

    def run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **more: Any) -> int:
        closes = "exec-end" in command
        if stopping.is_set() and not closes:
            return 1
        client.api.timeout = None  # it would give up on a step that says nothing for a minute
        container = client.containers.run(image=image, command=command, detach=True, volumes=volumes, **more)
        try:
            for line in container.logs(stream=True, follow=True):
                text = line.decode(errors="replace")
                sys.stdout.write(text)
                if closes:
                    ending.heard(text)
            return int(container.wait()["StatusCode"])
        finally:
            container.remove(force=True)

    class _Time:
        """Its delay before another attempt ends at once when the run is stopped."""

        sleep = staticmethod(stopping.wait)

    docker_task_handler.run_docker_container = run
    task_executor.time = _Time


def _tell(folder: Path, state: str, note: str) -> None:
    temporary = folder / f".state.{os.getpid()}"
    temporary.write_text(json.dumps({"state": state, "note": note, "pid": os.getpid(), "at": time.time()}))
    os.replace(temporary, folder / "state.json")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
