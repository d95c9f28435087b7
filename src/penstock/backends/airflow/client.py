"""Airflow's REST API (v2), in the few requests that penstock makes. Errors name the endpoint, and what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ...core.errors import BackendError, ConfigError
from ...ports.backend import Places

_PATIENCE_S = 30.0
_tokens: dict[tuple[str, str], str] = {}  # (endpoint, user) -> what Airflow gave for the password
_lock = threading.Lock()


class Refused(Exception):
    """Airflow answered, and said no."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class Client:
    """Requests to one Airflow."""

    def __init__(self, places: Places) -> None:
        if not places.endpoint:
            raise ConfigError(
                "where is Airflow? No endpoint is set",
                hint='write endpoint = "http://localhost:8080" into the profile, or set PENSTOCK_ENDPOINT',
            )
        self.endpoint = places.endpoint.rstrip("/")
        self._token = places.environment.get("AIRFLOW_TOKEN", "")
        self._user = places.environment.get("AIRFLOW_USER", "")
        self._password = places.environment.get("AIRFLOW_PASSWORD", "")

    # -- requests ------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> Any:
        return self.ask("GET", path, query=query)

    def find(self, path: str) -> Any:
        """What is there, or None."""
        try:
            return self.get(path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def ask(self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
        """The answer to a request of the API. Raises Refused for 4xx, BackendError where nothing can be had."""
        url = f"{self.endpoint}/api/v2{path}"
        if query:
            url += "?" + "&".join(f"{name}={quote(text)}" for name, text in query.items())
        try:
            return self._sent(method, url, body, self._bearer())
        except Refused as refused:
            if refused.status == 401 and not self._token:  # the token may be an old one: once more, with a new one
                return self._sent(method, url, body, self._bearer(anew=True), last=True)
            if refused.status in (401, 403):
                raise self._unwelcome(refused) from refused
            raise

    def check_version(self) -> str:
        """Airflow's version. Raises BackendError for one that cannot read what is written for Airflow 3."""
        try:
            found = self._sent("GET", f"{self.endpoint}/api/v2/version", None, "")
            version = str(found["version"])
        except (Refused, KeyError, TypeError) as error:
            raise BackendError(
                f"{self.endpoint} does not answer like Airflow 3 ({error})",
                hint="Airflow 2 has another API and cannot read these files: use Airflow 3, or correct the endpoint",
            ) from error
        if version.partition(".")[0] != "3":
            raise BackendError(
                f"{self.endpoint} is Airflow {version}; penstock writes for Airflow 3",
                hint="upgrade Airflow, or name another endpoint",
            )
        return version

    # -- inside --------------------------------------------------------------------------------------------------

    def _bearer(self, *, anew: bool = False) -> str:
        if self._token:
            return self._token
        key = (self.endpoint, self._user)
        with _lock:
            if anew or key not in _tokens:
                _tokens[key] = self._new_token()
            return _tokens[key]

    def _new_token(self) -> str:
        url = f"{self.endpoint}/auth/token"
        try:
            if self._user:
                answer = self._sent("POST", url, {"username": self._user, "password": self._password}, "")
            else:
                answer = self._sent("GET", url, None, "")  # an Airflow where everybody is an administrator
            return str(answer["access_token"])
        except (Refused, KeyError, TypeError) as error:
            raise self._unwelcome(error) from error

    def _unwelcome(self, error: Exception) -> BackendError:
        who = "the token in AIRFLOW_TOKEN" if self._token else f"user '{self._user}'" if self._user else "nobody"
        return BackendError(
            f"Airflow at {self.endpoint} does not let {who} in ({error})",
            hint="set AIRFLOW_TOKEN, or AIRFLOW_USER and AIRFLOW_PASSWORD, of somebody who may deploy and run DAGs",
        )

    def _sent(self, method: str, url: str, body: Any, token: str, *, last: bool = False) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = Request(url, json.dumps(body).encode() if body is not None else None, headers, method=method)
        try:
            with urlopen(request, timeout=_PATIENCE_S) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except HTTPError as error:
            refused = Refused(error.code, _detail(error))
            if error.code >= 500:
                raise BackendError(
                    f"Airflow at {self.endpoint} failed: {refused}", hint="see the log of its API server"
                ) from error
            if last and error.code in (401, 403):
                raise self._unwelcome(refused) from error
            raise refused from error
        except (URLError, OSError) as error:
            raise BackendError(
                f"Airflow at {self.endpoint} cannot be reached: {getattr(error, 'reason', error)}",
                hint="is its API server running? The profile's `endpoint` says where penstock looks",
            ) from error
        except ValueError as error:
            raise BackendError(
                f"{self.endpoint} does not answer like Airflow: {error}", hint="correct the profile's `endpoint`"
            ) from error


def named(*parts: str) -> str:
    """A path whose parts may hold anything: run ids have plus signs and colons.

    >>> named("dags", "churn", "dagRuns", "manual__2026-11-27T03:00:00+00:00")
    '/dags/churn/dagRuns/manual__2026-11-27T03%3A00%3A00%2B00%3A00'
    """
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _detail(error: HTTPError) -> str:
    try:
        found = json.loads(error.read()).get("detail", "")
    except (ValueError, OSError, AttributeError):
        found = ""
    if isinstance(found, list):  # what pydantic says of a body
        found = "; ".join(str(each.get("msg", each)) for each in found)
    return str(found) or error.reason
