"""Telling somebody outside: one try, an honest class of failure, and nothing of the address that is secret."""

from __future__ import annotations

import json
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import NotificationError, NotificationUnavailableError
from penstock.engine.failure import failure_of
from penstock.ports.effects import Notification
from penstock.ports.records import FailureClass
from penstock.tracking import OutsideNotifier

BODY = json.dumps({"text": "done"}).encode()


class Receiver(ThreadingHTTPServer):
    """Answers with the status that the path names, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.got: list[tuple[str, str, dict[str, str], bytes]] = []
        self.go_on = threading.Event()

    def handle_error(self, request: Any, address: Any) -> None:
        return  # a sender that hangs up is a part of these tests


class Answers(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.command, self.path, dict(self.headers), body))
        what = self.path.split("/")[1]
        if what == "slow":
            self.server.go_on.wait()
            return
        if what == "cut":
            self.connection.close()
            return
        self.send_response(int(what))
        if what == "302":
            self.send_header("Location", "/200/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        serving = threading.Thread(target=made.serve_forever)
        serving.start()
        yield made
        made.go_on.set()
        made.shutdown()
        serving.join()


def send(to: str, timeout_s: float = 10.0) -> Notification:
    return OutsideNotifier().send(to, BODY, key="k1", timeout_s=timeout_s)


def test_a_webhook_gets_the_body_once_with_its_key(receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}"
    told = send(f"{url}/204/T0KEN")
    assert told == Notification(url, "k1", "204 No Content")
    [(method, path, headers, body)] = receiver.got
    assert (method, path, body) == ("POST", "/204/T0KEN", BODY)
    assert (headers["Idempotency-Key"], headers["Content-Type"]) == ("k1", "application/json")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("503", FailureClass.NETWORK), ("500", FailureClass.NETWORK), ("429", FailureClass.NETWORK),
        ("slow", FailureClass.NETWORK), ("cut", FailureClass.NETWORK),
        ("404", FailureClass.ERROR), ("401", FailureClass.ERROR), ("302", FailureClass.ERROR),
    ],
)  # fmt: skip
def test_what_may_pass_is_the_networks_and_what_is_refused_is_not_and_it_is_tried_once(
    receiver: Receiver, path: str, kind: FailureClass
) -> None:
    with pytest.raises(NotificationError) as raised:
        send(f"http://127.0.0.1:{receiver.server_port}/{path}/T0KEN", timeout_s=0.2 if path == "slow" else 10.0)
    assert failure_of(raised.value).kind is kind
    assert isinstance(raised.value, NotificationUnavailableError) is (kind is FailureClass.NETWORK)
    assert len(receiver.got) == 1


def test_nothing_of_a_webhooks_path_is_in_what_is_raised(receiver: Receiver) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = held.getsockname()[1]
        addresses = [
            f"http://127.0.0.1:{closed}/T0KEN",
            f"http://127.0.0.1:{receiver.server_port}/404/T0KEN",
            f"http://user:T0KEN@127.0.0.1:{receiver.server_port}x/",
            "http://127.0.0.1/T0KEN with spaces",
            "https://[T0KEN/",
            "ftp://T0KEN",
        ]
        for address in addresses:
            with pytest.raises(NotificationError) as raised:
                send(address)
            assert "T0KEN" not in "".join(traceback.format_exception(raised.value)), address


def test_a_command_gets_the_body_on_its_input_and_the_key_in_its_environment(tmp_path: Path) -> None:
    heard = tmp_path / "heard with space"
    program = "import os, sys; open(sys.argv[1], 'w').write(os.environ['PENSTOCK_EFFECT_KEY'] + sys.stdin.read())"
    told = send(f"command:{sys.executable} -c {json.dumps(program)} '{heard}'")
    assert told == Notification(f"command:{Path(sys.executable).name}", "k1", "exit code 0")
    assert heard.read_text() == "k1" + BODY.decode()


@pytest.mark.parametrize(
    ("command", "problem", "hint"),
    [
        ("sh -c 'echo no such channel >&2; exit 3'", "command:sh ended with exit code 3", "no such channel"),
        ("no-such-command-here --loud", "command:no-such-command-here cannot be started", "is it installed here?"),
        ("", "the command is empty", 'write for example to="command:notify-send Done"'),
        ("say 'unclosed", "the command cannot be read", None),
    ],
)
def test_a_command_that_cannot_tell_says_why(command: str, problem: str, hint: str | None) -> None:
    with pytest.raises(NotificationError, match=problem) as raised:
        send(f"command:{command}")
    assert raised.value.hint == hint


def test_a_command_that_takes_too_long_may_succeed_another_time() -> None:
    with pytest.raises(NotificationUnavailableError, match=r"took longer than 0\.1 s"):
        send("command:sleep 600", timeout_s=0.1)
