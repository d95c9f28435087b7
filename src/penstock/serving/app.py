"""The HTTP surface: predictions, health, what is being served, and a page for people."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.clock import Clock, instant
from ..core.errors import MissingExtraError
from .page import page
from .rows import RequestError
from .source import Live, ModelSource
from .switch import Switch

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_OPENAPI_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {
                            "type": "object",
                            "required": ["rows"],
                            "properties": {"rows": {"type": "array", "items": {"type": "object"}}},
                        },
                        {
                            "type": "object",
                            "required": ["columns", "data"],
                            "properties": {
                                "columns": {"type": "array", "items": {"type": "string"}},
                                "data": {"type": "array", "items": {"type": "array", "items": {}}},
                            },
                        },
                    ]
                }
            }
        },
    }
}


def create_app(
    source: ModelSource,
    *,
    token: str | None = None,
    poll_s: float = 1.0,
    max_rows: int = 10_000,
    max_body_bytes: int = 16 * 2**20,
    workers: int | None = None,
    clock: Clock | None = None,
) -> FastAPI:
    """An application that serves what the source points at now, and follows it while it runs.

    With a token, everything but health asks for `Authorization: Bearer …`. Predictions are made in `workers` threads.
    Raises: what loading the first version raises.
    """
    try:
        from fastapi import FastAPI
    except ImportError as error:
        raise MissingExtraError("serving a model needs FastAPI and uvicorn", extra="serve") from error
    switch = Switch(source, poll_s=poll_s, max_rows=max_rows, clock=clock)
    pool = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1), thread_name_prefix="penstock-predict")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        switch.start()
        try:
            yield
        finally:
            switch.stop()
            pool.shutdown(wait=True)

    # The pages with API documentation would fetch scripts from elsewhere.
    # With a token, what the API looks like is nobody else's business either.
    described = None if token else "/openapi.json"
    app = FastAPI(
        title=f"penstock: {source.reference}", docs_url=None, redoc_url=None, openapi_url=described, lifespan=lifespan
    )
    app.state.switch = switch
    _refuse_in_one_form(app)
    _add_health(app, switch)
    _add_model(app, switch, _Door(token, max_body_bytes), pool)
    return app


class _Door:
    """What is asked of a request before anybody looks inside."""

    def __init__(self, token: str | None, max_body_bytes: int) -> None:
        self._token = token.encode() if token else None
        self._max_body_bytes = max_body_bytes

    def check(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            raise RequestError(
                "this server needs a token", status=401, kind="unauthorized", hint="send 'Authorization: Bearer …'"
            )

    async def body(self, request: Request) -> bytes:
        """Never reads more than is allowed, whatever the length header says."""
        parts, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._max_body_bytes:
                raise RequestError(
                    f"the request is larger than {self._max_body_bytes} bytes",
                    status=413,
                    kind="too_large",
                    hint="send the rows in several requests",
                )
            parts.append(chunk)
        return b"".join(parts)


def _add_health(app: FastAPI, switch: Switch) -> None:
    async def live() -> Response:
        return _json({"live": True})

    async def ready() -> Response:
        now = switch.live
        refused = switch.refused
        return _json(
            {
                "ready": True,
                "live": True,
                "model": now.version.name,
                "version": now.version.version,
                "refused": {"version": refused.version, "problem": refused.problem} if refused else None,
                "registry": switch.registry_problem or "ok",
            }
        )

    for path in ("/health", "/v2/health"):
        app.add_api_route(f"{path}/live", live, methods=["GET"], response_model=None)
        app.add_api_route(f"{path}/ready", ready, methods=["GET"], response_model=None)


def _add_model(app: FastAPI, switch: Switch, door: _Door, pool: ThreadPoolExecutor) -> None:
    from fastapi import Request, Response

    async def home(request: Request) -> Response:
        door.check(request)
        return Response(page(described(switch), str(request.base_url).rstrip("/")), media_type="text/html")

    async def model(request: Request) -> Response:
        door.check(request)
        return _json(described(switch))

    async def predict(request: Request) -> Response:
        door.check(request)
        body = await door.body(request)
        now = switch.live  # held until the answer is out, wherever the alias goes meanwhile
        answer = await asyncio.get_running_loop().run_in_executor(pool, now.answer, body)
        name = _request_id(request)
        content = {
            "model": now.version.name,
            "version": now.version.version,
            "predictions": answer.predictions,
            "probabilities": answer.probabilities,
            "request_id": name,
        }
        return _json(content, headers={"x-request-id": name})

    # Annotations are text here, and FastAPI cannot see the names that are known only inside this function.
    for endpoint in (home, model, predict):
        endpoint.__annotations__ = {"request": Request}
    app.add_api_route("/", home, methods=["GET"], include_in_schema=False)
    app.add_api_route("/model", model, methods=["GET"], response_model=None)
    app.add_api_route("/predict", predict, methods=["POST"], response_model=None, openapi_extra=_OPENAPI_BODY)


def described(switch: Switch) -> dict[str, Any]:
    """What is being served, for programs and for the page."""
    now: Live = switch.live
    return {
        "name": now.version.name,
        "version": now.version.version,
        "alias": switch.reference.which if switch.reference.is_alias else None,
        "run_id": now.version.run_id or None,
        "digest": now.version.digest or None,
        "since": instant(now.since).isoformat(),
        "classes": now.classes,
        "columns": [
            {"name": column.name, "type": column.type, "optional": column.optional} for column in now.signature.columns
        ],
        "example": now.signature.example[0] if now.signature.example else None,
        "metrics": now.version.metrics,
    }


def _refuse_in_one_form(app: FastAPI) -> None:
    """Every error that leaves is {"error": {…}}, with the request's id in its header."""
    from starlette.exceptions import HTTPException

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        headers = {"x-request-id": _request_id(request)}
        if error.status == 401:
            headers["www-authenticate"] = "Bearer"
        return _json(error.as_body(), status=error.status, headers=headers)

    async def not_here(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        hint = "GET / shows what there is" if error.status_code == 404 else None
        said = {"code": f"http_{error.status_code}", "problem": f"{request.method} {request.url.path}: {error.detail}"}
        return _json({"error": said | {"hint": hint}}, status=error.status_code, headers=dict(error.headers or {}))

    async def broke(request: Request, error: Exception) -> Response:
        # Starlette raises it again after this answer, so that the server's log has the traceback.
        asked = request.url.path == "/predict"
        what = "the model failed on these rows" if asked else "the server failed"
        said = {"code": "model_failed" if asked else "server_failed", "problem": f"{what}: {type(error).__name__}"}
        hint = "the server's log has the traceback"
        return _json({"error": said | {"hint": hint}}, status=500, headers={"x-request-id": _request_id(request)})

    app.add_exception_handler(RequestError, refused)
    app.add_exception_handler(HTTPException, not_here)
    app.add_exception_handler(Exception, broke)


def _request_id(request: Request) -> str:
    """The caller's id, or one of ours; made once per request."""
    if (known := getattr(request.state, "penstock_id", None)) is None:
        given = request.headers.get("x-request-id", "")
        known = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.state.penstock_id = known
    return str(known)


def _json(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    from starlette.responses import Response

    return Response(msgspec.json.encode(content), status, headers, "application/json")
