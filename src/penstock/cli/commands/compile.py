"""`penstock compile FILE --on BACKEND --output DIR`: the engine's own files, to read, commit or copy."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ...core.errors import UsageError
from ...wiring.backends import backend_named, compiled, write_bundle
from ..engines import add_engine, asked, needs_engine
from ..exits import Exit
from ..render import print_json
from .run import parse as parse  # the command's flags, the file, the pipeline's own

COMMON = ("profile", "json")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock compile FILE.py[:PIPELINE] --on BACKEND --output DIR [flags]"
    parser.epilog = """
writes what the engine reads, and the manifest that its steps start from. Nothing is started and no engine is asked;
the same pipeline gives the same files. What the engine cannot keep is refused (see `penstock check`).

examples:
  penstock compile churn.py --on airflow --output dags/
  penstock compile churn.py --on kubeflow --output build/ --profile prod
"""
    add_engine(parser)
    parser.add_argument("--output", metavar="DIR", help="the folder for the files; needed")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.help:
        arguments.parser.print_help()
        return Exit.OK
    if arguments.output is None:  # not argparse's to ask: `--help` works without it
        raise UsageError("penstock compile: where to? --output is missing", hint="--output dags/")
    found = asked(arguments)
    needs_engine(found, "compile")
    bundle = compiled(backend_named(found.engine), found.settings, found.plan)
    written = [os.path.relpath(path) for path in write_bundle(bundle, Path(arguments.output))]
    if arguments.json:
        print_json({"backend": found.engine, "entry": bundle.entry, "files": written, "manifest": found.plan.manifest})
        return Exit.OK
    sys.stdout.write("".join(f"{path}\n" for path in written))
    if found.plan.manifest:
        sys.stdout.write(
            f"its steps read {found.plan.manifest}, which `penstock deploy` puts there "
            f"({found.plan.name}.manifest.json has the same content)\n"
        )
    return Exit.OK
