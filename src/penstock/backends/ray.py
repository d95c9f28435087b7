"""Ray as the place where attempts run: one Ray task each, with the step's resources; a mailbox actor brings news back.

Ray never tries a task again here (`max_retries=0`): a worker or node that dies is a lost attempt, and the engine
decides. The mailbox lives on the head node, which a cluster cannot do without anyway; it works through `ray://` too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import ClusterError, MissingExtraError
from ..graph import ResourceRequest
from ..ports.cluster import Attend, Heard, Lost, Post

_CONNECT_S = 5.0
_TAKE_S = 1.0  # how long the mailbox waits for news before it says that there are none
_LOOK_S = 0.5  # how often it is looked for tasks that ended without a word
_SILENCE_S = 5.0  # a task that ended well, and whose last message has not come after this time, is lost
_NODES_S = 5.0  # how long it is believed what nodes there are
_STORE_BYTES = 128 << 20  # of shared memory for a Ray of our own: values travel through the artifact store
_HEAD = "node:__internal_head__"


class Mailbox:
    """The actor: holds messages until the engine takes them."""

    def __init__(self) -> None:
        self._held: list[tuple[str, bytes]] = []
        self._come = asyncio.Event()

    async def put(self, ticket: str, message: bytes) -> None:
        self._held.append((ticket, message))
        self._come.set()

    async def take(self, patience_s: float) -> list[tuple[str, bytes]]:
        try:
            await asyncio.wait_for(self._come.wait(), patience_s)
        except TimeoutError:
            pass
        self._come.clear()
        held, self._held = self._held, []
        return held


class RayPost(Post):
    """From a Ray task to the mailbox."""

    def __init__(self, mailbox: Any, ticket: str) -> None:
        self._mailbox = mailbox
        self._ticket = ticket

    def send(self, message: bytes) -> None:
        _ray().get(self._mailbox.put.remote(self._ticket, message))

    def unwanted(self) -> bool:
        return False  # Ray raises KeyboardInterrupt in a task that is taken back, and ends those of a dead driver


def run_attempt(attend: Attend, mailbox: Any, ticket: str, content: bytes) -> None:
    """The Ray task."""
    attend(content, RayPost(mailbox, ticket))


class RayCluster:
    """Implements `ports.cluster.Cluster`.

    address: ray://…, or "" for what RAY_ADDRESS names, else one of its own on this machine. A Ray that the
    user's program has joined already is taken as it is.
    """

    name = "ray"

    def __init__(self, address: str, *, most: int | None, attend: Attend) -> None:
        ray = _ray()
        self._ray = ray
        self._attend = attend
        self._is_joined = bool(ray.is_initialized())  # by the user's own program, which also ends it
        self._is_own = False
        with _signals_kept():
            self._connect(address, most)
        self.places = most or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._heard: Heard = lambda ticket, news: None
        self._refs: dict[str, Any] = {}
        self._ended: dict[str, float] = {}  # well, and when
        self._lock = threading.Lock()
        self._nodes: tuple[float, list[dict[str, float]]] = (0.0, [])
        self._closing = threading.Event()
        self._task = ray.remote(run_attempt)
        self._mailbox = self._new_mailbox()
        self._thread = threading.Thread(target=self._collect, daemon=True, name="penstock-ray")

    def listen(self, heard: Heard) -> None:
        self._heard = heard
        self._thread.start()

    def keeps(self, wants: ResourceRequest) -> ResourceRequest:
        if not self._is_own:
            return wants
        has = self._sizes()[0]  # nobody adds a machine to a Ray of our own: what it has not got is waived
        return ResourceRequest(
            cpu=wants.cpu if wants.cpu is not None and wants.cpu <= has.get("CPU", 0) else None,
            memory_bytes=wants.memory_bytes if (wants.memory_bytes or 0) <= has.get("memory", 0) else None,
            gpu=wants.gpu if wants.gpu <= has.get("GPU", 0) else 0,
        )

    def lacks(self, wants: ResourceRequest) -> str:
        asked = {"CPU": wants.cpu or 0, "memory": wants.memory_bytes or 0, "GPU": wants.gpu}
        if any(all(node.get(name, 0) >= size for name, size in asked.items()) for node in self._sizes()):
            return ""
        return ", ".join(f"{name.lower()}={size:g}" for name, size in asked.items() if size)

    def submit(self, ticket: str, content: bytes, wants: ResourceRequest | None, title: str) -> None:
        wants = wants or ResourceRequest()
        options: dict[str, Any] = {"max_retries": 0, "name": f"penstock {title}"}
        options["num_cpus"] = 1 if wants.cpu is None else wants.cpu
        if wants.memory_bytes is not None:
            options["memory"] = wants.memory_bytes
        if wants.gpu:
            options["num_gpus"] = wants.gpu
        try:
            ref = self._task.options(**options).remote(self._attend, self._mailbox, ticket, content)
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError, TypeError) as error:
            raise ClusterError(f"Ray did not take '{title}': {_said(error)}", hint=_HINT) from error
        with self._lock:
            self._refs[ticket] = ref

    def forget(self, ticket: str) -> None:
        with self._lock:
            self._refs.pop(ticket, None)
            self._ended.pop(ticket, None)

    def stop(self, tickets: Sequence[str], *, at_once: bool) -> None:
        with self._lock:
            refs = [self._refs[ticket] for ticket in tickets if ticket in self._refs]
        for ref in refs:
            try:
                self._ray.cancel(ref, force=at_once)
            except (self._ray.exceptions.RayError, ConnectionError, ValueError):
                continue  # it is gone by itself, or the cluster is

    def close(self) -> None:
        self._closing.set()
        try:
            self._mailbox.put.remote("", b"")  # it need not wait any longer
            if self._thread.ident is not None:
                self._thread.join(timeout=_TAKE_S + 1)
            self._ray.kill(self._mailbox)
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError):
            pass
        if not self._is_joined:
            with _signals_kept():
                self._ray.shutdown()

    # -- inside --------------------------------------------------------------------------------------------------

    def _connect(self, address: str, most: int | None) -> None:
        if self._is_joined:
            return
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        wanted = address or os.environ.get("RAY_ADDRESS", "")
        if wanted and wanted != "local":
            _reach(wanted)
            try:
                self._ray.init(address=wanted, **quiet)
            except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
                raise ClusterError(f"Ray at {wanted} cannot be reached: {_said(error)}", hint=_HINT) from error
            return
        self._is_own = True
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of every start
        try:
            self._ray.init(
                address="local",
                num_cpus=most,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                **quiet,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterError(f"Ray cannot be started on this machine: {_said(error)}") from error

    def _new_mailbox(self) -> Any:
        actor = self._ray.remote(Mailbox).options(num_cpus=0, resources={_HEAD: 0.001}, max_concurrency=1000)
        return actor.remote()

    def _sizes(self) -> list[dict[str, float]]:
        """What each node has in all."""
        if not self._nodes[1] or monotonic() - self._nodes[0] > _NODES_S:
            living = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._nodes = monotonic(), living
        return self._nodes[1]

    def _collect(self) -> None:
        looked_at = monotonic()
        while not self._closing.is_set():
            try:
                self._hand_on(_TAKE_S if not self._refs else _LOOK_S)
                if monotonic() - looked_at >= _LOOK_S:
                    self._look()
                    looked_at = monotonic()
            except (self._ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
                if self._closing.wait(_LOOK_S):
                    return
                self._start_again(error)

    def _hand_on(self, patience_s: float) -> None:
        for ticket, message in self._ray.get(self._mailbox.take.remote(patience_s)):
            self._heard(ticket, message)

    def _look(self) -> None:
        """For tasks that are over: lost ones, and those whose last message should have come by now."""
        with self._lock:
            tickets = {ref: ticket for ticket, ref in self._refs.items() if ticket not in self._ended}
        if tickets:
            over, _ = self._ray.wait(list(tickets), num_returns=len(tickets), timeout=0)
            losses = {tickets[ref]: loss for ref in over if (loss := self._loss(ref)) is not None}
            if losses:
                self._hand_on(0)  # what they said before they died
            for ticket, loss in losses.items():
                self._heard(ticket, loss)
            now = monotonic()
            with self._lock:
                self._ended |= {tickets[ref]: now for ref in over if tickets[ref] in self._refs}
        limit = monotonic() - _SILENCE_S
        with self._lock:
            silent = [ticket for ticket, since in self._ended.items() if since < limit]
        for ticket in silent:
            self._heard(ticket, Lost("it ended without a word"))

    def _loss(self, ref: Any) -> Lost | None:
        exceptions = self._ray.exceptions
        try:
            self._ray.get(ref)
        except exceptions.OutOfMemoryError as error:
            return Lost(_said(error), out_of_memory=True)
        except exceptions.TaskCancelledError:
            return Lost("it was cancelled")
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError) as error:
            return Lost(_said(error))
        except (exceptions.RayError, ImportError) as error:
            return Lost(_said(error), hint=_INSTALL if "No module named" in str(error) else None)
        return None

    def _start_again(self, error: Exception) -> None:
        """Nothing of what runs can be heard any more: it is lost, and a new mailbox serves what comes next."""
        with self._lock:
            tickets = list(self._refs)
        self.stop(tickets, at_once=True)
        for ticket in tickets:
            self._heard(ticket, Lost(f"the mailbox on the head node is gone: {_said(error)}"))
        try:
            self._mailbox = self._new_mailbox()
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError):
            pass  # the cluster is gone; what is submitted next says so


_HINT = "is it up, and of the same Ray and Python version? `ray status` on its head node tells"
_INSTALL = "penstock must be installed, in the same version, on every node of the cluster"


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtraError("--workers ray needs Ray", extra="ray") from error
    return ray


def _reach(address: str) -> None:
    """Open and close a connection: Ray itself would try for minutes. Raises ClusterError."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    if parts.hostname is None or parts.port is None:
        return  # "auto": Ray knows where it looks
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ClusterError(f"Ray at {address} cannot be reached: {error.strerror or error}", hint=_HINT) from error


def _said(error: BaseException) -> str:
    """The first line of what Ray says, which tends to be long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray sets a SIGTERM handler of its own, which would end a run without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
