"""From words on the command line to objects: the project of a folder, the pipeline of a file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from ..authoring.identity import MARKERS, load_file, project_root
from ..authoring.pipeline import Pipeline, Traced
from ..authoring.step import Step
from ..core.errors import ConfigError, DefinitionError, NotFoundError, PenstockError, UsageError, did_you_mean
from ..core.location import Location, shown_path
from ..wiring.backends import NAMES
from ..wiring.config import Settings, load_settings
from ..wiring.places import place_of
from ..wiring.project import Project
from .app import Parser

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def project_for(arguments: argparse.Namespace, *, must_exist: bool = True) -> Project:
    """The project of --project or of the current folder, with its store.

    Raises: NotFoundError where nothing has been run yet; looking never makes a store (unless `must_exist` is False).
    """
    settings = settings_for(arguments)
    if must_exist and not _has_store(settings):
        raise NotFoundError(f"nothing has been run here yet: {_place(settings)}", hint=_elsewhere(settings))
    return Project(settings)


def settings_for(arguments: argparse.Namespace, root: str | None = None) -> Settings:
    """Settings of --project, of `root`, or of the project that the current folder lies in."""
    given: str | None = getattr(arguments, "project", None)
    if given is not None:
        if not os.path.isdir(given):
            raise UsageError(f"--project: there is no folder {given}")
        root = os.path.realpath(given)
    profile: str | None = getattr(arguments, "profile", None)
    found = root or _root_here()
    try:
        return load_settings(found, profile=profile)
    except ConfigError as error:
        error.problem = error.problem.replace(found + os.sep, "")
        raise


def parse_with_file(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """The command's flags anywhere; the first other word is the file; what follows it is the pipeline's."""
    arguments, rest = parser.parse_known_args(words)
    if not rest:
        raise UsageError(f"{parser.prog}: which file?", hint=f"{parser.prog} FILE.py")
    if rest[0].startswith("-"):
        flag = rest[0].partition("=")[0]
        near = did_you_mean(flag, parser.known_flags())
        hint = "the pipeline's own parameters follow the file"
        hint = f"{near}; {hint}" if near.startswith("did") else hint
        raise UsageError(f"{parser.prog} has no flag '{flag}'", hint=hint)
    arguments.file, arguments.words, arguments.flags = rest[0], rest[1:], parser.known_flags()
    return arguments


def tag(text: str) -> tuple[str, str]:
    """The value of --tag."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--tag {text}: write --tag KEY=VALUE")
    return name, value


def positive(text: str) -> int:
    """A number of workers."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def workers(text: str) -> int | str:
    """The value of --workers: a number, or a cluster as it is written."""
    try:
        place = place_of(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up and no cluster: {error.hint}") from None
    return place if isinstance(place, int) else text


def load_pipeline(file: str) -> Pipeline[..., Any]:
    """The pipeline of a file; `FILE:NAME` chooses where there are several.

    Raises: UsageError (no such file, none or several pipelines), DefinitionError (the file cannot be imported).
    """
    path, _, chosen = file.rpartition(":") if ".py:" in file else (file, "", "")
    return pipeline_in(imported(path), path, chosen or None)


def imported(path: str) -> dict[str, Any]:
    """What a user's file defines. An exception in it is told with the user's own lines only."""
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder", hint=_python_files(path))
    if not os.path.exists(path):
        folder = os.path.dirname(path) or "."
        if path and not path.endswith(".py") and os.path.exists(f"{path}.py"):
            raise UsageError(f"there is no file {path}", hint=f"did you mean '{path}.py'?")
        if not os.path.isdir(folder):
            raise UsageError(f"there is no file {path}", hint=f"there is no folder {folder} either")
        raise UsageError(f"there is no file {path}", hint=_python_files(folder, os.path.basename(path)))
    if not path.endswith(".py"):
        raise UsageError(f"{path} is not a Python file", hint="give the .py file that holds the pipeline")
    try:
        return vars(load_file(path))
    except PenstockError:
        raise
    except SyntaxError as error:
        where = Location(shown_path(error.filename or path), error.lineno or 0)
        line = f"\n  {error.text.strip()}" if error.text else ""
        raise DefinitionError(f"{type(error).__name__}: {error.msg}{line}", where=where) from error
    except SystemExit as error:
        raise DefinitionError(
            f"{path} ends the program while it is imported (sys.exit({error.code!r}))",
            where=_last_user_line(error.__traceback__),
            hint='put what the file does as a script under `if __name__ == "__main__":`',
        ) from error
    except Exception as error:
        raise _import_failure(path, error) from error


def traced(pipeline: Pipeline[..., Any], parameters: dict[str, str] | None = None) -> Traced:
    """The pipeline's graph. What its body raises is the user's mistake, told with the user's line."""
    try:
        return pipeline.trace(parameters)
    except PenstockError:
        raise
    except Exception as error:
        raise DefinitionError(
            f"pipeline '{pipeline.name}' cannot be built: {type(error).__name__}: {error}",
            where=_last_user_line(error.__traceback__),
            hint="a pipeline's body only calls steps; it runs while the pipeline is built",
        ) from error


def pipeline_in(names: dict[str, Any], path: str, chosen: str | None) -> Pipeline[..., Any]:
    """The pipeline among a module's names."""
    module = names.get("__name__")
    every = {name: value for name, value in names.items() if isinstance(value, Pipeline)}
    own = {name: value for name, value in every.items() if value.fn.__module__ in (module, "__main__")}
    if chosen is not None:
        known = every | {value.name: value for value in every.values()}
        if chosen not in known:
            raise UsageError(f"{path} has no pipeline '{chosen}'", hint=did_you_mean(chosen, sorted(every)))
        return known[chosen]
    found = own or every
    if not found:
        steps = [name for name, value in names.items() if isinstance(value, Step)]
        has = f"it has the step{'s' if len(steps) > 1 else ''} {', '.join(steps[:5])}; " if steps else ""
        raise UsageError(
            f"{path} has no pipeline", hint=f"{has}decorate the function that calls the steps with @pipeline"
        )
    if len(found) > 1:
        lines = [f"{path}:{name}" for name in found]
        raise UsageError(
            f"{path} has {len(found)} pipelines: {', '.join(found)}", hint=f"choose one: {' or '.join(lines)}"
        )
    return next(iter(found.values()))


def add_accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="STEP.FEATURE",
        help="go without something that the engine does not keep; every run records it",
    )


def engine_of(name: str | None, settings: Settings) -> str:
    """The engine that a command means. Raises UsageError or ConfigError with the near name."""
    chosen = name or settings.backend
    if chosen not in NAMES:
        hint = did_you_mean(chosen, NAMES)
        if name:
            raise UsageError(f"--on: there is no backend '{chosen}'", hint=hint)
        raise ConfigError(f"the setting backend = '{chosen}' names no backend", hint=hint)
    return chosen


# -- inside ----------------------------------------------------------------------------------------------------------


def _root_here() -> str:
    """The project around the current folder; where no file marks one, the nearest folder that has been run in."""
    here = os.path.realpath(os.getcwd())
    root = project_root(os.path.join(here, "_"))
    if any(os.path.exists(os.path.join(root, marker)) for marker in MARKERS):
        return root
    probe = here
    while not os.path.isdir(os.path.join(probe, ".penstock")):
        parent = os.path.dirname(probe)
        if parent == probe:
            return root
        probe = parent
    return probe


def _has_store(settings: Settings) -> bool:
    path = sqlite_path(settings)
    return path is None or os.path.exists(path)


def sqlite_path(settings: Settings) -> str | None:
    """The file of the run log; None where it is a server."""
    url = settings.runs_url
    if url.startswith("sqlite:///"):
        return os.path.expanduser(url.removeprefix("sqlite:///"))
    return None if "://" in url or url == "memory:" else os.path.expanduser(url)


def _place(settings: Settings) -> str:
    path = sqlite_path(settings) or settings.runs_url
    return f"there is no {shown_path(path)}"


def _elsewhere(settings: Settings) -> str:
    try:
        names = sorted(entry.name for entry in os.scandir(settings.root) if entry.is_dir())
    except OSError:
        names = []
    near = [name for name in names if os.path.exists(os.path.join(settings.root, name, ".penstock"))]
    if near:
        return f"runs were made in {', '.join(near[:5])}: add --project {near[0]}"
    return "penstock run FILE.py"


def _python_files(folder: str, near: str = "") -> str:
    names = sorted(name for name in os.listdir(folder or ".") if name.endswith(".py"))
    if not names:
        return f"there is no Python file in {folder}"
    return did_you_mean(near, names) if near else f"give one of its files: {', '.join(names[:8])}"


def _import_failure(path: str, error: Exception) -> DefinitionError:
    hint = None
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        hint = f"install it for {sys.executable}: pip install {package}; or correct the import"
    frames = user_frames(error.__traceback__)
    lines = [f"{path} cannot be imported: {type(error).__name__}: {error}"]
    if len(frames) > 1:
        lines += [f"  {place}, in {function}: {text}" for place, function, text in frames]
    return DefinitionError("\n".join(lines), where=_last_user_line(error.__traceback__), hint=hint)


def user_frames(trace: TracebackType | None) -> list[tuple[Location, str, str]]:
    """(place, function, line of code) of the frames that are neither ours nor the import system's."""
    import linecache

    frames = []
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((_OURS, "<frozen")):
            text = linecache.getline(file, trace.tb_lineno).strip()
            frames.append((Location(shown_path(file), trace.tb_lineno), trace.tb_frame.f_code.co_name, text))
        trace = trace.tb_next
    return frames


def _last_user_line(trace: TracebackType | None) -> Location | None:
    frames = user_frames(trace)
    return frames[-1][0] if frames else None
