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
from datetime import datetime, timezone
from typing import Any

VERSIONS = "2."
PAGE = 100
PARAMETERS = {"penstock_logical_time": "[[ScheduledTime.2006-01-02T15:04:05Z]]"}
_FROM = "; takes over from "


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
    return {"pipeline": pipeline, "version": found, "new": is_new, **_scheduled(client, request, pipeline, found)}


def _scheduled(client: Any, request: dict[str, Any], pipeline: str, version: str) -> dict[str, Any]:
    """The recurring run: the one that is there, where it is what is wanted; otherwise a new one in its place.

    A new one is made disabled, and is enabled when the older ones are not any more: so two never start runs at the same
    time. One that was disabled by hand is followed by one that is. The older ones go last: as long as they are there, a
    disabled one that takes over from them is one whose deployment was interrupted.
    """
    wanted = request["schedule"]
    there = [
        each
        for each in _all(client.list_recurring_runs, "recurring_runs", filter=_named(request["name"]))
        if each.display_name == request["name"]
    ]
    if wanted is None:
        for each in there:
            client.delete_recurring_run(each.recurring_run_id)
        return {"scheduled": "", "enabled": False}
    names = {each.recurring_run_id for each in there}
    enabled = not there or any(_is_enabled(each) or _takes_over(each) in names for each in there)
    kept = next((each for each in there if _is_wanted(each, request, version)), None)
    older = [each for each in there if each is not kept]
    if kept is None:
        kept = client.create_recurring_run(
            experiment_id=_experiment(client),
            job_name=request["name"],
            description=_described(request) + (f"{_FROM}{older[0].recurring_run_id}" if enabled and older else ""),
            cron_expression=wanted["cron"],
            start_time=_start(wanted, older),
            max_concurrency=wanted["most"],
            no_catchup=not wanted["catch_up"],
            params=PARAMETERS,
            pipeline_id=pipeline,
            version_id=version,
            enabled=enabled and not older,
            enable_caching=None,
        )
    for each in older:
        if _is_enabled(each):
            client.disable_recurring_run(each.recurring_run_id)
    if enabled and not _is_enabled(kept):
        client.enable_recurring_run(kept.recurring_run_id)
    for each in older:
        client.delete_recurring_run(each.recurring_run_id)
    return {"scheduled": kept.recurring_run_id, "enabled": enabled}


def _is_wanted(there: Any, request: dict[str, Any], version: str) -> bool:
    """Whether it starts the same runs. Its own start may be a later one, for it may have come in place of another: what
    was asked for stands in its description."""
    wanted, trigger, reference = request["schedule"], there.trigger, there.pipeline_version_reference
    cron = trigger.cron_schedule if trigger is not None else None
    return bool(
        cron is not None
        and reference is not None
        and reference.pipeline_version_id == version
        and cron.cron == wanted["cron"]
        and cron.end_time is None
        and int(there.max_concurrency or 0) == wanted["most"]
        and bool(there.no_catchup) == (not wanted["catch_up"])
        and (there.description or "").partition(_FROM)[0] == _described(request)
    )


def _described(request: dict[str, Any]) -> str:
    start = request["schedule"]["start"] or "its deployment"
    return f"made by penstock: version {request['version']}, from {start} on"


def _is_enabled(there: Any) -> bool:
    return bool(there.status != "DISABLED")


def _takes_over(there: Any) -> str:
    """The recurring run that it was made in place of, to be enabled then."""
    return (there.description or "").partition(_FROM)[2]


def _start(wanted: dict[str, Any], older: list[Any]) -> str | None:
    """From when on it counts; None, for Kubeflow, is the moment when it is made.

    Times that are over are for the first one to catch up on: what came before this one has run them. And without
    catching up, Kubeflow would still run the last of them.
    """
    if not wanted["start"]:
        return None
    now = datetime.now(timezone.utc)  # noqa: UP017 - the SDK's interpreter may be an older one
    is_first = all(_starts_after(now, each) for each in older)
    is_to_come = datetime.fromisoformat(wanted["start"].replace("Z", "+00:00")) > now
    return wanted["start"] if is_to_come or (wanted["catch_up"] and is_first) else None


def _starts_after(now: datetime, there: Any) -> bool:
    cron = there.trigger.cron_schedule if there.trigger is not None else None
    return cron is not None and cron.start_time is not None and cron.start_time > now


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
