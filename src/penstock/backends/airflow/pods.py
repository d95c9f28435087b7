"""Steps in containers: what the Docker and Kubernetes forms of a DAG file say of their image and its resources."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ...core.errors import ConfigError
from ...core.units import kubernetes_quantity
from ...graph import Graph, LimitPolicy, ResourceRequest, StepOptions
from ...graph.secrets import secret_names
from ...ports.backend import Blueprint
from .literals import statement

GPU = "nvidia.com/gpu"
_OVERHEAD_BYTES = 256 << 20  # the launcher beside a step that is held to its own limit
# Of the worker's environment, what a container gets besides the secrets and the variables that steps name.
_PASSED = (
    "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "PENSTOCK_ARTIFACTS", "PENSTOCK_RUNS", "PENSTOCK_TRACKING", "PGPASSWORD",
)  # fmt: skip


def check_container(blueprint: Blueprint, form: str) -> None:
    """Refuse what no container could reach: an image that is not named, stores on a disk of this machine."""
    problems: list[str] = []
    if not blueprint.image:
        problems.append("no image is named")
    if not blueprint.manifest:
        problems.append("the manifest is a file beside the DAG")
    for what, place in (("run log", blueprint.runs), ("artifact store", blueprint.artifacts)):
        scheme = urlsplit(place).scheme
        if scheme in ("", "file", "sqlite"):
            problems.append(f"the {what} is on this machine's disk ({place or 'the default'})")
    if problems:
        raise ConfigError(
            f"steps of '{blueprint.name}' cannot run in {form} containers: {'; '.join(problems)}",
            hint='name in the profile: image = "registry.example/churn:1", runs = "postgresql://…", artifacts = "s3://…"',
        )


def container_constants(blueprint: Blueprint, form: str) -> list[str]:
    command = ["python", "-P", "-m", "penstock"]
    lines = [statement(blueprint.image, head="IMAGE = "), statement(command, head="COMMAND = ")]
    if form == "docker":
        names = tuple(sorted({*_PASSED, *secret_names(blueprint.graph), *_variables(blueprint.graph)}))
        lines += ["# of the worker's environment, what a container gets", statement(names, head="PASSED = ")]
        lines.append(statement(blueprint.network, head="NETWORK = ") if blueprint.network else "NETWORK = None")
    else:
        secret = statement(blueprint.secret or "penstock", head="SECRET = ")
        lines += ["# of Kubernetes, where there is one: its keys are variables of every step", secret]
        lines.append(statement(blueprint.accelerator or GPU, head="ACCELERATOR = "))
    return lines


def container_options(options: StepOptions, form: str) -> dict[str, Any]:
    """Resources and limits in the words of the container's engine."""
    wanted, limits = options.resources or ResourceRequest(), options.limits or LimitPolicy()
    most = _most_memory(limits)
    found: dict[str, Any] = {}
    if form == "docker":
        if wanted.gpu:
            found["gpus"] = wanted.gpu
        if most is not None:
            found["mem_limit"] = most
        return found
    if wanted.cpu is not None:
        found["cpu"] = wanted.cpu
    if wanted.memory_bytes is not None:
        found["memory"] = kubernetes_quantity(wanted.memory_bytes)
    if wanted.gpu:
        found["gpu"] = wanted.gpu
    if most is not None:
        found["memory_limit"] = kubernetes_quantity(most)
    return {"needs": found} if found else {}


def _most_memory(limits: LimitPolicy) -> int | None:
    """The container's limit: what the launcher may ever allow the step, and room for the launcher itself.

    Without that room the kernel strikes first, and takes the launcher along before it has recorded why. A limit that
    grows after an attempt that went over it is the launcher's; the container's is where that ends.
    """
    most = limits.memory_bytes
    if most is not None and limits.on_out_of_memory is not None:
        most = limits.on_out_of_memory.cap_bytes
    return None if most is None else most + _OVERHEAD_BYTES


def _variables(graph: Graph) -> set[str]:
    return {name for node in graph.nodes for name in node.options.env}
