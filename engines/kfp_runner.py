"""Runs a compiled pipeline under kfp.local and writes what came of it as JSON. A script for Kubeflow's own Python.

kfp.local keeps no record of its tasks: it is asked as it goes. Two of its functions are wrapped to count attempts and
keep states, and one is replaced, because with podman's socket the shipped one now and then calls a container that
failed a success (it lets the container remove itself, and takes "not found" for "ended well").
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import docker
from kfp import components, dsl, local
from kfp.local import docker_task_handler, status, task_dispatcher
from kfp.local.orchestrator import task_executor

tasks: list[dict[str, Any]] = []
attempts = threading.local()


def main(request_file: str, result_file: str) -> None:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    folder = Path(request["folder"])
    _watch_tasks()
    docker_task_handler.run_docker_container = _run_container
    mounts = [docker.types.Mount(each, each, "bind") for each in request["mounts"]]
    label, _, value = request["label"].partition("=")
    options = {"labels": {label: value}, "network_mode": "host", "environment": request["environment"]}
    options |= {"mounts": mounts} if mounts else {}
    options |= {"user": request["user"]} if request["user"] else {}
    local.init(
        runner=local.DockerRunner(**options), pipeline_root=str(folder / "outputs"),
        workspace_root=str(folder / "workspace"), raise_on_error=True,
    )  # fmt: skip
    (folder / "workspace").mkdir(exist_ok=True)
    pipeline = components.load_component_from_file(request["pipeline"])
    found: dict[str, Any] = {"state": "SUCCESS", "error": None, "outputs": {}, "tasks": tasks}
    try:
        found["outputs"] = _plain(pipeline(**request["arguments"]).outputs)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the result
        found |= {"state": "FAILURE", "error": f"{type(error).__name__}: {error}"}
    Path(result_file).write_text(json.dumps(found, default=str), encoding="utf-8")


def _watch_tasks() -> None:
    run_once, run_task = task_dispatcher.run_single_task_implementation, task_executor.execute_single_task

    def counted(*arguments: Any, **named: Any) -> Any:
        attempts.made = getattr(attempts, "made", 0) + 1
        return run_once(*arguments, **named)

    def recorded(**named: Any) -> Any:
        attempts.made = 0
        task: dict[str, Any] = {"name": named["task_name"], "state": "FAILURE", "outputs": {}, "started": time.time()}
        try:
            outputs, state = run_task(**named)
            task |= {"state": "SUCCESS" if state == status.Status.SUCCESS else "FAILURE", "outputs": _plain(outputs)}
        finally:
            task |= {"attempts": attempts.made, "ended": time.time()}
            tasks.append(task)
        return outputs, state

    task_dispatcher.run_single_task_implementation = counted
    task_executor.execute_single_task = recorded


def _run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
    name = docker_task_handler.add_latest_tag_if_not_present(image)
    container = client.containers.run(image=name, command=command, detach=True, volumes=volumes, **options)
    try:
        for line in container.logs(stream=True, follow=True):
            print(line.decode(errors="replace"), end="", flush=True)
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def _plain(outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"name": value.name, "uri": value.uri, "type": value.schema_title, "metadata": dict(value.metadata)}
        if isinstance(value, dsl.Artifact)
        else value
        for name, value in outputs.items()
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
