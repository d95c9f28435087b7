"""Blueprints for these tests, without any project around them."""

from __future__ import annotations

from typing import Any

import yaml

from penstock.backends.kubeflow import KubeflowBackend
from penstock.core.canonical import digest_bytes
from penstock.graph import Graph, Node
from penstock.ports.backend import Blueprint


def graph(*nodes: Node, **more: Any) -> Graph:
    return Graph.checked(pipeline="churn", target="churn.py:churn", nodes=nodes, **more)


def plan(of: Graph, **more: Any) -> Blueprint:
    fields: dict[str, Any] = {
        "graph": of,
        "name": "churn",
        "digest": digest_bytes(of.to_json()),
        "manifest": "s3://lake/penstock/manifests/m.json",
        "root": "/home/me/churn",
        "python": "/home/me/churn/.venv/bin/python",
        "runs": "postgresql://ml@db/penstock",
        "artifacts": "s3://lake/penstock",
        "home": "/home/me/churn/.penstock",
        "image": "registry.example/churn:7",
        "source": "churn.py",
        "version": "1.0",
    }
    return Blueprint(**{**fields, **more})


def compiled(of: Graph, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two documents of the file: the specification, and what clusters must know."""
    bundle = KubeflowBackend().compile(plan(of, **more))
    documents = list(yaml.load_all(bundle.files[bundle.entry], getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return documents[0], documents[1] if len(documents) > 1 else {}


def tasks(of: Graph, dag: str = "steps", **more: Any) -> dict[str, Any]:
    return dict(compiled(of, **more)[0]["components"][f"comp-{dag}"]["dag"]["tasks"])


def container(of: Graph, task: str, **more: Any) -> dict[str, Any]:
    return dict(compiled(of, **more)[0]["deploymentSpec"]["executors"][f"exec-{task}"]["container"])
