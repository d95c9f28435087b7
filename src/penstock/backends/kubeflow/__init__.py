"""Kubeflow Pipelines 2: the pipeline as IR YAML, with Kubeflow's own artifacts, retries, maps and conditions.

Every task is a container that runs one of penstock's engine commands, so that what a step means is decided by the
launcher and is the same everywhere. Only the standard library is needed here: the SDK (`kfp`) stays in an interpreter
of its own (`engine_python`), which is asked to upload, start and watch. Knows graph, ports and core; never a store.
"""

from .backend import KubeflowBackend

__all__ = ["KubeflowBackend"]
