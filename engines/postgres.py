"""PostgreSQL servers of our own, as Debian packages it: in temporary folders, on free loopback ports.

A database that takes long to fill is filled once, kept as a folder (a template), and copied for every server.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .places import EngineError, free_port
from .processes import Processes

USER = "engine"
# Nothing here must outlive the machine: a crash of the machine is the only thing fsync helps against.
SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses=127.0.0.1")


@dataclass(frozen=True)
class Postgres:
    """A running server. Everybody on this machine may connect, without a password."""

    port: int
    bin: Path
    data: Path
    processes: Processes
    start: Callable[[], None]  # again, after `stop`

    def stop(self) -> None:
        """As if the machine with the database were away for a while."""
        self.processes.stop_one("postgres")

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def create_database(self) -> str:
        """A new, empty database; gives its URL."""
        name = f"d{uuid.uuid4().hex[:12]}"
        subprocess.run([self.bin / "createdb", "--maintenance-db", self.url, name], check=True, timeout=60)
        return f"{self.url.rpartition('/')[0]}/{name}"

    def dump(self) -> str:
        """All that is in the database, as text: what a search for secrets goes through."""
        done = subprocess.run(
            [self.bin / "pg_dump", "--dbname", self.url, "--inserts"], capture_output=True, check=True, timeout=120
        )
        return done.stdout.decode(errors="replace")


def binaries() -> Path:
    """The folder with initdb, postgres and the clients."""
    candidates = [Path(each) for each in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    if (on_path := shutil.which("initdb")) is not None:
        candidates.append(Path(on_path).resolve().parent)
    for candidate in candidates:
        if all((candidate / name).exists() for name in ("initdb", "postgres", "pg_isready", "createdb", "pg_dump")):
            return candidate
    raise EngineError("no PostgreSQL server (initdb, postgres, pg_isready) on this machine\n  hint: .ci/system")


def version() -> str:
    done = subprocess.run([binaries() / "postgres", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def server(logs: Path, *, template: Path | None = None) -> Iterator[Postgres]:
    """Run a server, empty or from a template. Start it before what connects to it, so that it stops last."""
    bin_folder, user = binaries(), _unprivileged_user()
    # Not below the caller's folder: the user that root lends must be able to walk there.
    folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    processes = Processes(logs)
    processes.tell_watcher({"folder": str(folder)})
    try:
        data = folder / "data"
        if template is not None:
            shutil.copytree(template, data)
        as_user = _lend(folder, user)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}
        if template is None:
            _initdb(bin_folder, data, environment, as_user)
        port = free_port()
        options = [part for each in (*SETTINGS, f"unix_socket_directories={folder}") for part in ("-c", each)]
        command: list[str | Path] = [bin_folder / "postgres", "-D", data, "-p", str(port), *options]
        ready: list[str | Path] = [bin_folder / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]

        def start() -> None:
            # SIGINT is its "fast" shutdown: SIGTERM waits for clients to go, SIGQUIT leaves something to recover.
            processes.start("postgres", command, environment, cwd=folder, user=as_user, stop=signal.SIGINT)
            processes.wait_until(
                "PostgreSQL takes connections", lambda: subprocess.run(ready, check=False).returncode == 0, timeout=60
            )

        start()
        yield Postgres(port, bin_folder, data, processes, start)
    finally:
        processes.stop()
        shutil.rmtree(folder)


def make_template(folder: Path, fill: Callable[[Postgres], None], logs: Path) -> None:
    """Fill an empty server's database, stop it in good order, and keep its data in `folder`."""
    with server(logs) as running:
        fill(running)
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(running.data, folder)


def _initdb(bin_folder: Path, data: Path, environment: Mapping[str, str], as_user: Mapping[str, object]) -> None:
    command = [bin_folder / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    done = subprocess.run(  # type: ignore[call-overload]
        command, cwd=data.parent, env=environment, capture_output=True, text=True, **as_user
    )
    if done.returncode:
        raise EngineError(f"initdb failed, exit code {done.returncode}:\n{done.stderr}")


def _unprivileged_user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root, so root lends it a user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _lend(folder: Path, user: pwd.struct_passwd | None) -> dict[str, object]:
    """Give the folder away; the arguments with which Popen becomes that user."""
    if user is None:
        return {}
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
