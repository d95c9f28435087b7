"""Podman with settings, storage and a base image of its own, and its Docker-speaking socket.

The user's settings and images are never touched: everything is chosen by environment variables (`environment`), and
lies in `.engines/podman`. Nothing is ever pulled: the one base image is made here from the operating system's own
packages, under the name that Dockerfiles ask for, and a name that is not here is an error at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .places import EngineError, clean_environment, home
from .processes import Processes

BASE_IMAGES = ("localhost/python:3.11-slim", "docker.io/library/python:3.11-slim")
COMMANDS = ("podman", "buildah", "runc", "debootstrap")
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# Containers get the host's network: databases and object stores of a test listen on its loopback address only.
# The ulimits are what a machine without the right to raise them still grants; runc, because crun refuses cgroups of
# both versions beside each other.
CONTAINERS = """\
[containers]
default_ulimits = ["nofile={nofile}:{nofile}", "nproc={nproc}:{nproc}"]
netns = "host"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "{run}/libpod"

[network]
network_config_dir = "{folder}/networks"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{run}/storage"
"""
REGISTRIES = """\
unqualified-search-registries = []
short-name-mode = "disabled"

[aliases]
"python" = "docker.io/library/python"

[[registry]]
prefix = "docker.io"
location = "docker.io"
blocked = true

[[registry]]
prefix = "localhost"
location = "localhost"
blocked = true
"""


def environment() -> dict[str, str]:
    """The variables that make podman and buildah use what is here; add them to a process's own."""
    folder = home("podman")
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
    }


def run(*arguments: str | Path, timeout: float = 300) -> str:
    """One podman command; gives what it printed."""
    done = subprocess.run(
        ["podman", *arguments], env={**os.environ, **environment()}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    if done.returncode:
        raise EngineError(f"podman {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout.strip()


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """A socket that speaks Docker's protocol. Containers that carry its label are removed with it."""
    socket_folder = Path(tempfile.mkdtemp(prefix="penstock-podman-"))  # a socket's path is at most 107 bytes long
    processes = Processes(folder / "log")
    serving = Service(f"unix://{socket_folder / 'socket'}", processes)
    variables = {**clean_environment("DOCKER", "CONTAINER"), **environment()}
    processes.tell_watcher({"folder": str(socket_folder)})
    # Run by a shell when we were killed: containers are nobody's children and carry no mark, but they have a label.
    sweep = f"podman ps -aq --filter label={serving.label} | xargs -r podman rm -f -t 0"
    processes.tell_watcher({"command": ["sh", "-c", sweep], "environment": variables})
    try:
        processes.start("podman", ["podman", "system", "service", "--time=0", serving.url], variables)
        processes.wait_until("podman's socket is there", (socket_folder / "socket").exists, timeout=60)
        yield serving
    finally:
        try:
            serving.remove_containers()
        finally:
            processes.stop()
            shutil.rmtree(socket_folder)


class Service:
    def __init__(self, url: str, processes: Processes) -> None:
        self.url = url
        self.processes = processes
        self.label = f"penstock.engine={processes.mark}"
        self.environment = {**environment(), "DOCKER_HOST": url}

    def containers(self) -> list[str]:
        """Ids of those that carry the label, running or not."""
        return run("ps", "--all", "--quiet", "--filter", f"label={self.label}").split()

    def remove_containers(self) -> None:
        if found := self.containers():
            run("rm", "--force", "--time", "0", *found)


# -- installing ------------------------------------------------------------------------------------------------------


def missing_commands() -> list[str]:
    return [name for name in COMMANDS if shutil.which(name) is None]


def write_settings() -> None:
    """What lives only as long as the machine is up goes where the system keeps such things."""
    folder = home("podman")
    folder.mkdir(parents=True, exist_ok=True)
    runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", tempfile.gettempdir())
    values = {
        "folder": folder,
        "run": f"{runtime}/penstock-podman-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}",
        "nofile": _limit("RLIMIT_NOFILE"),
        "nproc": _limit("RLIMIT_NPROC"),
    }
    for name, text in (("containers", CONTAINERS), ("storage", STORAGE), ("registries", REGISTRIES)):
        (folder / f"{name}.conf").write_text(text.format(**values), encoding="utf-8")
    exports = "".join(f"export {name}='{value}'\n" for name, value in environment().items())
    (folder / "environment.sh").write_text(exports, encoding="utf-8")


def _limit(name: str) -> int:
    import resource

    most = 1_048_576
    if name == "RLIMIT_NPROC":  # the kernel refuses more than there can be processes
        most = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    hard = resource.getrlimit(getattr(resource, name))[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def has_base_image() -> bool:
    found = run("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    return all(name in found for name in BASE_IMAGES)


def make_base_image() -> None:
    """Debian with its Python, under the name of the image that Dockerfiles of Python projects start from."""
    with tempfile.TemporaryDirectory(prefix="penstock-rootfs-") as temporary:
        rootfs = Path(temporary) / "rootfs"
        _must(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", rootfs, _mirror()])
        # Builds in it reach the package index as this machine does, whose certificates may not be Debian's.
        shutil.copy(CERTIFICATES, rootfs / CERTIFICATES.relative_to("/"))
        (rootfs / "usr/bin/python").symlink_to("python3")
        (rootfs / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)
        for package in (rootfs / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        packed = Path(temporary) / "rootfs.tar"
        _must(["tar", "-C", rootfs, "-cf", packed, "."])
        run("import", "--quiet", "--change", 'CMD ["python3"]', packed, BASE_IMAGES[0], timeout=600)
    for name in BASE_IMAGES[1:]:
        run("tag", BASE_IMAGES[0], name)


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if sources.exists():
        for line in sources.read_text(encoding="utf-8").splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    classic = Path("/etc/apt/sources.list")
    if classic.exists():
        for line in classic.read_text(encoding="utf-8").splitlines():
            if line.startswith("deb "):
                return next(word for word in line.split()[1:] if "://" in word)
    raise EngineError(
        "no Debian mirror in /etc/apt: the base image is made from Debian's packages\n"
        "  hint: run this on Debian or on a system derived from it"
    )


def _must(command: Sequence[str | Path]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise EngineError(f"{command[0]} failed, exit code {done.returncode}:\n{tail}")


def version() -> str:
    done = subprocess.run(["podman", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()
