"""Asks an engine's REST API on this machine: JSON there, JSON back."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from .places import EngineError

# No proxy from the environment stands between us and our own loopback address.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(EngineError):
    """The server answered, with an error."""

    def __init__(self, problem: str, status: int) -> None:
        super().__init__(problem)
        self.status = status


def ask(
    method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None, *, timeout: float = 60
) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})}, method=method)
    try:
        with _opener.open(request, timeout=timeout) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        raise Refused(f"{method} {url}: {error.code} {error.reason}\n{said}", error.code) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise EngineError(f"{method} {url}: {error}") from error
    return json.loads(text) if text else None


def answers(url: str) -> bool:
    """Whether the server answers this address without an error."""
    try:
        ask("GET", url, timeout=5)
    except (EngineError, ValueError):
        return False
    return True
