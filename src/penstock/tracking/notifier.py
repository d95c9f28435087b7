"""Telling somebody outside, by the standard library: a webhook by HTTP, a command by its standard input.

Addresses are secrets more often than not: what is shown, recorded or raised names a webhook's host and a command's
program, and nothing else of them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import NotificationError, NotificationUnavailableError
from ..ports.effects import Notification

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # the receiver says: not now
_ANSWER_BYTES = 64 * 1024  # read and dropped, so that the receiver is not cut off while it answers


class OutsideNotifier:
    """The Notifier of a run. It tries once: whether another attempt follows is the engine's to say."""

    def send(self, to: str, body: bytes, *, key: str, timeout_s: float) -> Notification:
        if to.startswith(("http://", "https://")):
            return _post(to, body, key, timeout_s)
        if to.startswith("command:"):
            return _command(to.removeprefix("command:"), body, key, timeout_s)
        raise NotificationError(
            "nobody can be told at this address: it begins with none of http://, https://, command: and log:",
            hint='notify(…, to=Secret("HOOK_URL")) keeps a webhook\'s address out of the run log',
        )


def _post(url: str, body: bytes, key: str, timeout_s: float) -> Notification:
    import http.client
    import urllib.error
    import urllib.request

    place = _shown_url(url)
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "penstock"}
    failed: tuple[type[NotificationError], str, str] | None = None
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with _opener().open(request, timeout=timeout_s) as answer:
            answer.read(_ANSWER_BYTES)
            return Notification(place, key, f"{answer.status} {answer.reason}".strip())
    except urllib.error.HTTPError as error:
        with error:
            status = f"{error.code} {error.reason}"
        if error.code in _PASSING:
            failed = NotificationUnavailableError, f"{place} answered {status}", "another attempt may succeed"
        elif 300 <= error.code < 400:
            hint = "give the address that it sends to: a POST is not sent on, it could arrive twice or as a GET"
            failed = NotificationError, f"{place} answered {status}", hint
        else:
            failed = NotificationError, f"{place} answered {status}", "check the address and what it expects"
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        slow = isinstance(reason, TimeoutError)
        said = f"no answer in {timeout_s:g} s" if slow else getattr(reason, "strerror", None) or type(reason).__name__
        hint = "is the address right, and does the receiver run?"
        if isinstance(error, http.client.InvalidURL):
            failed = NotificationError, f"the address at {place} is not a URL", "no spaces or control characters"
        else:
            failed = NotificationUnavailableError, f"{place} cannot be told: {said}", hint
    except ValueError:
        failed = NotificationError, f"the address at {place} is not a URL", "write it as https://host/path"
    kind, problem, hint = failed
    raise kind(problem, hint=hint)  # outside the handlers: what urllib raises may quote the address


def _opener() -> Any:
    """Without redirects: urllib would follow one of a POST as a GET, which tells nobody anything."""
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *parts: Any) -> None:
            return None

    return urllib.request.build_opener(NoRedirect)


def _command(line: str, body: bytes, key: str, timeout_s: float) -> Notification:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise NotificationError(f"the command cannot be read: {error}") from None
    if not words:
        raise NotificationError("the command is empty", hint='write for example to="command:notify-send Done"')
    place = f"command:{os.path.basename(words[0])}"
    environment = {**os.environ, "PENSTOCK_EFFECT_KEY": key}
    failed: NotificationError
    try:
        done = subprocess.run(words, input=body, capture_output=True, timeout=timeout_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        failed = NotificationUnavailableError(f"{place} took longer than {timeout_s:g} s and was ended")
    except OSError as error:
        failed = NotificationError(f"{place} cannot be started: {error.strerror}", hint="is it installed here?")
    else:
        if done.returncode == 0:
            return Notification(place, key, "exit code 0")
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-300:]
        failed = NotificationError(f"{place} ended with exit code {done.returncode}", hint=said or None)
    raise failed


def _shown_url(url: str) -> str:
    """Scheme, host and port: a webhook's path is its password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "this address"
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
