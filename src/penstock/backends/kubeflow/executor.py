"""Inside a container: what Kubeflow hands to a command, and what the command tells Kubeflow when it is over.

The input is one JSON text, which takes the place of `{{$}}` on the command line; the answer is a file. Both as KFP's
`ExecutorInput` and `ExecutorOutput` have it. An artifact's bytes stay where the launcher put them: Kubeflow gets its
place, its digest and a few words, so that its own lineage is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ...core.errors import UsageError
from ...graph import Graph, Guard, Output, Parameter
from ...ports.artifacts import ArtifactRef
from ...ports.records import StepRun, StepState
from .conditions import Conditions
from .kinds import from_kubeflow
from .names import ENGINE_RUN, LOGICAL_TIME, RUN, STATE

_MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}  # where KFP's launcher looks for what it uploads
_METADATA_MOST = 700  # characters of one artifact: those of all inputs travel as one argument of the next command
_STATES = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELLED": "cancelled"}


class ExecutorInput:
    """What Kubeflow hands to a command. Raises UsageError where the text is not what it should be."""

    def __init__(self, text: str) -> None:
        try:
            record = msgspec.json.decode(text.encode(), type=dict[str, Any])
            inputs, outputs = record.get("inputs") or {}, record["outputs"]
            self._parameters: dict[str, Any] = inputs.get("parameterValues") or {}
            self._file = str(outputs["outputFile"])
            self._artifacts: dict[str, Any] = outputs.get("artifacts") or {}
            self._told = frozenset(outputs.get("parameters") or {})
            self.artifacts_url = ""  # of the store that the run's artifacts lie in; known when the run is joined
        except (msgspec.MsgspecError, KeyError, AttributeError, TypeError) as error:
            raise UsageError(
                f"--executor-input is not what Kubeflow hands to a container: {type(error).__name__}: {error}",
                hint="write --executor-input '{{$}}' in the pipeline's specification, and let Kubeflow fill it in",
            ) from error

    @property
    def run(self) -> str:
        """The run of ours that penstock made; "" where Kubeflow started it."""
        return str(self._parameters.get(RUN) or "")

    @property
    def engine_run(self) -> str:
        return str(self._parameters.get(ENGINE_RUN) or "")

    @property
    def logical_time(self) -> str:
        return str(self._parameters.get(LOGICAL_TIME) or "")

    @property
    def engine_state(self) -> str:
        """How Kubeflow says that the steps ended."""
        status = self._parameters.get(STATE)
        return _STATES.get(status.get("state", ""), "succeeded") if isinstance(status, dict) else "succeeded"

    def parameters(self, declared: Sequence[Parameter]) -> dict[str, Any]:
        """What the run was given, as plain values."""
        return from_kubeflow(declared, self._parameters)

    # -- the answer ----------------------------------------------------------------------------------------------

    def tell_list(self, paths: list[str]) -> None:
        self._write({"parameterValues": {"Output": paths}})

    def tell_step(self, graph: Graph, run: StepRun) -> None:
        """What became of an instance: an artifact for each output, and the conditions that look at it."""
        answer: dict[str, Any] = {}
        artifacts = {name: each for name in self._artifacts if (each := self._artifact(name, run))}
        if artifacts:
            answer["artifacts"] = artifacts
        if self._told:
            guards = Conditions(graph).on(run.step)
            outputs = graph.node(run.step).outputs
            answer["parameterValues"] = {
                key: "true" if key in guards and _holds(guards[key], run, outputs) else "false"
                for key in sorted(self._told)
            }
        self._write(answer)

    def _artifact(self, name: str, run: StepRun) -> dict[str, Any] | None:
        assigned = next(iter(self._artifacts[name].get("artifacts") or ()), None)
        if assigned is None:
            return None
        ref = run.outputs.get(name)
        uri, kind = str(assigned.get("uri", "")), assigned.get("type") or {}
        metadata: dict[str, Any] = {"state": run.state.value}
        if ref is not None:
            metadata |= _described(ref, kind.get("schemaTitle", ""), run.metrics)
            uri = self._placed(uri, ref, metadata)
        else:
            _put(uri, b"")
        return {
            "artifacts": [{"name": str(assigned.get("name") or name), "uri": uri, "metadata": metadata, "type": kind}]
        }

    def _placed(self, uri: str, ref: ArtifactRef, metadata: dict[str, Any]) -> str:
        """The artifact's URI. A small value that lies in the run log is written where Kubeflow wants its output. So is
        a pointer to larger ones, on a cluster: KFP's launcher uploads what lies at an output's URI, and fails for a
        bucket that is not its own."""
        if ref.inline is not None:
            _put(uri, ref.inline.encode())
            return uri
        place = _blob_url(self.artifacts_url, ref)
        if _is_local(uri):
            return place
        metadata["uri"] = place
        _put(uri, json.dumps({"uri": place, "digest": ref.digest, "codec": ref.codec}).encode())
        return uri

    def _write(self, answer: Mapping[str, Any]) -> None:
        _put(self._file, json.dumps(answer, ensure_ascii=False, allow_nan=False).encode())


def _described(ref: ArtifactRef, kind: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What people want to see of it, in few words. Of metrics, the numbers themselves."""
    found: dict[str, Any] = {"digest": ref.digest, "codec": ref.codec, "size_bytes": ref.size_bytes}
    if kind == "system.Metrics":
        found |= dict(_numbers(_value(ref)))
    found |= {f"metrics.{name}": value for name, value in _numbers(metrics)}
    for key in ("type", "rows"):
        if key in ref.meta and isinstance(ref.meta[key], str | int):
            found[key] = ref.meta[key]
    if isinstance(columns := ref.meta.get("columns"), list):
        found["schema"] = ", ".join(" ".join(str(part) for part in each) for each in columns if isinstance(each, list))
    return dict(_fitting(found))


def _fitting(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    left = _METADATA_MOST
    for name, value in found.items():
        shown = len(name) + len(str(value)) + 6
        if shown > left and isinstance(value, str) and left > 40:
            value, shown = f"{value[: left - 40]}…", left
        if shown <= left:
            left -= shown
            yield name, value


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            if isinstance(each, int | float) and not isinstance(each, bool) and abs(each) <= 1.7e308:  # no nan, no inf
                yield str(name), each


def _value(ref: ArtifactRef) -> Any:
    try:
        return json.loads(ref.inline or "null")
    except ValueError:
        return None


def _holds(guard: Guard, run: StepRun, outputs: tuple[str, ...]) -> bool:
    """Whether the value that a condition looks at is what it wants. One that is no small JSON never is."""
    field = (isinstance(guard.value, Output) and guard.value.field) or outputs[0]
    ref = run.outputs.get(field) if run.state in (StepState.SUCCEEDED, StepState.CACHED) else None
    return ref is not None and ref.inline == guard.equals


def _blob_url(store_url: str, ref: ArtifactRef) -> str:
    """Where its bytes lie; of an artifact of several files, the first."""
    first = ref.blobs[0].digest if ref.blobs else ref.digest
    return f"{store_url.rstrip('/')}/objects/{first[:2]}/{first[2:]}"


def _is_local(uri: str) -> bool:
    return "://" not in uri


def _put(uri: str, content: bytes) -> None:
    """Write a file where Kubeflow takes it from. Whoever started the local runner may remove it again."""
    path = next((mount + uri.removeprefix(scheme) for scheme, mount in _MOUNTS.items() if uri.startswith(scheme)), uri)
    if "://" in path or not path:
        return
    folder = os.path.dirname(path)
    before = os.umask(0)
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    finally:
        os.umask(before)
