"""Watches one attempt: what it opens, connects to, starts, asks of the environment and draws from a generator.

One audit hook for the process, installed when the first cacheable step runs; Python cannot take one away again, so it
looks at one list and leaves while nobody watches. An event belongs to the attempt of its context, else of the thread
that started its thread, else to every attempt that runs in this process: blaming one too many costs a computation,
blaming one too few would be a lie.
"""

from __future__ import annotations

import builtins
import importlib
import os
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from types import FrameType, TracebackType
from typing import Any, ClassVar

from ...ports.records import HiddenInput, HiddenKind
from .asking import NOBODY, UNKNOWN, Asker, asker, is_user, stack_of
from .places import absolute, can_be_made, is_library_business, is_never, never, shown
from .processes import watch_starts

_MOST = 1000  # of one kind; what comes after them is one more input, "*", that nothing declares
_FORKED = "fork"
_PROBES = frozenset({"cc", "gcc", "ld", "ldconfig", "lscpu", "nvidia-smi", "sysctl", "uname"})
_TAG = "_penstock_watch"
_ROOM = os.path.join(os.path.dirname(__file__), "")
_HERE = -1  # in an event: relative to the current folder, not to an open one, of which only the number is told


class Watch:
    """Open around the step's function. `found` says what was seen, in order; nothing is said twice.

    own: beginnings of paths that are the attempt's or penstock's.  shared: its thread runs other attempts too (an
    event loop), so that a thread may have been started for any of them.
    """

    def __init__(self, own: Sequence[str] = (), *, shared: bool = False) -> None:
        self._own = tuple(own)
        self._shared = shared
        self._found: dict[tuple[HiddenKind, str], HiddenInput] = {}
        self._kept: dict[HiddenKind, int] = {}
        self._written: set[str] = set()  # and what is declared or told already
        self._ports: set[Any] = set()  # of hosts that were looked up: the connection that follows says no more
        self._before: dict[str, Any] = {}
        self._seeded: set[str] = set()
        self._is_open = False
        self._token: Token[Watch | None] | None = None

    def __enter__(self) -> Watch:
        self._thread = None if self._shared else threading.get_ident()
        self._token = _WATCH.set(self)
        self._is_open = True
        _opened(self)
        self._before = _states()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        for name, state in _states().items():
            self._compare(name, state)
        _closed(self)
        assert self._token is not None
        _WATCH.reset(self._token)

    @property
    def found(self) -> tuple[HiddenInput, ...]:
        return tuple(self._found.values())

    def declare(self, path: str) -> None:
        """The step says that it reads this file, or whatever lies in this folder."""
        where = absolute(path)
        self._written.add(where)
        self._own += (os.path.join(where, ""),)

    # -- what happens ------------------------------------------------------------------------------------------------

    def reads(self, path: str) -> None:
        if self._is_own(path):
            return
        try:
            found = os.stat(path)
        except OSError:
            found = None
        if found is not None and not stat.S_ISREG(found.st_mode):
            return
        asked = self._asked("file")
        if asked is NOBODY or (not asked.direct and (found is None or is_library_business(path))):
            return  # a library that looks for a file that is not there, or for one of its own
        self._note("file", shown(path), asked)
        self._written.add(path)  # once is enough

    def writes(self, path: str, *, replaces: bool = False) -> None:
        """It comes before the call: what will be left of the file that is there decides."""
        if can_be_made(path) or (replaces and os.path.isfile(path) and os.access(path, os.W_OK)):
            self._written.add(path)

    def makes_folder(self, path: str) -> None:
        if can_be_made(path):
            self._written.add(path)
            self._own += (os.path.join(path, ""),)

    def moves(self, source: str, target: str, *, replaces: bool) -> None:
        """A rename or a link: what was the attempt's stays so, and what was not is looked at."""
        if self._is_own(source):
            if os.path.isdir(source):
                self.makes_folder(target)
            elif os.path.lexists(source):
                self.writes(target, replaces=replaces)
        elif self._is_own(target) and not is_never(source):
            self.lists(source) if os.path.isdir(source) else self.reads(source)

    def lists(self, path: str) -> None:
        if path in self._written or os.path.join(path, "").startswith(self._own):
            return
        asked = self._asked("folder")
        if asked is not NOBODY and (asked.direct or not is_library_business(os.path.join(path, ""))):
            self._note("folder", shown(path), asked)

    def looks_up(self, host: str, port: Any) -> None:
        self._ports.add(port)
        self._reaches("network", f"{host}:{port}")

    def connects(self, address: Any) -> None:
        if isinstance(address, tuple) and len(address) >= 2:
            if address[1] not in self._ports:
                self._reaches("network", f"{address[0]}:{address[1]}")
        elif isinstance(address, str | bytes):
            path = os.fsdecode(address)
            asked = self._asked("network")
            if asked is not NOBODY and asked.direct and not path.startswith(self._own):
                self._note("network", path, asked)

    def starts(self, program: str) -> None:
        self._reaches("process", program, unless_library=program in _PROBES)

    def forks(self) -> None:
        """A child that goes on with this code. A package that has some computes in them, as far as anybody can tell."""
        asked = self._asked("process")
        if asked is not NOBODY and not asked.packaged:
            self._note("process", _FORKED, asked)

    def asks(self, variable: str, frame: FrameType) -> None:
        if variable == "*":
            for key in [key for key in self._found if key[0] == "environment"]:
                del self._found[key]
        if ("environment", "*") not in self._found and (asked := asker(frame)) is not NOBODY:
            self._note("environment", variable, asked)

    def imported(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """What an import draws is not the step's; a generator that it brought is as good as new."""
        for name, state in after.items():
            if self._before.get(name) == before.get(name):
                self._before[name] = state

    def seeds(self, generator: str, given: bool) -> None:
        if generator not in self._seeded:
            self._compare(generator, _states().get(generator))
        if given:
            self._seeded.add(generator)
        else:
            self._note("random", generator, UNKNOWN)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _compare(self, generator: str, state: Any) -> None:
        if generator not in self._seeded and state != self._before.get(generator):
            self._note("random", generator, UNKNOWN)

    def _reaches(self, kind: HiddenKind, name: str, *, unless_library: bool = False) -> None:
        asked = self._asked(kind)
        if asked is not NOBODY and not (unless_library and not asked.direct):
            self._note(kind, name, asked)

    def _is_own(self, path: str) -> bool:
        return path in self._written or path.startswith(self._own)

    def _asked(self, kind: HiddenKind) -> Asker:
        """By the frames of this thread; where they say nothing, by what the step's own thread is doing."""
        if (kind, "*") in self._found:
            return NOBODY  # it can get no worse
        asked = asker(_outside())
        if asked is UNKNOWN and self._thread not in (None, threading.get_ident()):
            asked = asker(stack_of(self._thread))
            asked = Asker(asked.where, direct=False, packaged=asked.packaged) if asked is not NOBODY else asked
        return asked

    def _note(self, kind: HiddenKind, name: str, asked: Asker) -> None:
        if (kind, name) in self._found:
            return
        self._kept[kind] = self._kept.get(kind, 0) + 1
        name = name if self._kept[kind] <= _MOST else "*"
        self._found[kind, name] = HiddenInput(kind, name, asked.where)


_WATCH: ContextVar[Watch | None] = ContextVar("penstock_watch", default=None)
_NOBODYS = Watch(shared=True)
_open: list[Watch] = []  # of the attempts that run in this process now
_lock = threading.Lock()
_installed = False
_in_place = False  # what is put in the place of os.environ's class, of imports and of starts
_runs = 0  # of this process that are under way


class Unwatched:
    """Around what penstock itself does in a thread of its own: no attempt that runs beside it answers for that.

    Holds for callbacks that are given to an event loop from inside, for these have the context of whoever gives them.
    A loop looks hosts up in threads that have none. So meanwhile a look-up that is nobody's for certain says nothing;
    the connection that follows it does, and has its context.
    """

    under_way: ClassVar[int] = 0

    def __enter__(self) -> None:
        self._token = _WATCH.set(_NOBODYS)
        with _lock:
            Unwatched.under_way += 1

    def __exit__(self, *_: object) -> None:
        with _lock:
            Unwatched.under_way -= 1
        _WATCH.reset(self._token)


def _opened(watch: Watch) -> None:
    global _installed
    with _lock:
        if not _installed:
            never()
            sys.addaudithook(_hook)
            _installed = True
        _open.append(watch)
        if not _in_place or type(os.environ) is _Environ:  # a step may have put another mapping there
            _put_in_place(True)
        else:
            watch_starts(True, _notice_fork)  # multiprocessing may have been imported since


def _closed(watch: Watch) -> None:
    with _lock:
        _open.remove(watch)
        if not _open and not _runs:
            _put_in_place(False)


class Ready:
    """For the length of a run, what watches stays in its place once a step has needed it: it is not put there and taken
    away for every step."""

    def __enter__(self) -> None:
        global _runs
        with _lock:
            _runs += 1

    def __exit__(self, *_: object) -> None:
        global _runs
        with _lock:
            _runs -= 1
            if not _open and not _runs and _in_place:
                _put_in_place(False)


def _put_in_place(on: bool) -> None:
    global _in_place
    _in_place = on
    _watch_variables(on)
    _watch_calls(on)


def _whose() -> Sequence[Watch]:
    """The attempts that an event of this thread may belong to."""
    watch = _owner()
    if watch is _NOBODYS:
        return ()
    if watch is not None and watch._is_open:
        return (watch,)
    return tuple(_open)


def _owner() -> Watch | None:
    return _WATCH.get() or getattr(threading.current_thread(), _TAG, None)


def _outside() -> FrameType | None:
    """The nearest frame that does not watch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_ROOM):
        frame = frame.f_back
    return frame


# -- the environment ---------------------------------------------------------------------------------------------------

_Environ: Any = type(os.environ)
_THROUGH = (os.getenv.__code__.co_filename, "<frozen _collections_abc>", "<frozen os>")


class _Watched(_Environ):  # type: ignore[misc]
    """`os.environ` while somebody watches: whoever holds it holds this."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        _asked_for(key)
        return _Environ.__getitem__(self, key)

    def __iter__(self) -> Any:
        _asked_for("*")
        return _Environ.__iter__(self)


def _watch_variables(on: bool) -> None:
    """Change the class of the mapping in its place, so that nobody is left with another one."""
    before, after = (_Environ, _Watched) if on else (_Watched, _Environ)
    for mapping in (os.environ, getattr(os, "environb", None)):
        if type(mapping) is before:
            mapping.__class__ = after


def _asked_for(key: Any) -> None:
    if not _open:
        return
    frame = sys._getframe(2)
    while frame.f_code.co_filename in _THROUGH and frame.f_back is not None:
        frame = frame.f_back
    if is_user(frame):
        for watch in _whose():
            watch.asks(os.fsdecode(key) if isinstance(key, str | bytes) else str(key), frame)


def _seeding(generator: str, given: bool) -> None:
    for watch in _whose():
        watch.seeds(generator, given)


# -- imports and threads -----------------------------------------------------------------------------------------------

_start = threading.Thread.start
_import = builtins.__import__
_import_module = importlib.import_module
_generators: Any = None
_inside = threading.local()  # an import: what it imports in turn belongs to it


def _watch_calls(on: bool) -> None:
    """There is no event for the end of an import, and libraries draw random numbers in theirs (rich does); nor for the
    start of a thread."""
    owner: Any
    for owner, name, plain, watched in (
        (builtins, "__import__", _import, _watched_import),
        (importlib, "import_module", _import_module, _watched_import_module),
        (threading.Thread, "start", _start, _watched_start),
    ):
        before, after = (plain, watched) if on else (watched, plain)
        if getattr(owner, name) is before:
            setattr(owner, name, after)
    watch_starts(on, _notice_fork)


def _watched_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    if not _open or (not level and not fromlist and name in sys.modules) or getattr(_inside, "an_import", False):
        return _import(name, globals, locals, fromlist, level)
    with _Importing():
        return _import(name, globals, locals, fromlist, level)


def _watched_import_module(name: str, package: str | None = None) -> Any:
    if not _open or name in sys.modules or getattr(_inside, "an_import", False):
        return _import_module(name, package)
    with _Importing():
        return _import_module(name, package)


def _watched_start(thread: threading.Thread) -> None:
    """A thread has no context of its own: it is told whose it is."""
    watch = _owner()
    if watch is not None and not watch._shared:
        setattr(thread, _TAG, watch)
    _start(thread)


class _Importing:
    """Around an import that is not part of another one."""

    def __enter__(self) -> None:
        self._before = _states()
        _inside.an_import = True

    def __exit__(self, *_: object) -> None:
        _inside.an_import = False
        with _lock:
            if _open:
                watch_starts(True, _notice_fork)  # multiprocessing may have come with it
        if (after := _states()) != self._before:
            for watch in tuple(_open) if _owner() is _NOBODYS else _whose():
                watch.imported(self._before, after)


def _states() -> dict[str, Any]:
    """Of the global generators that are loaded."""
    if "random" not in sys.modules and "numpy.random.mtrand" not in sys.modules:
        return {}
    global _generators
    before, _inside.an_import = getattr(_inside, "an_import", False), True  # ours, and what numpy imports to tell
    try:
        if _generators is None:
            from . import generators as _generators  # a process that has none needs no module to look at them
        found: dict[str, Any] = _generators.states(_seeding)
        return found
    finally:
        _inside.an_import = before


def leave_out(trace: TracebackType | None) -> None:
    """Take the frames of watched imports out of a traceback: nobody wrote them."""
    while trace is not None:
        while trace.tb_next is not None and trace.tb_next.tb_frame.f_code.co_filename == __file__:
            trace.tb_next = trace.tb_next.tb_next
        trace = trace.tb_next


# -- audit events ------------------------------------------------------------------------------------------------------


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _open and (notice := _NOTICED.get(event)) is not None:
        try:
            notice(*args)
        except Exception:  # noqa: BLE001 - whatever is odd about an event, the step's own call goes on
            pass


def _notice_open(path: Any, mode: str | None, flags: int, *_: Any) -> None:
    if isinstance(path, int) or (flags and flags & getattr(os, "O_DIRECTORY", 0)):
        return
    if mode is None:
        access = flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
        replaces = bool(flags & os.O_TRUNC and not flags & os.O_EXCL)
        reading = access == os.O_RDONLY or (access == os.O_RDWR and not flags & (os.O_TRUNC | os.O_EXCL))
    else:
        replaces = "w" in mode
        reading = "r" in mode or ("+" in mode and "a" in mode)
    if reading and type(path) is str and path.startswith(never()):
        return
    full = os.path.abspath(os.fsdecode(path))
    if not is_never(full):
        for watch in _whose():
            watch.reads(full) if reading else watch.writes(full, replaces=replaces)


def _notice_listing(path: Any = None, *_: Any) -> None:
    if isinstance(path, int):
        return
    full = os.path.abspath(os.fsdecode(path or "."))
    if not is_never(os.path.join(full, "")):
        for watch in _whose():
            watch.lists(full)


def _notice_folder(path: Any, _mode: Any = None, at: int = _HERE) -> None:
    if at == _HERE:
        for watch in _whose():
            watch.makes_folder(os.path.abspath(os.fsdecode(path)))


def _notice_rename(source: Any, target: Any, at: int = _HERE, to: int = _HERE, *, replaces: bool = True) -> None:
    if at == to == _HERE:
        for watch in _whose():
            watch.moves(os.path.abspath(os.fsdecode(source)), os.path.abspath(os.fsdecode(target)), replaces=replaces)


def _notice_link(source: Any, target: Any, at: int = _HERE, to: int = _HERE) -> None:
    _notice_rename(source, target, at, to, replaces=False)


def _notice_symlink(source: Any, target: Any, at: int = _HERE) -> None:
    """What it points at is told from where the link lies."""
    _notice_link(os.path.join(os.path.dirname(os.fsdecode(target)), os.fsdecode(source)), target, at)


def _notice_lookup(host: Any, port: Any = None, *_: Any) -> None:
    if Unwatched.under_way and ((watch := _owner()) is None or not watch._is_open):
        return
    if host is not None:
        for watch in _whose():
            watch.looks_up(os.fsdecode(host), port)


def _notice_connection(_socket: Any, address: Any) -> None:
    for watch in _whose():
        watch.connects(address)


def _notice_process(program: Any, args: Any = None, *_: Any) -> None:
    if isinstance(args, list | tuple) and args:
        program = args[0]
    words = os.fsdecode(program).split(maxsplit=1)
    for watch in _whose():
        watch.starts(os.path.basename(words[0]) if words else "a program")


def _notice_fork() -> None:
    for watch in _whose():
        watch.forks()


def _notice_database(path: Any, *_: Any) -> None:
    text = os.fsdecode(path).removeprefix("file:").partition("?")[0]
    if text in ("", ":memory:"):
        return
    full = os.path.abspath(text)
    for watch in _whose():
        watch.reads(full) if os.path.exists(full) else watch.writes(full)  # none that was there is written over


_NOTICED: dict[str, Callable[..., None]] = {
    "open": _notice_open,
    "os.listdir": _notice_listing,
    "os.scandir": _notice_listing,
    "os.mkdir": _notice_folder,
    "os.rename": _notice_rename,
    "os.link": _notice_link,
    "os.symlink": _notice_symlink,
    "socket.getaddrinfo": _notice_lookup,
    "socket.gethostbyname": _notice_lookup,
    "socket.connect": _notice_connection,
    "subprocess.Popen": _notice_process,
    "os.system": _notice_process,
    "os.exec": _notice_process,
    "os.posix_spawn": _notice_process,
    "os.fork": _notice_fork,
    "os.forkpty": _notice_fork,
    "sqlite3.connect": _notice_database,
}
