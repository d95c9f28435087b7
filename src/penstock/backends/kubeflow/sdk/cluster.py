"""One question to a Kubeflow server through its SDK: a JSON request on stdin, a JSON answer as the last line of stdout.

    {"ask": "deploy", "endpoint": URL, "file": PATH, "name": …, "version": …, "schedule": {…} or null}
    {"ask": "submit", "endpoint": URL, "name": …, "version": …, "run": …, "arguments": {…}}
    {"ask": "cancel", "endpoint": URL, "run": ID}

Nothing of penstock is imported here. An answer is {"ok": …} or {"error": text, "kind": "version" | "away" | "refused"}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from typing import Any

VERSIONS = "2."
PAGE = 100


def main() -> int:
    request: dict[str, Any] = json.loads(sys.stdin.read())
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):  # the SDK prints links
        answer = answered(request)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def answered(request: dict[str, Any]) -> dict[str, Any]:
    try:
        import kfp
        import kfp_server_api
        import urllib3
    except ImportError as error:
        return {"kind": "version", "error": f"{sys.executable} has no Kubeflow SDK: {error}"}
    if not kfp.__version__.startswith(VERSIONS):
        return {"kind": "version", "error": f"{sys.executable} has kfp {kfp.__version__}, and penstock speaks 2"}
    try:
        client = kfp.Client(
            host=request["endpoint"],
            existing_token=os.environ.get("KFP_TOKEN"),
            namespace=os.environ.get("KFP_NAMESPACE", "kubeflow"),
        )
        return {"ok": ASKS[request["ask"]](client, request)}
    except kfp_server_api.ApiException as error:
        return {"kind": "refused", "error": f"{error.status} {error.reason}: {_reason(error.body)}"}
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return {"kind": "away", "error": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the answer
        return {"kind": "refused", "error": f"{type(error).__name__}: {error}"}


def deploy(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The pipeline, the version with this content, and its recurring run, each where it is not there yet."""
    name, version, file = request["name"], request["version"], request["file"]
    pipeline = client.get_pipeline_id(name)
    is_new = pipeline is None
    if is_new:
        pipeline = client.upload_pipeline(file, pipeline_name=name).pipeline_id
    found = version_id(client, pipeline, version)
    if found is None:
        found = client.upload_pipeline_version(file, version, pipeline_id=pipeline).pipeline_version_id
    scheduled = _scheduled(client, request, pipeline, found)
    return {"pipeline": pipeline, "version": found, "new": is_new, "scheduled": scheduled}


def _scheduled(client: Any, request: dict[str, Any], pipeline: str, version: str) -> str:
    """The recurring run: made before the ones of older versions are removed, so that there is always one."""
    wanted = request["schedule"]
    older = [
        each
        for each in _all(client.list_recurring_runs, "recurring_runs", filter=_named(request["name"]))
        if each.display_name == request["name"]
    ]
    kept = None
    if wanted is not None:
        kept = client.create_recurring_run(
            experiment_id=_experiment(client),
            job_name=request["name"],
            description=f"made by penstock: version {request['version']}",
            cron_expression=wanted["cron"],
            start_time=wanted["start"] or None,
            max_concurrency=wanted["most"],
            no_catchup=not wanted["catch_up"],
            params={"penstock_logical_time": "[[ScheduledTime.2006-01-02T15:04:05Z]]"},
            pipeline_id=pipeline,
            version_id=version,
            enable_caching=None,
        ).recurring_run_id
    for each in older:
        client.delete_recurring_run(each.recurring_run_id)
    return kept or ""


def submit(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    """A run under this name, unless there is one."""
    for run in _all(client.list_runs, "runs", filter=_named(request["run"])):
        if run.display_name == request["run"]:
            return {"id": run.run_id}
    pipeline = client.get_pipeline_id(request["name"])
    version = version_id(client, pipeline, request["version"]) if pipeline is not None else None
    if version is None:
        raise LookupError(f"there is no pipeline '{request['name']}' with version '{request['version']}'")
    run = client.run_pipeline(
        experiment_id=_experiment(client),
        job_name=request["run"],
        params=request["arguments"],
        pipeline_id=pipeline,
        version_id=version,
    )
    return {"id": run.run_id}


def cancel(client: Any, request: dict[str, Any]) -> dict[str, Any]:
    client.terminate_run(request["run"])
    return {}


ASKS = {"deploy": deploy, "submit": submit, "cancel": cancel}


def version_id(client: Any, pipeline: str, name: str) -> str | None:
    for each in _all(client.list_pipeline_versions, "pipeline_versions", pipeline_id=pipeline):
        if each.display_name == name:
            return str(each.pipeline_version_id)
    return None


def _experiment(client: Any) -> str:
    return str(client.create_experiment(name="penstock").experiment_id)  # the one that is there, if it is


def _named(name: str) -> str:
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


def _all(call: Any, field: str, **more: Any) -> Any:
    token = ""
    while True:
        page = call(page_token=token, page_size=PAGE, **more)
        yield from getattr(page, field) or ()
        token = page.next_page_token or ""
        if not token:
            return


def _reason(body: Any) -> str:
    try:
        return str(json.loads(body).get("error") or json.loads(body).get("message") or body)[:1000]
    except (TypeError, ValueError, AttributeError):
        return str(body)[:1000]


if __name__ == "__main__":
    sys.exit(main())
