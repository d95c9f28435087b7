"""`python -m penstock.wiring.worker FD`: makes the services that the engine's boot message describes, then serves."""

from __future__ import annotations

import os
import socket
import sys

from ..engine.wire import Inbox, receive
from ..engine.worker import Worker, stand_between
from ..graph import Graph
from .config import Settings
from .project import Project

MODULE = __name__


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    inbox = Inbox()
    first, *rest = receive(connection, inbox)
    boot = first[1]
    sys.path[:] = boot["path"]
    if "far" in boot:  # started by a process of a cluster, in a folder of the cluster's own
        stand_between(connection)
        os.chdir(boot["far"]["cwd"])
    project = Project(Settings(**boot["settings"]))
    services = project.services(Graph(pipeline="", target=boot["entry"]))
    Worker(connection, inbox, services, rest).serve()


if __name__ == "__main__":
    main()
