"""What an exception comes of: real libraries that meet a real closed port, and classes known by their names."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from typing import Any

import pytest

from penstock.core.errors import FencedError, RegistryError, SourceUnavailableError, StepOutOfMemoryError
from penstock.engine.failure import failure_of
from penstock.engine.failureclass import cause_class
from penstock.ports.records import FailureClass

NETWORK, MEMORY, ERROR = FailureClass.NETWORK, FailureClass.OUT_OF_MEMORY, FailureClass.ERROR


def needs(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(library) is None, reason=f"capability missing: {library}")


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else takes it, and not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def answering() -> Iterator[str]:
    """A server that answers with the status in the path."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def by_urllib(url: str) -> None:
    urllib.request.urlopen(url, timeout=5).close()


def by_requests(url: str) -> None:
    import requests

    with requests.Session() as session:
        session.get(url, timeout=5).raise_for_status()


def by_urllib3(url: str) -> None:
    import urllib3

    urllib3.PoolManager(retries=1).request("GET", url, timeout=5)


def by_httpx(url: str) -> None:
    import httpx

    with httpx.Client(timeout=5) as client:
        client.get(url).raise_for_status()


def by_botocore(url: str) -> None:
    import botocore.session
    from botocore.config import Config

    settings = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)
    session = botocore.session.get_session()
    session.set_credentials("a", "b")
    session.create_client("s3", "us-east-1", endpoint_url=url, config=settings).list_buckets()


def by_psycopg(url: str) -> None:
    import psycopg

    psycopg.connect(f"postgresql://nobody@127.0.0.1:{url.rpartition(':')[2]}/nothing", connect_timeout=5)


def by_mlflow(url: str) -> None:
    from pathlib import Path

    from penstock.tracking.mlflow_registry import MlflowRegistry

    MlflowRegistry(url, home=Path("/nonexistent")).find("churn", "champion")


def raised_by(what: Callable[[], Any]) -> BaseException:
    try:
        what()
    except BaseException as error:  # noqa: BLE001 - whatever a library raises is what is looked at
        return error
    raise AssertionError("nothing was raised")


LIBRARIES = [
    by_urllib,
    pytest.param(by_requests, marks=needs("requests")),
    pytest.param(by_urllib3, marks=needs("urllib3")),
    pytest.param(by_httpx, marks=needs("httpx")),
    pytest.param(by_botocore, marks=needs("botocore")),
    pytest.param(by_psycopg, marks=needs("psycopg")),
    pytest.param(by_mlflow, marks=needs("mlflow")),
]


@pytest.mark.parametrize("ask", LIBRARIES)
def test_who_cannot_be_reached_is_the_networks_in_every_library(ask: Callable[[str], None], closed_port: int) -> None:
    error = raised_by(lambda: ask(f"http://127.0.0.1:{closed_port}"))
    assert failure_of(error).kind is NETWORK, repr(error)


@pytest.mark.parametrize(
    "ask",
    [by_urllib, pytest.param(by_requests, marks=needs("requests")), pytest.param(by_httpx, marks=needs("httpx"))],
)
@pytest.mark.parametrize(("status", "kind"), [(503, NETWORK), (429, NETWORK), (404, ERROR), (401, ERROR)])
def test_a_server_that_says_not_now_is_the_networks_and_one_that_says_no_is_not(
    ask: Callable[[str], None], status: int, kind: FailureClass, answering: str
) -> None:
    error = raised_by(lambda: ask(f"{answering}/{status}"))
    assert failure_of(error).kind is kind
    if isinstance(error, urllib.error.HTTPError):
        error.close()


def test_a_name_that_does_not_resolve_and_a_socket_that_says_nothing_are_the_networks() -> None:
    assert cause_class(raised_by(lambda: socket.getaddrinfo("no-such-host.invalid", 80))) is NETWORK
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.001)
        assert cause_class(raised_by(lambda: ours.recv(1))) is NETWORK


def test_what_an_exception_was_raised_from_or_while_counts_and_what_it_hides_does_not() -> None:
    def wrapped(how: str) -> None:
        try:
            raise ConnectionResetError("reset")
        except OSError as error:
            if how == "from":
                raise ValueError("no features") from error
            if how == "while":
                raise ValueError("no features")  # noqa: B904
            raise ValueError("no features") from None

    assert [cause_class(raised_by(lambda how=how: wrapped(how))) for how in ("from", "while", "none")] == [
        NETWORK, NETWORK, None,
    ]  # fmt: skip


def test_a_group_is_the_networks_only_if_all_of_it_is() -> None:
    reset, wrong = ConnectionResetError("reset"), ValueError("wrong")
    assert cause_class(ExceptionGroup("all", [reset, BrokenPipeError()])) is NETWORK
    assert cause_class(ExceptionGroup("all", [reset, wrong])) is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        FileNotFoundError(2, "no such file"),
        PermissionError(13, "no"),
        TimeoutError(),  # somebody waited for something; what, nobody says
        TimeoutError("the lock never came free"),
        ssl.SSLCertVerificationError("certificate verify failed"),
        RegistryError("refused"),
        urllib.error.HTTPError("http://x", 400, "Bad Request", Message(), None),
    ],
)
def test_what_would_be_the_same_tomorrow_is_not_the_networks(error: Exception) -> None:
    assert cause_class(error) is None
    if isinstance(error, urllib.error.HTTPError):
        error.close()


def test_a_certificate_that_does_not_verify_is_no_passing_trouble_however_it_is_wrapped() -> None:
    def connect() -> None:
        try:
            raise ssl.SSLCertVerificationError("self-signed certificate")
        except OSError as error:
            raise ConnectionError("cannot connect") from error

    assert cause_class(raised_by(connect)) is None


def named(module: str, name: str, *bases: type, **attributes: Any) -> BaseException:
    """An exception of a library that is not installed here, as its class is named there."""
    made = type(name, bases or (Exception,), {"__module__": module, **attributes})
    return made("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), MEMORY),
        (StepOutOfMemoryError("over its limit"), MEMORY),
        (named("torch", "OutOfMemoryError", RuntimeError), MEMORY),
        (named("torch.cuda", "OutOfMemoryError", RuntimeError), MEMORY),
        (named("cupy.cuda.memory", "OutOfMemoryError"), MEMORY),
        (named("mylib", "OutOfMemoryError"), ERROR),
        (named("psycopg", "OperationalError", sqlstate=None), NETWORK),
        (named("psycopg", "OperationalError", sqlstate="57P01"), NETWORK),
        (named("psycopg", "OperationalError", sqlstate="53100"), ERROR),  # its disk is full
        (named("botocore.exceptions", "ClientError", response={"ResponseMetadata": {"HTTPStatusCode": 503}}), NETWORK),
        (named("botocore.exceptions", "ClientError", response={"ResponseMetadata": {"HTTPStatusCode": 403}}), ERROR),
        (SourceUnavailableError("the bucket cannot be reached"), NETWORK),
        (FencedError("taken over"), FailureClass.PREEMPTED),
        (KeyboardInterrupt(), FailureClass.CANCELLED),
    ],
)
def test_classes_are_known_by_their_names(error: BaseException, kind: FailureClass) -> None:
    assert failure_of(error).kind is kind


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert cause_class(one) is None
