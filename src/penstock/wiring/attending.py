"""What a cluster's machine does with an attempt: make the services that the order describes, check that this place can
do it, and let an attendant run it in a warm worker process.

The function `attend` is what the adapters hand to Ray and Dask, which find it by its name: penstock is installed there.
"""

from __future__ import annotations

import os
import sys
import threading
from time import monotonic
from typing import Any

import msgspec

from ..core.errors import ClusterError, PenstockError, StoreUnavailableError
from ..data.redaction import redacted
from ..engine.attending import Attendant, failed_before_it_began
from ..engine.failure import failure_of
from ..engine.far import Order
from ..engine.services import Services
from ..engine.tasks import TASK_DECODER, StepTask
from ..graph import Graph
from ..ports.artifacts import ArtifactRef
from ..ports.cluster import Post
from ..ports.runlog import Store
from .config import Settings
from .manifest import with_passwords_of_here, without_passwords
from .project import Project
from .worker import MODULE

_IDLE_S = 20.0  # a worker process that waits this long for another attempt of its run ends
_SWEEP_S = 5.0
_PROBE_CHARS = 10_000  # too many to be kept beside the events

Run = tuple[str, int]  # its id and epoch: what it imported is the code of that moment


class Far(msgspec.Struct, frozen=True):
    """Of a boot message, what only another machine needs to know."""

    version: str  # of penstock
    python: str
    prefix: str  # of the engine's environment: what lies below it is looked for in this machine's own
    cwd: str
    host: str
    probe: ArtifactRef  # what the engine has just stored: whoever uses the same store finds it


def far_boot(services: Services, project: Project, run_id: str) -> None:
    """Let the services of a run be made on other machines, too."""
    probe = project.artifacts.save(f"penstock {run_id} ".ljust(_PROBE_CHARS, "."))
    far = Far(_version(), _python(), sys.prefix, os.getcwd(), os.uname().nodename, probe)
    settings = msgspec.structs.replace(
        project.settings,
        runs=_absolute(project.settings.runs_url, "sqlite:///"),
        artifacts=_absolute(project.settings.artifacts_url, "file://"),
    )
    safe = without_passwords(settings)  # a cluster keeps what it is given for whoever may look at it
    services.boot |= {"settings": msgspec.structs.asdict(safe), "far": msgspec.to_builtins(far)}


def attend(content: bytes, post: Post) -> None:
    """One attempt, from order to outcome, on this machine."""
    order = msgspec.msgpack.decode(content, type=Order)
    task = TASK_DECODER.decode(order.task)
    try:
        attendant, key = _attendant_for(order.boot, task)
    except PenstockError as error:
        post.send(failed_before_it_began(failure_of(error)))
        return
    is_whole = False
    try:
        attendant.attend(task, post)
        # A process that used an accelerator keeps memory of it, which is somebody else's turn now.
        is_whole = not post.unwanted() and not (task.resources is not None and task.resources.gpu)
    except SystemExit:
        # This process is told to go, and may be killed at any moment: half of an ending would be worse than none. The
        # worker ends itself, and what its step has started, when its connection closes.
        is_whole = True
        raise
    finally:
        if is_whole:
            _IDLE.put(key, attendant)
        else:
            attendant.close()


class Idle:
    """Warm attendants that wait for another attempt of their run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Any, list[tuple[float, Attendant]]] = {}
        self._sweeper: threading.Thread | None = None

    def take(self, key: Any) -> Attendant | None:
        with self._lock:
            waiting = self._waiting.get(key)
            return waiting.pop()[1] if waiting else None

    def put(self, key: Any, attendant: Attendant) -> None:
        with self._lock:
            self._waiting.setdefault(key, []).append((monotonic(), attendant))
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, daemon=True, name="penstock-idle")
                self._sweeper.start()

    def _sweep(self) -> None:
        pause = threading.Event()
        while not pause.wait(_SWEEP_S):
            limit = monotonic() - _IDLE_S
            with self._lock:
                old = [each for waiting in self._waiting.values() for each in waiting if each[0] < limit]
                kept = {key: [each for each in waiting if each not in old] for key, waiting in self._waiting.items()}
                self._waiting = {key: waiting for key, waiting in kept.items() if waiting}
            for _, attendant in old:
                attendant.close()


_IDLE = Idle()
_CHECKED: set[Run] = set()


def _attendant_for(boot: dict[str, Any], task: StepTask) -> tuple[Attendant, Any]:
    """A worker process for this run with the environment as it is now: a cluster may choose GPUs by it."""
    run = (task.run_id, task.epoch)
    key = (run, frozenset(os.environ.items()))
    far = msgspec.convert(boot["far"], Far)
    settings = with_passwords_of_here(Settings(**boot["settings"]))
    project = Project(settings)
    if run not in _CHECKED:
        _check(far, project)
    if task.effect is not None:
        _check_run_log(far, project, task.run_id)
    _CHECKED.add(run)
    if (warm := _IDLE.take(key)) is not None:
        return warm, key
    services = project.services(Graph(pipeline="", target=boot["entry"]))
    services.boot = {**boot, **services.boot, "path": _search_path(boot["path"], far)}
    return Attendant(services, MODULE), key


def _check(far: Far, project: Project) -> None:
    """Whether this machine can run steps of that run. Raises PenstockError saying what is missing here."""
    here = os.uname().nodename
    if (far.version, far.python) != (_version(), _python()):
        raise ClusterError(
            f"'{here}' has penstock {_version()} on Python {_python()}, but the engine on '{far.host}' is penstock "
            f"{far.version} on Python {far.python}",
            hint="install the same versions on every machine of the cluster",
        )
    for what, folder in (("project folder", project.settings.root), ("working folder", far.cwd)):
        if not os.path.isdir(folder):
            raise ClusterError(
                f"the {what} {folder} of '{far.host}' is not on '{here}'",
                hint="the code must lie at the same path on every machine: a shared folder, or an image that holds it",
            )
    if not project.artifacts.intact(far.probe):
        url = redacted(project.settings.artifacts_url)
        raise StoreUnavailableError(
            f"the artifact store {url} on '{here}' is not the one that the engine on '{far.host}' uses",
            hint="set PENSTOCK_ARTIFACTS to a place that every machine reaches, such as s3://bucket/prefix",
        )


def _check_run_log(far: Far, project: Project, run_id: str) -> None:
    """An effect asks the run log whether its attempt still counts."""
    url = project.settings.runs_url
    store: Store | None = None
    try:
        store = project.store if _is_there(url) else None
        if store is None or store.find_run(run_id) is None:
            raise StoreUnavailableError(
                f"the run log {redacted(url)} on '{os.uname().nodename}' does not know run {run_id} of '{far.host}', "
                "and a step with an effect must ask it",
                hint="set PENSTOCK_RUNS to a run log that every machine reaches, such as postgresql://…",
            )
    finally:
        if store is not None:
            store.close()


def _is_there(url: str) -> bool:
    """Whether the file of a run log exists: opening one that does not would make an empty one."""
    return not url.startswith("sqlite:///") or os.path.exists(url.removeprefix("sqlite:///"))


def _search_path(path: list[str], far: Far) -> list[str]:
    """Where modules are found: as the engine finds them, with this machine's own environment."""
    if sys.prefix == far.prefix:
        return path
    below = os.path.join(far.prefix, "")
    return [*(each for each in path if not each.startswith(below)), *sys.path]


def _absolute(url: str, scheme: str) -> str:
    """A path that means the same in any working folder; other URLs as they are."""
    path = url.removeprefix(scheme)
    return url if "://" in path else scheme * url.startswith(scheme) + os.path.abspath(os.path.expanduser(path))


def _version() -> str:
    """Of penstock, by the package itself, which lies above this room."""
    return str(vars(sys.modules[__name__.partition(".")[0]])["__version__"])


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
