"""Which packages an image gets, each at one version: the project's own lock first, then what is installed here."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path

import msgspec

from ..core.errors import ImageError, MissingExtraError
from .declared import Declared
from .installed import Asked, Installed, Package, asked

_OURS = Path(__file__).resolve().parents[1]  # the package folder of this penstock
# What brings a place's client: the extra of penstock, and the package by which one sees that it is there.
_SCHEMES = {
    "postgresql": ("postgres", "psycopg"),
    "postgres": ("postgres", "psycopg"),
    "s3": ("s3", "s3fs"),
    "s3a": ("s3", "s3fs"),
    "gs": ("", "gcsfs"),
    "gcs": ("", "gcsfs"),
    "az": ("", "adlfs"),
    "abfs": ("", "adlfs"),
    "abfss": ("", "adlfs"),
}
# Libraries whose values penstock keeps by the help of others, which no line of the user's code imports.
_BESIDE = {"pandas": "pandas", "polars": "polars", "scikit-learn": "sklearn", "pandera": "pandera"}


class Needs(msgspec.Struct, frozen=True):
    """What a project needs besides what it declares."""

    packages: tuple[str, ...] = ()  # that its code imports
    places: tuple[tuple[str, str], ...] = ()  # (setting, URL) of its stores
    schemes: tuple[str, ...] = ()  # of URLs in its code
    registry: bool = False  # it registers models


class Wheel(msgspec.Struct, frozen=True):
    """A package that no registry has: what pip makes its wheel of."""

    name: str
    what: str  # a folder, an archive, or a requirement that names a repository


class Locked(msgspec.Struct, frozen=True):
    """The lines of the two files that the image is filled from, and the wheels that come beside them."""

    source: str  # what the first file was written from, for people
    requirements: tuple[str, ...]
    additions: tuple[str, ...]  # what the lock has not, penstock among them
    wheels: tuple[Wheel, ...]
    hashed: bool
    complete: bool  # nothing but these lines is to be installed
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Packages, with penstock and the wheels."""
        lines = "\n".join((*self.requirements, *self.additions)).splitlines()
        return sum(1 for line in lines if line and not line.startswith((" ", "-", "#"))) + len(self.wheels)


def locked(root: str, declared: Declared | None, needs: Needs, version: str) -> Locked:
    """The packages of the image; `version` is that of the penstock that runs.

    Raises: MissingExtraError (a store's client is not installed, so that it has no version to pin), ImageError.
    """
    return _Locking(root, declared, needs, version).locked()


class _Locking:
    def __init__(self, root: str, declared: Declared | None, needs: Needs, version: str) -> None:
        self._root = root
        self._declared = declared or Declared("")
        self._is_declared = declared is not None
        self._needs = needs
        self._version = version
        self._here = Installed()
        self._notes: list[str] = []
        self._wheels: dict[str, Wheel] = {}
        self._reasons: dict[str, str] = {}  # package that is added -> why

    def locked(self) -> Locked:
        declared, pinned = self._declared, self._declared.pinned
        own = self._ours()
        roots = [*self._wanted(), *(Asked(name) for name in pinned)]
        if not self._is_declared or declared.wanted:
            roots += [Asked(name) for name in self._needs.packages]
        # A lock with hashes is whole by definition; what is installed here adds nothing to it.
        project = {} if declared.hashed else self._here.closure(roots)
        ours = self._here.closure([Asked("penstock", self._extras({*project, *pinned})), *self._clients()])
        for at, (name, what) in enumerate(declared.local):
            self._wheels[name or f"declared {at}"] = Wheel(name, what)
        lines = {name: text for name, text in pinned.items() if name != "penstock"}
        added: dict[str, str] = {}
        for name, package in (project | ours).items():
            if name == "penstock" or name in pinned or name in self._wheels:
                continue
            line = self._line(package)
            if line is not None:
                (lines if name in project else added)[name] = line
        self._say(added, project)
        return Locked(
            source=self._source(),
            requirements=(*declared.options, *(lines[name] for name in sorted(lines))),
            additions=(*declared.options, *(added[name] for name in sorted(added)), *own),
            wheels=tuple(self._wheels[name] for name in sorted(self._wheels)),
            hashed=declared.hashed,
            complete=declared.hashed or sys.platform == "linux",
            notes=tuple(self._notes),
        )

    # -- what is asked for

    def _wanted(self) -> list[Asked]:
        found = []
        for each in self._declared.wanted:
            if self._here.find(each.name) is not None:
                found.append(each)
            elif not each.marker:
                raise ImageError(
                    f"{self._declared.source} wants '{each.name}', which is not installed for {sys.executable}: "
                    "there is no version to pin",
                    hint=f"pip install -r {self._declared.source}; or pin it there: {each.name}==VERSION"
                    if self._declared.source.endswith(".txt")
                    else f"pip install {each.name}",
                )
        return found

    def _extras(self, packages: set[str]) -> tuple[str, ...]:
        """The extras of penstock that these packages, the stores and the registry ask for."""
        found = set()
        for package in packages.intersection(_BESIDE):
            found.add(_BESIDE[package])
            for each in self._here.needs("penstock", frozenset({_BESIDE[package]})):
                self._reasons.setdefault(each.name, f"for values of {package}")
        for setting, url in self._needs.places:
            scheme = url.partition("://")[0].partition("+")[0] if "://" in url else ""
            extra, package = _SCHEMES.get(scheme, ("", ""))
            if extra:
                self._must_have(package, extra, f"{setting} is at {scheme}://…")
                found.add(extra)
        for scheme in self._needs.schemes:
            extra, package = _SCHEMES[scheme]
            if extra and self._here.find(package):
                self._reasons.setdefault(package, f"the code names {scheme}://…")
                found.add(extra)
        if self._needs.registry:
            if not self._has_whole_mlflow():
                self._must_have("mlflow-skinny", "mlflow", "the pipeline uses the registry")
            found.add("mlflow")
        return tuple(sorted(found))

    def _clients(self) -> list[Asked]:
        """Clients of stores that no extra of penstock brings."""
        found: set[str] = set()
        for setting, url in self._needs.places:
            extra, package = _SCHEMES.get(url.partition("://")[0], ("-", ""))
            if not extra:
                self._must_have(package, None, f"{setting} is at {url.partition('://')[0]}://…")
                found.add(package)
        for scheme in self._needs.schemes:
            extra, package = _SCHEMES[scheme]
            if not extra and self._here.find(package):
                self._reasons.setdefault(package, f"the code names {scheme}://…")
                found.add(package)
        if self._needs.registry and self._has_whole_mlflow():
            self._reasons["mlflow"] = "the pipeline uses the registry"
            found.add("mlflow")
        return [Asked(name) for name in sorted(found)]

    def _has_whole_mlflow(self) -> bool:
        """MLflow without its lighter distribution, which is enough."""
        return self._here.find("mlflow-skinny") is None and self._here.find("mlflow") is not None

    def _must_have(self, package: str, extra: str | None, why: str) -> None:
        if self._here.find(package) is None and package not in self._declared.pinned:
            hint = f"pip install 'penstock[{extra}]'" if extra else f"pip install {package}"
            raise MissingExtraError(
                f"{why}, so the image needs '{package}'; it is not installed here, so there is no version to pin",
                extra=extra,
                hint=hint,
            )
        self._reasons.setdefault(package, why)

    # -- penstock, and what no registry has

    def _ours(self) -> list[str]:
        """The line for penstock: its release, or none where a wheel is made of it."""
        version = self._version
        said = self._declared.pinned.get("penstock")
        each = None if said is None else asked(said)
        if each is not None and each.limits.lstrip("= ") != version:
            raise ImageError(
                f"{self._declared.source} has penstock {each.limits}, and this is penstock {version}: what one "
                "writes the other may not read",
                hint=f"write penstock=={version} there, or run the penstock that it names",
            )
        package = self._here.find("penstock")
        folder = _own_checkout()
        if folder is not None:
            self._wheels["penstock"] = Wheel("penstock", folder)
            self._notes.append(f"penstock {version} is no released package here: a wheel of {folder} is installed")
            return []
        if package is not None and package.origin is not None:
            self._line(package)
            if "penstock" in self._wheels:
                return []
        return [f"penstock=={version}"]

    def _line(self, package: Package) -> str | None:
        """A package as a line for pip; None where it is the project itself, or comes as a wheel."""
        name, origin = package.name, package.origin
        if origin is None:
            return self._pin(package)
        url = str(origin.get("url", ""))
        if origin.get("vcs"):
            self._wheels[name] = Wheel(name, f"{name} @ {origin['vcs']}+{url}@{origin['commit']}")
            return None
        path = url.removeprefix("file://")
        if not url.startswith("file://"):
            return f"{name} @ {url}"
        if path == self._root or path.startswith(self._root + os.sep):
            return None
        if not os.path.exists(path):
            return self._pin(package)
        self._wheels[name] = Wheel(name, path)
        return None

    def _pin(self, package: Package) -> str | None:
        if package.version == "unknown":
            self._notes.append(f"{package.name} is left out: its version is not known")
            return None
        if "+" in package.version:
            self._notes.append(
                f"{package.name} {package.version} is a build that the usual registry may not have: "
                f"name where it is with a line --extra-index-url in {self._declared.source or 'a requirements.txt'}"
            )
        wanted = next((each for each in self._declared.wanted if each.name == package.name), None)
        limits = f"{wanted.limits}," if wanted is not None and wanted.limits else ""
        return f"{package.name}{limits}=={package.version}"

    # -- what is said of it

    def _source(self) -> str:
        here = f"what is installed for Python {sys.version_info[0]}.{sys.version_info[1]} on this machine"
        if not self._is_declared:
            return f"{here}: what the code imports, and what that needs"
        return f"{self._declared.source}, pinned to {here}" if self._declared.wanted else self._declared.source

    def _say(self, added: Collection[str], project: Collection[str]) -> None:
        if not self._is_declared:
            self._notes.append(f"the project has no lock: {len(project)} packages are pinned to {self._source()}")
        elif self._declared.wanted:
            self._notes.append(f"{self._declared.source} does not pin everything: it is {self._source()}")
        plain = {each.name for each in self._here.needs("penstock")}
        named = [
            f"{name} ({why})" for name, why in sorted(self._reasons.items()) if name in added and name not in plain
        ]
        if named:
            self._notes.append(f"added, with what they need: {', '.join(named)}")


def _own_checkout() -> str | None:
    """The folder that this penstock runs from, if that is the source of a package and no installed one."""
    if any(part in ("site-packages", "dist-packages") for part in _OURS.parts):
        return None
    for folder in _OURS.parents:
        if (folder / "pyproject.toml").is_file():
            return str(folder)
    return None
