"""`penstock build [FILE]`: the container image that a project's steps run in."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from ...authoring.identity import project_root
from ...authoring.pipeline import Pipeline
from ...core.errors import UsageError
from ...core.units import shown_size
from ...graph import Graph
from ...images import BUILDERS, import_folders
from ...wiring.building import Built, Order, Prepared, build, builder_for, image_name, prepare
from ..opening import imported, pipeline_in, settings_for, traced
from ..render import counted, paint, print_json, shown_seconds


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock build [FILE.py[:PIPELINE]] [flags]"
    parser.epilog = """
writes a folder that holds a Dockerfile, the packages at their exact versions and the
project's files, and builds it with docker, podman or buildah. Then it looks into the
image: penstock, every module that the code imports, the pipeline itself. Only an image
that has them gets its name. Files that look like secrets are refused.

examples:
  penstock build pipeline.py
  penstock build churn.py --tag registry.example/churn:7 --profile prod
  penstock build --dockerfile-only --output image && docker build --tag churn image
"""
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="the file of the pipeline (default: all Python files of the project)")
    add("--tag", metavar="NAME", help="the image's name (default: the setting image, else the project folder's name)")
    add("--output", metavar="DIR", help="the folder to write (default: image in .penstock)")
    add("--with", dest="builder", choices=BUILDERS, help="what builds (default: the first that works here)")
    add("--dockerfile-only", action="store_true", help="write the folder, build nothing")
    add("--base", metavar="IMAGE", help="the image to start from (default: python:X.Y-slim, as the Python that runs)")
    add("--requirements", metavar="FILE", help="the project's lock (default: found in the project's folder)")
    add("--pip-conf", metavar="FILE", help="pip's configuration while building, of which the image keeps nothing")
    add("--quiet", "-q", action="store_true", help="say nothing before the result")


def execute(arguments: argparse.Namespace) -> int:
    root = _root(arguments)
    folders = import_folders(root or os.getcwd())  # before the file's own folder joins sys.path
    settings = settings_for(arguments, root)
    root = os.path.realpath(settings.root)
    tell = _silent if arguments.quiet else _told
    if arguments.pip_conf is not None and not os.path.isfile(arguments.pip_conf):
        raise UsageError(f"--pip-conf: there is no file {arguments.pip_conf}")
    graphs = _graphs(arguments.file, root)
    builder = None if arguments.dockerfile_only else builder_for(arguments.builder)
    from ... import __version__

    order = Order(
        penstock=__version__,
        graphs=graphs,
        import_folders=folders,
        output=arguments.output,
        base=arguments.base,
        requirements=arguments.requirements,
        pip_conf=arguments.pip_conf,
    )
    prepared = prepare(settings, order, tell)
    for note in prepared.notes:
        tell(f"note: {note}")
    name = arguments.tag or image_name(settings)
    built = None if builder is None else build(prepared, name, builder, tell, arguments.pip_conf)
    if arguments.json:
        print_json(_facts(prepared, built))
    else:
        print(_page(prepared, built, name))
    return 0


def _root(arguments: argparse.Namespace) -> str | None:
    """The project's folder, where --project or the file tells it; the file must lie in it."""
    given = None if arguments.project is None else os.path.realpath(arguments.project)
    if arguments.file is None:
        return given
    path = arguments.file.rpartition(":")[0] if ".py:" in arguments.file else arguments.file
    if path.endswith(".ipynb"):
        raise UsageError(
            f"{path} is a notebook, and no image can hold its functions",
            hint="move the steps and the pipeline to a .py file, and import them in the notebook",
        )
    real = os.path.realpath(path)
    if given is not None and os.path.exists(real) and not real.startswith(os.path.join(given, "")):
        raise UsageError(
            f"{path} lies outside the project {given}, and the image holds only that",
            hint="move it into the project, or leave --project out",
        )
    return given or project_root(real)


def _graphs(file: str | None, root: str) -> dict[str, Graph]:
    """ "file.py:name" -> graph, of the pipeline that is named or of every one in the file."""
    if file is None:
        return {}
    path, _, chosen = file.rpartition(":") if ".py:" in file else (file, "", "")
    names = imported(path)
    own = {name: value for name, value in names.items() if isinstance(value, Pipeline)}
    own = {name: value for name, value in own.items() if value.fn.__module__ == names.get("__name__")}
    if chosen or len(own) < 2:
        found = pipeline_in(names, path, chosen or None)
        own = {chosen or _name_in(names, found): found}
    place = os.path.relpath(os.path.realpath(path), root).replace(os.sep, "/")
    return {f"{place}:{name}": traced(pipeline).graph for name, pipeline in own.items()}


def _name_in(names: dict[str, Any], found: Pipeline[..., Any]) -> str:
    return next(name for name, value in names.items() if value is found)


def _told(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _silent(line: str) -> None:
    return


def _facts(prepared: Prepared, built: Built | None) -> dict[str, Any]:
    return {
        "folder": str(prepared.folder),
        "packages": prepared.packages,
        "files": prepared.files,
        "revision": prepared.revision,
        "image": None if built is None else built.name,
        "id": None if built is None else built.id,
        "digest": None if built is None else built.digest,
        "size_bytes": None if built is None else built.size_bytes,
        "builder": None if built is None else built.builder,
        "seconds": None if built is None else built.seconds,
        "notes": [*prepared.notes, *(built.notes if built is not None else ())],
    }


def _page(prepared: Prepared, built: Built | None, name: str) -> str:
    what = f"{counted(prepared.packages, 'package')}, {counted(prepared.files, 'file')} of the project"
    if built is None:
        return f"wrote {prepared.folder}: {what}\nnext:\n  docker build --tag {name} {prepared.folder}"
    lines = [f"note: {note}" for note in built.notes]
    size = "" if built.size_bytes is None else f", {shown_size(built.size_bytes)}"
    lines += [f"built {paint(built.name, 'bold')}: {what}{size}, {shown_seconds(built.seconds)} with {built.builder}"]
    lines += [f"  id     {built.id}", *([f"  digest {built.digest}"] if built.digest else [])]
    return "\n".join(lines)
