"""A server process: the port is taken before the model is loaded, and a signal ends it with every answer given."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ..core.errors import MissingExtraError, ServingError
from ..ports.models import ModelRegistry
from .app import create_app
from .source import RegistrySource

_BACKLOG = 2048
_FINISH_SECONDS = 30


def serve(
    reference: str = "models:/churn@champion",
    *,
    registry: ModelRegistry,
    host: str = "127.0.0.1",
    port: int = 8080,
    poll_s: float = 1.0,
    token: str | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the reference until SIGTERM or Ctrl-C; `on_ready` gets the URL once requests are answered.

    Port 0 takes a free one. Raises: ServingError where it may not or cannot listen there, and what loading raises.
    """
    # Before scikit-learn is imported: with more, threads of one prediction fight for the cores that others need.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not is_loopback(host) and not token:
        raise ServingError(
            f"{host} can be reached from other machines, and no token is set",
            hint="set a token, or serve on 127.0.0.1",
        )
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("serving a model needs FastAPI and uvicorn", extra="serve") from error
    source = RegistrySource(registry, reference)
    with contextlib.closing(_bound(host, port)) as listener:
        app = create_app(source, token=token, poll_s=poll_s)
        url = _url(listener)
        config = uvicorn.Config(
            app, log_config=None, log_level="warning", access_log=False, timeout_graceful_shutdown=_FINISH_SECONDS
        )
        _server(config, on_ready, url).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket, so that a port in use is known before a model is loaded for nothing."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise ServingError(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ServingError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="stop what listens there, or choose another port (0 takes a free one)",
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(config: Any, on_ready: Callable[[str], None] | None, url: str) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started and on_ready is not None:
                on_ready(url)

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """uvicorn would raise the signal again when everything is done; a clean end is exit code 0."""
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

    return Server(config)
