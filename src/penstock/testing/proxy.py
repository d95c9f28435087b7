"""A proxy on loopback in front of a real HTTP server, such as an S3 one, that spoils the answers it is told to.

    with FaultyProxy("http://127.0.0.1:9000") as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.url
        proxy.spoil(Spoil.LOSE_ANSWER, method="PUT")    # the write is done, and nobody hears of it
        proxy.answer(503, "SlowDown", times=3)

Everything that is not spoiled passes unchanged. `seen` tells what came by, so that a test can say how often.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from enum import StrEnum
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

import msgspec

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "proxy-connection"})
_ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{0}</Code><Message>{0}, says the test</Message></Error>"


class Spoil(StrEnum):
    """What can happen to a request or its answer."""

    RESET = "reset"  # the connection breaks before the server hears of it
    LOSE_ANSWER = "lose_answer"  # the server does it; the connection breaks before the answer
    TRUNCATE = "truncate"  # half of the body comes, then the connection is closed
    BREAK_BODY = "break_body"  # half of the body comes, then the connection is reset
    ALTER = "alter"  # one bit of the body is another one
    STALL = "stall"  # no answer until the client gives up, or `release` is called


class Seen(msgspec.Struct, frozen=True):
    """One request, and what was done to it: a `Spoil`, a status that was made up, or "passed"."""

    method: str
    path: str
    done: str


class _Rule(msgspec.Struct):
    method: str | None
    path: str
    times: int
    spoil: Spoil | None = None
    status: int = 0
    code: str = ""

    def fits(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in (None, method) and self.path in path


class FaultyProxy:
    """Use it as a context manager; `url` is where it listens."""

    def __init__(self, upstream: str) -> None:
        place = urlsplit(upstream)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.seen: list[Seen] = []

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spoil(self, how: Spoil, *, method: str | None = None, path: str = "", times: int = 1) -> None:
        """Let this happen to the next `times` requests of that method whose path contains that text."""
        self._add(_Rule(method, path, times, spoil=how))

    def answer(self, status: int, code: str = "", *, method: str | None = None, path: str = "", times: int = 1) -> None:
        """Answer in the server's place with this status and an S3 error code; the server never hears of it."""
        self._add(_Rule(method, path, times, status=status, code=code))

    def release(self) -> None:
        """Let go of every request that is stalled; they are reset."""
        self._released.set()

    def heal(self) -> None:
        """Spoil nothing more."""
        with self._lock:
            self._rules.clear()

    def count(self, method: str, done: str | None = None) -> int:
        return sum(each.method == method and done in (None, each.done) for each in self.seen)

    def _add(self, rule: _Rule) -> None:
        with self._lock:
            self._rules.append(rule)

    def take(self, method: str, path: str) -> _Rule | None:
        """The rule for this request, used up by it."""
        with self._lock:
            rule = next((rule for rule in self._rules if rule.fits(method, path)), None)
            if rule is not None:
                rule.times -= 1
            done = "passed" if rule is None else str(rule.spoil or rule.status)
            self.seen.append(Seen(method, path, done))
            return rule

    def ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[HTTPResponse, bytes]:
        """The real server's answer."""
        connection = HTTPConnection(self._host, self._port, timeout=60)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in _HOP:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def stall(self) -> None:
        self._released.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what such a test is about."""


def _handler(proxy: FaultyProxy) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def serve(self) -> None:
            body = self._body()
            rule = proxy.take(self.command, self.path)
            if rule is None:
                self._give(*proxy.ask(self, body))
            elif rule.spoil is None:
                self._made_up(rule)
            else:
                self._spoilt(rule.spoil, body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def _made_up(self, rule: _Rule) -> None:
            content = _ERROR.format(rule.code or rule.status).encode() if self.command != "HEAD" else b""
            self.send_response(rule.status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _spoilt(self, how: Spoil, body: bytes) -> None:
            if how is Spoil.STALL:
                proxy.stall()
            if how in (Spoil.STALL, Spoil.RESET):
                self._break()
                return
            response, content = proxy.ask(self, body)
            match how:
                case Spoil.LOSE_ANSWER:
                    self._break()
                case Spoil.ALTER:
                    middle = len(content) // 2
                    self._give(response, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
                case _:
                    self._head(response, len(content))
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                    if how is Spoil.BREAK_BODY:
                        self._break()

        def _give(self, response: HTTPResponse, content: bytes) -> None:
            told = response.getheader("Content-Length") if self.command == "HEAD" else None
            self._head(response, int(told) if told else len(content))
            self.wfile.write(content)

        def _head(self, response: HTTPResponse, length: int) -> None:
            self.send_response_only(response.status, response.reason)
            for name, value in response.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def _break(self) -> None:
            """Close with a reset instead of an orderly end."""
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    return Handler
