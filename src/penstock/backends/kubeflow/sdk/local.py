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
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.set())
    _tell(folder, "running", "")
    try:
        _run(folder, request, stopping)
    except Exception as error:
        text = str(error).strip()
        # The failure of a step is told in the run log, by the step itself; this is what else went wrong.
        is_ours = isinstance(error, RuntimeError) and "finished with status" in text
        _tell(folder, "failed", "" if is_ours else f"{type(error).__name__}: {text[-2000:]}")
        raise
    _tell(folder, "succeeded", "")
    return 0


def _run(folder: Path, request: dict[str, Any], stopping: threading.Event) -> None:
    import kfp
    from kfp import components, local

    if not kfp.__version__.startswith(VERSIONS + "."):
        raise ImportError(f"kfp {kfp.__version__} is installed, and penstock runs kfp.local of {VERSIONS}")
    warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
    root = folder / "outputs"
    root.mkdir(exist_ok=True)
    root.chmod(0o777)  # a container's user is another one; the folder above lets nobody else in
    _mend(stopping)
    local.init(
        runner=local.DockerRunner(
            environment={name: os.environ[name] for name in request["environment"] if name in os.environ},
            labels={"penstock.run": request["run"]},
            network_mode="host",  # the stores are where they are for this machine
        ),
        pipeline_root=str(root),
    )
    pipeline = components.load_component_from_file(request["pipeline"])
    pipeline(**request["arguments"])


def _mend(stopping: threading.Event) -> None:
    """Keep kfp.local from calling a failed container a success, and let a stop be heard.

    It has each container removed as soon as it ends, and then takes one that it cannot find any more for a success;
    so a step that failed quickly would count as done. Here a container is removed after its exit code was read.
    """
    from kfp.local import docker_task_handler
    from kfp.local.orchestrator import task_executor

    def run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **more: Any) -> int:
        if stopping.is_set() and "exec-end" not in command:  # which closes the run
            return 1
        container = client.containers.run(image=image, command=command, detach=True, volumes=volumes, **more)
        try:
            for line in container.logs(stream=True, follow=True):
                sys.stdout.write(line.decode(errors="replace"))
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
