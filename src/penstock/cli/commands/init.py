"""`penstock init DIR`: a project of five files that runs at once."""

from __future__ import annotations

import argparse
import os

from ...core.errors import UsageError
from ..render import print_json

COMMON = ("json",)
_TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "templates")
# file of the project -> template; a dot at the front would hide it from packaging
FILES = {
    "pipeline.py": "pipeline.py.txt",
    "test_pipeline.py": "test_pipeline.py.txt",
    "penstock.toml": "penstock.toml.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
examples:
  penstock init mything && cd mything && penstock run pipeline.py
  penstock init .
"""
    parser.add_argument("dir", metavar="DIR", help="a new folder, or an existing one without these files")


def execute(arguments: argparse.Namespace) -> int:
    folder = arguments.dir
    if not folder.strip():
        raise UsageError(f"penstock init: the folder's name is empty: {folder!r}", hint="penstock init mything")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"{folder} is a file", hint="give the name of a folder")
    there = [name for name in FILES if os.path.lexists(os.path.join(folder, name))]
    if there:
        raise UsageError(
            f"{folder} has {', '.join(there)} already, and nothing is overwritten",
            hint="give another folder, or move these files away",
        )
    try:
        os.makedirs(folder, exist_ok=True)
        for name, template in FILES.items():
            with open(os.path.join(_TEMPLATES, template), encoding="utf-8") as source:
                text = source.read().replace("PROJECT", os.path.basename(os.path.realpath(folder)))
            with open(os.path.join(folder, name), "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
    steps = [] if os.path.realpath(folder) == os.path.realpath(".") else [f"cd {folder}"]
    steps += ["penstock run pipeline.py", "penstock run pipeline.py --help", "penstock show"]
    if arguments.json:
        print_json({"folder": os.path.realpath(folder), "files": list(FILES), "next": steps})
    else:
        print(f"made {folder}: {', '.join(FILES)}\nnext:")
        print("\n".join(f"  {step}" for step in steps))
    return 0
