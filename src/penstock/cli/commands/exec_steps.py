"""`penstock exec-steps`: a warm process that runs steps of one run as it is told, line by line, for an engine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ...core.errors import PenstockError, StoreUnavailableError
from ...engine.closing import close_run
from ...engine.processes import StepExit
from ...engine.settling import execute_settled, expand_settled
from ...engine.single import StepSession
from ...ports.records import StepState
from ..app import told as error_text
from ..exits import Exit
from ..joining import AGAIN_S, ENGINE_STATES, RUN_EXITS, add_run, for_an_engine, patiently, session_of
from .exec_step import told

COMMON = ("json",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
reads one JSON object per line from stdin, answers one or more per line on stdout, ends when stdin does:
  {"id": 1, "step": "fit", "index": "2", "attempt": 1}   {"id": 1, "text": "what it prints"} …
                                                         {"id": 1, "exit": 0, "state": "succeeded", "message": "…"}
  {"id": 2, "map": "fit"}                                {"id": 2, "indexes": ["0", "1"]}
  {"id": 3, "end": ""}                                   {"id": 3, "exit": 0, "state": "succeeded"}
exit codes are those of `penstock exec-step` and `exec-end`; with 75 there is "retry_in": seconds until the next attempt
may begin. One request at a time. The first line it writes is
{"ready": true, "run": "…"}, or {"error": "…"} where it cannot begin.

examples:
  penstock exec-steps --manifest m.json --engine prefect --engine-run churn/7d1c
"""
    add_run(parser)


def execute(arguments: argparse.Namespace) -> int:
    return for_an_engine(arguments, _execute)


def _execute(arguments: argparse.Namespace) -> int:
    answer = _answers()
    request = 0

    def shown(text: str) -> None:
        answer({"id": request, "text": text})

    try:
        session = session_of(arguments, shown)
    except PenstockError as error:
        answer({"error": error_text(error)})
        raise
    answer({"ready": True, "run": session.record.id})
    try:
        for line in sys.stdin:
            if not line.strip():
                continue
            asked = json.loads(line)
            request = asked.get("id", 0)
            answer({"id": request, **_answered(session, asked)})
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    finally:
        session.close()
    return Exit.OK


def _answers() -> Callable[[dict[str, Any]], None]:
    """Our own way out; whatever else is written to stdout, by a step or its children, goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(record: dict[str, Any]) -> None:
        stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        stream.flush()

    return answer


def _answered(session: StepSession, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        if "map" in asked:
            return {"indexes": patiently(lambda: expand_settled(session, asked["map"]))}
        if "end" in asked:
            state = patiently(lambda: close_run(session, ENGINE_STATES[asked["end"] or "succeeded"]))
            return {
                "exit": int(RUN_EXITS.get(state, Exit.FAILED)),
                "state": state.value,
                "message": session.view.error or "",
            }
        return _ran(session, asked["step"], asked.get("index", ""), asked.get("attempt"))
    except StoreUnavailableError as error:  # nothing is wrong with the step: another attempt may reach the store
        return {"exit": int(StepExit.RETRY), "state": "failed", "message": error_text(error), "retry_in": AGAIN_S}
    except PenstockError as error:
        return {"exit": int(Exit.USAGE), "state": "failed", "message": error_text(error)}


def _ran(session: StepSession, step: str, index: str, attempt: int | None) -> dict[str, Any]:
    code, event = execute_settled(session, step, index, attempt)
    session.catch_up()
    run = session.view.step(step, index)
    if code is StepExit.DONE and run.state is StepState.SKIPPED:
        code = StepExit.SKIPPED
    answer: dict[str, Any] = {
        "exit": int(code),
        "state": run.state.value,
        "message": told(session, step, index, code, event),
    }
    if code is StepExit.RETRY and run.retry_at is not None:
        answer["retry_in"] = max(0.0, (run.retry_at - session.services.clock.now_us()) / 1e6)
    return answer
