"""A real PostgreSQL server, as Debian packages it, in a temporary folder on a free port."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """The folder with initdb and postgres, or None where PostgreSQL is not installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    folders = [Path(folder) for folder in found] + ([Path(on_path).parent] if on_path else [])
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class Server:
    """A server of our own. PostgreSQL refuses to run as root, so root lends it a user."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin = bin_folder
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
        user = _unprivileged_user()
        self._as_user = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        if user is not None:
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self._folder)}
        subprocess.run(
            [self._bin / "initdb", "-D", self._folder / "data", "-U", "penstock", "-A", "trust", "-E", "UTF8", "-N"],
            check=True, cwd=self._folder, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            **self._as_user,
        )  # fmt: skip
        self._port = _free_port()
        self.url = f"postgresql://penstock@127.0.0.1:{self._port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it takes connections. A session of its own: Ctrl-C is not for it."""
        import psycopg

        folder = self._folder
        options = (
            "fsync=off",
            "full_page_writes=off",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
        )
        arguments = [part for option in options for part in ("-c", option)]
        with open(folder / "log", "ab") as log:
            self.process = process = subprocess.Popen(
                [self._bin / "postgres", "-D", folder / "data", "-p", str(self._port), *arguments],
                cwd=folder, env=self._environment, stdout=log, stderr=log, start_new_session=True, **self._as_user,
            )  # fmt: skip
        _wait_until(
            lambda: psycopg.connect(self.url, connect_timeout=2).close(), psycopg.OperationalError, process, folder
        )

    def stop(self, how: int = signal.SIGINT) -> None:
        """SIGINT is its "fast" shutdown, SIGQUIT its "immediate" one, after which it recovers as after a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)


@contextmanager
def server(bin_folder: Path) -> Iterator[str]:
    """Run a server; gives the URL of its database."""
    running = Server(bin_folder)
    try:
        running.start()
        yield running.url
    finally:
        running.remove()


def _unprivileged_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until(attempt, refused: type[Exception], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except refused:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(folder / 'log').read_text()}") from None
