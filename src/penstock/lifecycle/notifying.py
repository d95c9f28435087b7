"""Telling somebody outside, as a plain function; `lifecycle.steps` makes a step of it."""

from __future__ import annotations

import json
from typing import Any

from ..core.errors import NotificationError
from ..ports.context import context
from ..ports.effects import Notification, Notifier


def notify(text: str, to: str = "log:", fields: dict[str, Any] = {}, timeout_s: float = 10.0) -> Notification:  # noqa: B006
    """Tell somebody: a webhook (https://…), a command ("command:say --loud"), or the step's log ("log:").

    The receiver gets one JSON object: text, key, fields, run, pipeline, step, index. It is the same in every attempt,
    and so is its key, which a webhook gets as the header Idempotency-Key and a command as PENSTOCK_EFFECT_KEY.
    Raises:  NotificationUnavailableError (failure class "network") where another attempt may succeed;
             NotificationError where it cannot.
    """
    surroundings = context()
    with surroundings.effect() as effect:
        message = {
            "text": text,
            "key": effect.key,
            "fields": fields,
            "run": surroundings.run_id,
            "pipeline": surroundings.pipeline,
            "step": surroundings.step,
            "index": surroundings.index,
        }
        body = json.dumps(message, ensure_ascii=False, sort_keys=True, default=str).encode()
        if to == "log:":
            surroundings.logger.info("%s", text)
            told = Notification(to, effect.key, "logged")
        else:
            notifier: Notifier = _notifier()
            told = notifier.send(to, body, key=effect.key, timeout_s=timeout_s)
    surroundings.note = f"told {told.to} ({told.answer})"
    return told


def _notifier() -> Notifier:
    try:
        found: Notifier = context().service("notifier")
    except LookupError:
        raise NotificationError(
            "outside a run only the log can be told", hint='notify(…, to="log:"), or run it in a pipeline'
        ) from None
    return found
