"""Steps in containers: what the Docker and Kubernetes forms of a DAG file say of their image and its resources."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ...core.errors import ConfigError
from ...graph import Argument, Graph, LimitPolicy, Many, ResourceRequest, Secret, StepOptions
from ...graph import Mapping as MappingArgument
from ...ports.backend import Blueprint
from .literals import statement

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
        names = tuple(sorted({*_PASSED, *_secrets(blueprint.graph), *_variables(blueprint.graph)}))
        lines += ["# of the worker's environment, what a container gets", statement(names, head="PASSED = ")]
    else:
        lines.append('SECRET = "penstock"  # of Kubernetes, where there is one: its keys are variables of every step')
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
        found["memory"] = _quantity(wanted.memory_bytes)
    if wanted.gpu:
        found["gpu"] = wanted.gpu
    if most is not None:
        found["memory_limit"] = _quantity(most)
    return {"needs": found} if found else {}


def _most_memory(limits: LimitPolicy) -> int | None:
    """A limit that grows after an attempt that went over it is the launcher's; the container's is where that ends."""
    if limits.memory_bytes is None or limits.on_out_of_memory is None:
        return limits.memory_bytes
    return limits.on_out_of_memory.cap_bytes


def _quantity(size_bytes: int) -> str:
    """As Kubernetes writes it.

    >>> _quantity(8 * 2**30), _quantity(1500)
    ('8Gi', '1500')
    """
    for power, unit in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size_bytes >= 1 << power and size_bytes % (1 << power) == 0:
            return f"{size_bytes >> power}{unit}"
    return str(size_bytes)


def _secrets(graph: Graph) -> set[str]:
    found: set[str] = set()
    hidden = {each.name: each.default for each in graph.parameters if each.secret}
    found |= {text.strip('"').removeprefix("secret:") for text in hidden.values() if text}
    for node in graph.nodes:
        for argument in node.inputs.values():
            found |= _secret_names(argument)
    return found


def _secret_names(argument: Argument) -> set[str]:
    match argument:
        case Secret(name):
            return {name}
        case Many(items) | MappingArgument(_, items):
            return {name for each in items for name in _secret_names(each)}
        case _:
            return set()


def _variables(graph: Graph) -> set[str]:
    return {name for node in graph.nodes for name in node.options.env}
