"""From a project and its settings to an image: what goes in, the folder, the build, a look inside, the name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from ..authoring.identity import is_notebook
from ..core.errors import DefinitionError, ImageError
from ..engine.environment import git_record, origins
from ..graph import Graph
from ..images import (
    Builder,
    Contents,
    Expected,
    Needs,
    Reached,
    Recipe,
    check_image,
    contents_of,
    find_builder,
    find_declared,
    locked,
    reached,
    write_folder,
)
from ..images.reached import python_files
from .config import Settings
from .project import Project

_REGISTRY = "penstock.lifecycle.steps:"  # gate, register, deploy


class Order(msgspec.Struct, frozen=True):
    """What somebody wants built. `graphs`: "file.py:pipeline", relative to the root -> its graph."""

    penstock: str  # the version that runs
    graphs: Mapping[str, Graph] = {}
    import_folders: tuple[str, ...] = ()
    output: str | None = None  # the folder; None: image/ in the project's home
    base: str | None = None
    requirements: str | None = None
    pip_conf: str | None = None


class Prepared(msgspec.Struct, frozen=True):
    """A folder that is ready to be built."""

    folder: Path
    expected: Expected
    revision: str
    packages: int
    files: int
    size_bytes: int
    notes: tuple[str, ...]


class Built(msgspec.Struct, frozen=True):
    """An image that was built, looked into and named."""

    name: str
    id: str
    digest: str | None
    size_bytes: int | None
    builder: str
    seconds: float
    notes: tuple[str, ...]


def prepare(settings: Settings, order: Order, tell: Callable[[str], None]) -> Prepared:
    """Write the folder. Raises: ImageError, MissingExtraError, DefinitionError (functions of a notebook)."""
    root = os.path.realpath(settings.root)
    _refuse_notebooks(order.graphs.values())
    project = Project(settings)
    if order.output is None:
        project.make_home()
    folder = Path(order.output or project.home / "image").absolute()
    if os.path.realpath(folder) == root or root.startswith(os.path.join(os.path.realpath(folder), "")):
        raise ImageError(f"{folder} holds the project itself", hint="give a folder of its own: --output DIR")
    contents = contents_of(root, _apart(settings, folder))
    code = reached(root, _entries(root, order, contents))
    declared = find_declared(root, order.requirements)
    packages = locked(root, declared, _needs(settings, order, code, _local_packages(root, code)), order.penstock)
    version = ".".join(map(str, sys.version_info[:2]))
    recipe = Recipe(
        title=os.path.basename(root),
        base=order.base or f"python:{version}-slim",
        penstock=order.penstock,
        requirements=bool(packages.requirements),
        hashed=packages.hashed,
        complete=packages.complete,
        wheels=bool(packages.wheels),
        pip_conf=order.pip_conf is not None,
        import_folders=order.import_folders,
        asked_for=contents.asked_for,
    )
    write_folder(folder, recipe, packages, contents, tell)
    graphs = {name: msgspec.json.decode(graph.to_json()) for name, graph in order.graphs.items()}
    source = "" if declared is None else declared.source
    return Prepared(
        folder=folder,
        expected=Expected(order.penstock, code.modules, code.missing, graphs, source),
        revision=_revision(root),
        packages=packages.count,
        files=len(contents.files),
        size_bytes=contents.size_bytes,
        notes=(*contents.notes, *packages.notes),
    )


def build(
    prepared: Prepared, name: str, builder: Builder, tell: Callable[[str], None], pip_conf: str | None = None
) -> Built:
    """Build the folder, look into the image, and give it its name. An image that lacks something never gets it."""
    began = monotonic()
    image = builder.build(prepared.folder, tell, revision=prepared.revision, pip_conf=pip_conf)
    tell("looking into the image: penstock, what the code imports, the pipeline")
    try:
        odd = check_image(builder, image, prepared.expected)
    except (ImageError, KeyboardInterrupt):
        builder.drop(image)
        raise
    builder.name_it(image, name)
    found = builder.look(image)
    return Built(
        name=name,
        id=found.id,
        digest=found.digest,
        size_bytes=found.size_bytes,
        builder=builder.name,
        seconds=round(monotonic() - began, 3),
        notes=tuple(odd),
    )


def builder_for(wanted: str | None) -> Builder:
    """See `deployment.find_builder`."""
    return find_builder(wanted)


def image_name(settings: Settings) -> str:
    """The setting `image`, or the project folder's name as a name of images may be."""
    if settings.image:
        return settings.image
    bare = re.sub(r"[^a-z0-9]+", "-", os.path.basename(os.path.realpath(settings.root)).lower()).strip("-")
    return f"{bare or 'pipeline'}:latest"


def _refuse_notebooks(graphs: Iterable[Graph]) -> None:
    for graph in graphs:
        names = sorted({node.target for node in graph.nodes if is_notebook(node.target)})
        if names or is_notebook(graph.target):
            shown = ", ".join(name.removeprefix("<notebook>:") for name in names or [graph.target])
            raise DefinitionError(
                f"pipeline '{graph.pipeline}' has functions that lie in no file, so no image can hold them: {shown}",
                hint="move them to a .py file of the project and import them from there",
            )


def _apart(settings: Settings, folder: Path) -> list[str]:
    """Places in the project that are no part of its code: its stores, and what is built here."""
    found = [settings.home, str(folder)]
    for url in (settings.artifacts_url, settings.runs_url):
        path = url.removeprefix("file://").removeprefix("sqlite:///")
        if path and "://" not in path:
            found.append(os.path.join(settings.root, os.path.expanduser(path)))
    return found


def _entries(root: str, order: Order, contents: Contents) -> list[str]:
    """The files whose imports are followed: those of the pipelines, else all of the project's own code."""
    if order.graphs:
        return list(dict.fromkeys(os.path.join(root, name.rpartition(":")[0]) for name in order.graphs))
    return python_files(root, (file.path for file in contents.files if file.link is None))


def _needs(settings: Settings, order: Order, code: Reached, local: tuple[str, ...]) -> Needs:
    stores = (("runs", settings.runs), ("artifacts", settings.artifacts))
    targets = [node.target for graph in order.graphs.values() for node in graph.nodes]
    return Needs(
        packages=(*code.packages, *local),
        places=tuple((name, url) for name, url in stores if "://" in url),
        schemes=code.schemes,
        registry=any(target.startswith(_REGISTRY) for target in targets) or bool(settings.tracking),
    )


def _local_packages(root: str, code: Reached) -> tuple[str, ...]:
    """The packages that code outside the project belongs to; what belongs to none cannot come along."""
    folders = {
        name: os.path.realpath(str(origin["url"]).removeprefix("file://"))
        for name, origin in origins().items()
        if origin.get("folder")
    }
    found, lost = set(), {}
    for path, where in code.beside.items():
        owner = next((name for name, folder in folders.items() if path.startswith(os.path.join(folder, ""))), None)
        if owner is None:
            lost[path] = where
        else:
            found.add(owner)
    if lost:
        lines = [f"  {path}, imported at {where}" for path, where in lost.items()]
        raise ImageError(
            "\n".join(["the code imports files that lie outside the project and belong to no package:", *lines]),
            hint=f"move them into {root}, or make a package of them and install it",
        )
    return tuple(sorted(found))


def _revision(root: str) -> str:
    record: dict[str, Any] = git_record(Path(root))
    commit = record.get("commit")
    return f"{commit}{'-dirty' if record.get('dirty') else ''}" if commit else "unknown"
