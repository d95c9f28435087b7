"""Dask as the place where attempts run: one task each, with the step's resources; a queue on the scheduler brings news.

Dask runs a task again, by itself and without end in sight, when its worker dies. Here nothing runs twice behind the
engine's back: a task first puts its name up at the scheduler, which takes a name once, and a second one ends at once.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from ..core.errors import ClusterError, MissingExtraError
from ..graph import ResourceRequest
from ..ports.cluster import Attend, Heard, Lost, Post

_CONNECT = "10s"
_LOOK_S = 1.0
_SILENCE_S = 5.0  # a task that ended well, and whose last message has not come after this time, is lost
_AGAIN = "again"
_NAMES = {"cpu": "CPU", "memory_bytes": "MEMORY", "gpu": "GPU"}  # of a request, as workers declare them


class DaskPost(Post):
    """From a Dask task to the queue."""

    def __init__(self, mailbox: str, ticket: str) -> None:
        from distributed import Queue, get_worker

        self._queue = Queue(mailbox)
        self._ticket = ticket
        self._worker = get_worker()

    def send(self, message: bytes) -> None:
        self._queue.put([self._ticket, message])

    def unwanted(self) -> bool:
        """The scheduler has told this worker so: the task was cancelled, or its client has gone."""
        state = self._worker.state.tasks.get(self._ticket)
        return state is None or state.state in ("cancelled", "resumed", "released", "forgotten")


def run_attempt(attend: Attend, mailbox: str, ticket: str, content: bytes) -> str:
    """The Dask task."""
    from distributed import get_client

    try:
        get_client().publish_dataset(True, name=ticket)
    except KeyError:
        return _AGAIN
    attend(content, DaskPost(mailbox, ticket))
    return ""


class DaskCluster:
    """Implements `ports.cluster.Cluster`.

    address: tcp://…, or "" for what DASK_SCHEDULER_ADDRESS names, else one for this run on this machine.
    """

    name = "dask"

    def __init__(self, address: str, *, most: int | None, attend: Attend) -> None:
        distributed = _distributed()
        self._attend = attend
        self._local: Any = None
        wanted = address or os.environ.get("DASK_SCHEDULER_ADDRESS", "")
        if not wanted:
            self._local = _local_cluster(distributed, most or os.cpu_count() or 1)
        try:
            self._client = distributed.Client(
                wanted or self._local, timeout=_CONNECT, set_as_default=False, name="penstock"
            )
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"Dask at {wanted} cannot be reached: {_said(error)}",
                hint="is its scheduler up, and of the same version? `dask scheduler` prints its address",
            ) from error
        workers = self._workers()
        self.places = most or max(1, sum(worker["nthreads"] for worker in workers))
        self._declared = {name for worker in workers for name in worker["resources"]}
        self._heard: Heard = lambda ticket, news: None
        self._mailbox = f"penstock-{self._client.id}"
        self._queue = distributed.Queue(self._mailbox, client=self._client)
        self._futures: dict[str, Any] = {}
        self._ended: dict[str, float] = {}  # well, and when
        self._vanished: set[str] = set()  # seen at no worker the last time
        self._stopping: set[str] = set()
        self._done: SimpleQueue[str] = SimpleQueue()  # names that may be taken down
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=each, daemon=True, name="penstock-dask") for each in (self._collect, self._watch)
        ]

    def listen(self, heard: Heard) -> None:
        self._heard = heard
        for thread in self._threads:
            thread.start()

    def keeps(self, wants: ResourceRequest) -> ResourceRequest:
        """Dask knows the resources that its workers declare; what none declares is waived."""
        sizes = [worker["resources"] for worker in self._workers()] if self._local is not None else []

        def kept(field: str) -> Any:
            size, name = getattr(wants, field), _NAMES[field]
            if not size or name not in self._declared:
                return None
            return size if not sizes or any(each.get(name, 0) >= size for each in sizes) else None

        return ResourceRequest(cpu=kept("cpu"), memory_bytes=kept("memory_bytes"), gpu=kept("gpu") or 0)

    def lacks(self, wants: ResourceRequest) -> str:
        asked = _asked(wants)
        if any(all(w["resources"].get(name, 0) >= size for name, size in asked.items()) for w in self._workers()):
            return ""
        return ", ".join(f"{name.lower()}={size:g}" for name, size in asked.items())

    def submit(self, ticket: str, content: bytes, wants: ResourceRequest | None, title: str) -> None:
        asked = _asked(wants) if wants is not None else {}
        if _NAMES["cpu"] in self._declared:
            asked.setdefault(_NAMES["cpu"], 1)
        try:
            future = self._client.submit(
                run_attempt,
                self._attend,
                self._mailbox,
                ticket,
                content,
                key=ticket,
                pure=False,
                retries=0,
                resources=asked or None,
            )
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise ClusterError(
                f"Dask did not take '{title}': {_said(error)}", hint="is its scheduler still up?"
            ) from error
        with self._lock:
            self._futures[ticket] = future
        future.add_done_callback(lambda done: self._over(ticket, done))

    def forget(self, ticket: str) -> None:
        with self._lock:
            self._futures.pop(ticket, None)
            self._ended.pop(ticket, None)
            self._stopping.discard(ticket)
        self._done.put(ticket)

    def stop(self, tickets: Sequence[str], *, at_once: bool) -> None:
        with self._lock:
            self._stopping |= {*tickets}
            futures = [self._futures[ticket] for ticket in tickets if ticket in self._futures]
        try:
            self._client.cancel(futures, force=True)
        except (OSError, RuntimeError, ValueError):
            pass  # the cluster is gone

    def close(self) -> None:
        self._closing.set()
        try:
            self._queue.put(["", b""], timeout="2s")  # wakes who waits for it
        except (OSError, RuntimeError, ValueError):
            pass
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=_LOOK_S + 2)
        self._tidy()
        try:
            self._queue.close()
            self._client.close(timeout="5s")
        except (OSError, RuntimeError, ValueError):
            pass
        if self._local is not None:
            self._local.close(timeout=10)

    # -- inside --------------------------------------------------------------------------------------------------

    def _workers(self) -> list[dict[str, Any]]:
        return list(self._client.scheduler_info(n_workers=-1)["workers"].values())

    def _collect(self) -> None:
        while not self._closing.is_set():
            try:
                first = self._queue.get()
                for ticket, message in (first, *self._queue.get(batch=True)):
                    self._heard(ticket, message)
            except (OSError, RuntimeError, ValueError, KeyError) as error:
                if self._closing.wait(_LOOK_S):
                    return
                for ticket in list(self._futures):
                    self._heard(ticket, Lost(f"the connection to its scheduler is gone: {_said(error)}"))

    def _watch(self) -> None:
        """For attempts that no worker has any more, and for last messages that do not come."""
        while not self._closing.wait(_LOOK_S):
            try:
                self._look()
            except (OSError, RuntimeError, ValueError):
                continue  # the connection is gone for a moment, or the other thread says that it is gone for good
            self._tidy()

    def _look(self) -> None:
        with self._lock:
            open_before = {*self._futures} - {*self._ended}
        placed = {key for keys in self._client.processing().values() for key in keys} if open_before else set()
        now = monotonic()
        with self._lock:
            # Where a worker dies, Dask gives its tasks to another one, if there is one.
            vanished = {ticket for ticket in open_before - placed if self._is_open(ticket)}
            silent = {ticket for ticket, since in self._ended.items() if now - since > _SILENCE_S}
            lost = vanished & self._vanished
            self._vanished = vanished
        self._begun_elsewhere(lost)
        for ticket in silent:
            self._heard(ticket, Lost("it ended without a word"))

    def _begun_elsewhere(self, tickets: set[str]) -> None:
        """Of tasks that no worker has, those that had begun are lost; others wait for a worker."""
        names = {*self._client.list_datasets()} if tickets else set()
        lost = [ticket for ticket in tickets if ticket in names]
        self.stop(lost, at_once=True)
        for ticket in lost:
            self._heard(ticket, Lost("the worker that ran it died"))

    def _is_open(self, ticket: str) -> bool:
        return ticket in self._futures and ticket not in self._ended and ticket not in self._stopping

    def _over(self, ticket: str, future: Any) -> None:
        """From a thread of the client."""
        if future.status == "finished":
            if future.result() == _AGAIN:
                self._heard(ticket, Lost("the worker that ran it died, or lost its connection"))
            else:
                with self._lock:
                    if ticket in self._futures:
                        self._ended[ticket] = monotonic()
        elif future.status == "error":
            error = future.exception()
            self._heard(ticket, Lost(_said(error), hint=_INSTALL if "No module named" in str(error) else None))
        elif ticket not in self._stopping:  # what is told to stop still says how it ended
            self._heard(ticket, Lost("it was cancelled, or its scheduler is gone"))

    def _tidy(self) -> None:
        while True:
            try:
                self._client.unpublish_dataset(self._done.get_nowait())
            except Empty:
                return
            except (OSError, RuntimeError, ValueError, KeyError):
                continue  # it never began


_INSTALL = "penstock must be installed, in the same version, on every worker of the cluster"


def _local_cluster(distributed: Any, places: int) -> Any:
    """A scheduler, and one worker process whose threads each look after one step."""
    resources = {"CPU": float(places), "MEMORY": float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))}
    try:
        with _no_interrupts():
            return distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=places,
                resources=resources,
                memory_limit=None,  # the steps are in processes of their own
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"Dask cannot be started on this machine: {_said(error)}") from error


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile do not take Ctrl-C at the terminal, which is meant for the engine."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


def _asked(wants: ResourceRequest) -> dict[str, float]:
    """A request in the names of Dask's resources."""
    asked = {name: getattr(wants, field) for field, name in _NAMES.items()}
    return {name: size for name, size in asked.items() if size}


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("--workers dask needs Dask", extra="dask") from error
    return distributed


def _said(error: BaseException) -> str:
    """The first line of what Dask says, which tends to be long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
