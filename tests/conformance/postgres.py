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


@contextmanager
def server(bin_folder: Path) -> Iterator[str]:
    """Run a server; gives the URL of its database. PostgreSQL refuses to run as root, so root lends it a user."""
    import psycopg

    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    as_user = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)}
    subprocess.run(
        [bin_folder / "initdb", "-D", folder / "data", "-U", "penstock", "-A", "trust", "-E", "UTF8", "-N"],
        check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **as_user,
    )  # fmt: skip
    port = _free_port()
    options = ("fsync=off", "full_page_writes=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}")
    arguments = [part for option in options for part in ("-c", option)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [bin_folder / "postgres", "-D", folder / "data", "-p", str(port), *arguments],
            cwd=folder, env=environment, stdout=log, stderr=log, **as_user,
        )  # fmt: skip
    url = f"postgresql://penstock@127.0.0.1:{port}/postgres"
    try:
        _wait_until(lambda: psycopg.connect(url, connect_timeout=2).close(), psycopg.OperationalError, process, folder)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # "fast" shutdown
        process.wait(timeout=30)
        shutil.rmtree(folder)


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
