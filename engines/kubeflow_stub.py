"""A stub of the Kubeflow API server: the calls that penstock makes through the real SDK, kept in memory.

It is no Kubeflow: it starts no container, and answers only what is asked here. It is there because no server can run
on a machine without Kubernetes, so that at least what goes over the wire is tried; results with it are not shown as
results of a cluster.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Stub:
    """What was told to it."""

    def __init__(self) -> None:
        self.url = ""
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.recurring: list[dict[str, Any]] = []
        self.terminated: list[str] = []
        self.tokens: set[str | None] = set()
        self.refuses = ""  # a text: every answer is an error that says so
        self.breaks = ""  # ":enable", "DELETE recurringruns": such a call is an error, and does nothing
        self.most_enabled: dict[str, int] = {}  # recurring runs of one name that were enabled at the same time

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        path = path.removeprefix("/apis/v2beta1")
        made = {"created_at": "2026-11-27T03:00:00Z"}
        match method, path.strip("/").split("/"):
            case "GET", ["healthz"]:
                return {"multi_user": False}
            case "POST", ["pipelines", "upload"]:
                pipeline = {"pipeline_id": str(uuid.uuid4()), "display_name": query["name"][0], **made}
                self.pipelines.append(pipeline)
                return pipeline
            case "POST", ["pipelines", "upload_version"]:
                version = {
                    "pipeline_id": query["pipelineid"][0], "pipeline_version_id": str(uuid.uuid4()),
                    "display_name": query["name"][0], "text": body, **made,
                }  # fmt: skip
                self.versions.append(version)
                return {name: value for name, value in version.items() if name != "text"}
            case "GET", ["pipelines"]:
                return {"pipelines": _wanted(self.pipelines, query)}
            case "GET", ["pipelines", pipeline_id, "versions"]:
                found = [each for each in self.versions if each["pipeline_id"] == pipeline_id]
                return {"pipeline_versions": [{k: v for k, v in each.items() if k != "text"} for each in found]}
            case "GET", ["experiments"]:
                return {"experiments": _wanted(self.experiments, query)}
            case "POST", ["experiments"]:
                self.experiments.append({"experiment_id": str(uuid.uuid4()), **body})
                return self.experiments[-1]
            case "GET", ["runs"]:
                return {"runs": _wanted(self.runs, query)}
            case "POST", ["runs"]:
                self.runs.append({"run_id": str(uuid.uuid4()), "state": "PENDING", **body})
                return self.runs[-1]
            case "GET", ["runs", run_id]:
                return next(each for each in self.runs if each["run_id"] == run_id)
            case "POST", ["runs", told] if told.endswith(":terminate"):
                self.terminated.append(told.removesuffix(":terminate"))
                return {}
            case "GET", ["recurringruns"]:
                return {"recurringRuns": _wanted(self.recurring, query)}
            case "POST", ["recurringruns"]:
                _check_recurring(body)
                recurring = {"recurring_run_id": str(uuid.uuid4()), **made, **body}
                self._switch(recurring, enabled=body.get("mode") == "ENABLE")
                self.recurring.append(recurring)
                self._count(recurring["display_name"])
                return recurring
            case "POST", ["recurringruns", told]:
                run_id, _, verb = told.partition(":")
                recurring = next(each for each in self.recurring if each["recurring_run_id"] == run_id)
                self._switch(recurring, enabled={"enable": True, "disable": False}[verb])
                self._count(recurring["display_name"])
                return {}
            case "DELETE", ["recurringruns", run_id]:
                self.recurring = [each for each in self.recurring if each["recurring_run_id"] != run_id]
                return {}
        raise LookupError(f"the stub knows no {method} {path}")

    def _switch(self, recurring: dict[str, Any], *, enabled: bool) -> None:
        recurring["mode"] = "ENABLE" if enabled else "DISABLE"
        recurring["status"] = "ENABLED" if enabled else "DISABLED"

    def _count(self, name: str) -> None:
        enabled = [each for each in self.recurring if (each["display_name"], each["status"]) == (name, "ENABLED")]
        self.most_enabled[name] = max(self.most_enabled.get(name, 0), len(enabled))

    def is_broken(self, method: str, path: str) -> bool:
        return bool(self.breaks) and (path.endswith(self.breaks) or f"{method} {path}".startswith(self.breaks))


def _check_recurring(body: dict[str, Any]) -> None:
    """What the API server refuses of a recurring run. Raises ValueError."""
    if not 1 <= int(body["max_concurrency"]) <= 10:
        raise ValueError(f"max concurrency must be at least 1 and at most 10, not {body['max_concurrency']}")
    schedule = body["trigger"]["cron_schedule"]
    fields = schedule["cron"].split()
    if len(fields) != 6:
        raise ValueError(f"the stub takes six fields of cron, seconds first, not {schedule['cron']!r}")
    for part in fields[5].split(","):
        if "7" in re.split("[-/]", part)[: 2 if "-" in part else 1]:
            raise ValueError(f"cron {schedule['cron']!r}: end of range (7) above maximum (6): {part}")
    for name in ("start_time", "end_time"):
        if (moment := schedule.get(name)) is not None and not _RFC_3339.fullmatch(moment):
            raise ValueError(f"{name} {moment!r} is no RFC 3339")


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def _wanted(kept: list[dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
    if "filter" not in query:
        return kept
    (predicate,) = json.loads(query["filter"][0])["predicates"]
    name = predicate.get("stringValue", predicate.get("string_value"))
    return [each for each in kept if each["display_name"] == name]


@contextmanager
def server() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            split = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(split.query)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stub.tokens.add(self.headers.get("Authorization"))
            if "multipart" in (self.headers.get("Content-Type") or ""):
                body: Any = _file_in(raw)
            else:
                body = json.loads(raw) if raw else None
            code, said = 200, None
            try:
                if stub.refuses and not split.path.endswith("/healthz"):
                    code, said = 403, {"error": stub.refuses}
                elif stub.is_broken(self.command, split.path.removeprefix("/apis/v2beta1/")):
                    code, said = 500, {"error": "the stub was told to break here"}
                else:
                    said = stub.answer(self.command, split.path, query, body)
            except (LookupError, StopIteration) as error:
                code, said = 404, {"error": str(error)}
            except ValueError as error:
                code, said = 400, {"error": str(error)}
            text = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _answer  # the names that http.server looks for

        def log_message(self, *words: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield stub
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _file_in(raw: bytes) -> str:
    """The one file of a form."""
    found = re.search(rb"\r\n\r\n(.*?)\r\n--", raw, re.DOTALL)
    return found[1].decode() if found else ""
