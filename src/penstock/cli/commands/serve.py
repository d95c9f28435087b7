"""`penstock serve models:/NAME@ALIAS`: a registered model behind HTTP, which follows its alias."""

from __future__ import annotations

import argparse
import os
import sys

from ...core.errors import RegistryError, UsageError
from ...models.reference import parse_model_reference
from ...serving.server import serve
from ..opening import project_for

COMMON = ("profile", "project")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
the server follows the alias: when it moves, requests are answered by the new version without a pause

examples:
  penstock serve models:/churn@champion
  penstock serve churn@champion --port 0
  PENSTOCK_TOKEN=… penstock serve churn@champion --host 0.0.0.0
"""
    add = parser.add_argument
    add("model", metavar="MODEL", help="models:/NAME@ALIAS, NAME@ALIAS or NAME/VERSION")
    add("--host", default="127.0.0.1", help="default: this machine only; others need a token")
    add("--port", type=_port, default=8080, metavar="N", help="default: 8080; 0 takes a free one")
    add("--token", metavar="TEXT", help="what requests must carry (better: the variable PENSTOCK_TOKEN)")
    add("--poll", type=_seconds, default=1.0, metavar="SECONDS", help="how often to look whether the alias moved")


def execute(arguments: argparse.Namespace) -> int:
    try:
        parse_model_reference(arguments.model)
    except RegistryError as error:  # no registry was asked yet: it is the command line that is wrong
        raise UsageError(error.problem, hint=error.hint) from error
    project = project_for(arguments, must_exist=False)
    token = arguments.token or os.environ.get("PENSTOCK_TOKEN") or None
    if arguments.token == "":
        raise UsageError("--token is empty", hint="leave it out, or give a secret")

    def ready(url: str) -> None:
        sys.stdout.write(f"serving {arguments.model} at {url}  (Ctrl-C stops)\n")
        sys.stdout.flush()

    serve(
        arguments.model,
        registry=project.registry,
        host=arguments.host,
        port=arguments.port,
        poll_s=arguments.poll,
        token=token,
        on_ready=ready,
    )
    return 0


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
