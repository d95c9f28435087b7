"""What a task's container runs, and what it asks of the cluster."""

from __future__ import annotations

from typing import Any

from ...core.units import kubernetes_quantity
from ...graph import Node
from ...graph.secrets import secret_names
from ...ports.backend import Blueprint

_OVERHEAD_BYTES = 256 << 20  # the launcher beside a step that is held to its own limit
_GPU = "nvidia.com/gpu"


def executor(blueprint: Blueprint, command: list[str], node: Node | None = None) -> dict[str, Any]:
    """One container. `-P`: the folder that it starts in is no place to import from."""
    verb, *flags = command
    container: dict[str, Any] = {
        "image": blueprint.image,
        "command": ["python", "-P", "-m", "penstock", verb],
        "args": [
            "--manifest",
            blueprint.manifest,
            "--digest",
            blueprint.digest,
            "--engine",
            "kubeflow",
            *flags,
            "--executor-input",
            "{{$}}",
        ],
    }
    if node is not None and (resources := _resources(node, blueprint.accelerator or _GPU)):
        container["resources"] = resources
    return {"container": container}


def _resources(node: Node, accelerator: str) -> dict[str, Any]:
    asked, limits = node.options.resources, node.options.limits
    found: dict[str, Any] = {}
    if asked is not None and asked.cpu is not None:
        found["resourceCpuRequest"] = f"{asked.cpu:g}"
    if asked is not None and asked.memory_bytes is not None:
        found["resourceMemoryRequest"] = kubernetes_quantity(asked.memory_bytes)
    if limits is not None and limits.memory_bytes is not None:
        most = limits.memory_bytes
        if limits.on_out_of_memory is not None:  # a container's limit is the same for every attempt
            attempts = node.options.retry.attempts if node.options.retry is not None else 1
            most = limits.on_out_of_memory.of(most, attempts - 1)
        found["resourceMemoryLimit"] = kubernetes_quantity(most + _OVERHEAD_BYTES)
    if asked is not None and asked.gpu:
        found["accelerator"] = {
            "type": accelerator,
            "count": str(asked.gpu),
            "resourceType": accelerator,
            "resourceCount": str(asked.gpu),
        }
    return found


def platform(blueprint: Blueprint, steps: dict[str, Node | None]) -> dict[str, Any]:
    """The second document, for clusters: which Kubernetes secret containers get their variables from, never a value.

    steps: the label of each executor -> its step.
    """
    executors: dict[str, Any] = {}
    for label, node in steps.items():
        names = [*_of_stores(blueprint), *(sorted(secret_names(blueprint.graph, node)) if node is not None else ())]
        if names:
            keys = [{"secretKey": name, "envVar": name} for name in names]
            secret = blueprint.secret or "penstock"
            executors[label] = {"secretAsEnv": [{"secretName": secret, "optional": True, "keyToEnv": keys}]}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}} if executors else {}


def environment_names(blueprint: Blueprint) -> list[str]:
    """Variables that containers on this machine are given, where it has them: there is no Kubernetes secret here."""
    found = secret_names(blueprint.graph) | {name for node in blueprint.graph.nodes for name in node.options.env}
    found |= {f"PENSTOCK_{name}" for name in ("RUNS", "ARTIFACTS", "TRACKING")}
    return sorted({*found, *_of_stores(blueprint), "AWS_DEFAULT_REGION", "AWS_REGION"})


def _of_stores(blueprint: Blueprint) -> list[str]:
    """What the libraries of the stores look for. Each is taken where the secret has it."""
    found = ["PGPASSWORD"] if blueprint.runs.startswith("postgres") else []
    if blueprint.artifacts.startswith("s3:"):
        found += ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"]
    return found
