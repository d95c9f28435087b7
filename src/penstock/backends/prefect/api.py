"""Prefect's REST API, as far as a deployment needs it. The standard library is enough, so Prefect need not be here."""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from ...core.errors import BackendError

DEFAULT = "http://127.0.0.1:4200/api"
_TIMEOUT_S = 20.0
_BUSY_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each further try
_MAJOR = "3"


class NotThere(BackendError):
    """Prefect knows no such thing (404)."""


class AlreadyThere(BackendError):
    """Somebody else has made it just now (409)."""


class _Busy(BackendError):
    """Prefect cannot answer at the moment (429, 502, 503)."""


class Api:
    """One server. Raises BackendError with the fix where it cannot be reached, refuses, or is no Prefect 3."""

    def __init__(self, endpoint: str, environment: Mapping[str, str]) -> None:
        self.url = (endpoint or environment.get("PREFECT_API_URL") or DEFAULT).rstrip("/")
        self._headers = {"Content-Type": "application/json", **_credentials(environment)}

    @property
    def ui(self) -> str:
        """Where people look at it."""
        return self.url.removesuffix("/api")

    def check_version(self) -> None:
        try:
            version = self.get("/admin/version")
        except NotThere:
            return  # Prefect Cloud, which does not tell
        if not str(version).startswith(f"{_MAJOR}."):
            raise BackendError(
                f"{self.url} is a Prefect {version} server; penstock speaks to Prefect {_MAJOR}",
                hint=f"upgrade the server: pip install 'prefect>={_MAJOR},<{int(_MAJOR) + 1}'",
            )

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, content: Mapping[str, Any]) -> Any:
        return self._ask("POST", path, content)

    def put(self, path: str, content: Mapping[str, Any]) -> Any:
        return self._ask("PUT", path, content)

    def delete(self, path: str) -> Any:
        return self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, content: Mapping[str, Any] | None) -> Any:
        """Once more where the server is busy; nothing that is asked here does harm when it is done twice."""
        for delay in _BUSY_S:
            try:
                return self._asked(method, path, content)
            except _Busy:
                threading.Event().wait(delay)
        return self._asked(method, path, content)

    def _asked(self, method: str, path: str, content: Mapping[str, Any] | None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, body, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return _parsed(answer.read(), self.url)
        except urllib.error.HTTPError as error:
            raise self._refused(method, path, error) from error
        except (OSError, ValueError) as error:  # refused, no such host, timed out; or no URL at all
            reason = getattr(error, "reason", error)
            raise BackendError(
                f"the Prefect server at {self.url} cannot be reached: {reason}",
                hint="start it with `prefect server start`, or set `endpoint` (or PREFECT_API_URL) to where it is",
            ) from error

    def _refused(self, method: str, path: str, error: urllib.error.HTTPError) -> BackendError:
        detail = error.read().decode(errors="replace")
        told = f"Prefect at {self.url} answered {method} {path} with {error.code}: {_detail(detail)}"
        if error.code == 404:
            return NotThere(told, hint="is `endpoint` the URL of its API? It ends with /api")
        if error.code == 409:
            return AlreadyThere(told)
        if error.code in (401, 403):
            return BackendError(told, hint="set PREFECT_API_KEY, or PREFECT_API_AUTH_STRING, in the environment")
        if error.code in (429, 502, 503):
            return _Busy(told, hint="look at the server's log, and try again when it is less busy")
        return BackendError(told)


def _credentials(environment: Mapping[str, str]) -> dict[str, str]:
    if key := environment.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if text := environment.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
    return {}


def _parsed(content: bytes, url: str) -> Any:
    if not content:
        return None
    try:
        return json.loads(content)
    except ValueError:
        raise BackendError(
            f"what answers at {url} is no Prefect API", hint="its URL ends with /api, as `prefect config view` shows it"
        ) from None


def _detail(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return text[:300]
    detail = found.get("detail") or found.get("exception_message") or found if isinstance(found, dict) else found
    return detail if isinstance(detail, str) else json.dumps(detail)[:300]


def quoted(text: str) -> str:
    """A name as a part of a URL's path."""
    return urllib.parse.quote(text, safe="")
