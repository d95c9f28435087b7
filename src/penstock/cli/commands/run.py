"""`penstock run FILE`: a new run of a file's pipeline, watched to its end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from ...authoring.options import SecretName
from ...authoring.parameters import choices, expected, fit_value, is_flag, parse_flags, parse_text
from ...authoring.pipeline import Pipeline
from ...authoring.signature import shown_type
from ...core.errors import ParameterError, UsageError, did_you_mean
from ...wiring.backends import LOCAL
from ...wiring.runner import LocalRunner
from ...wiring.submitting import EngineRunner
from ..app import Parser
from ..opening import add_accept, engine_of, load_pipeline, parse_with_file, settings_for, tag, traced, workers
from ..watching import handed_over, watched

COMMON = ("profile", "json")
EXAMPLES = """
a pipeline's own parameters follow the file, as flags; `penstock run FILE --help` lists them

examples:
  penstock run hello.py
  penstock run churn.py --uri data/orders.csv --depths 4,6,8 --workers 4
  penstock run pipelines.py:nightly --params prod.yaml --tag team=growth --fail-on-gate
  penstock run churn.py --from fit --no-cache --json > events.jsonl
  penstock run churn.py --on airflow --profile prod
  penstock run churn.py --workers ray://head:10001
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock run FILE.py[:PIPELINE] [flags] [the pipeline's parameters]"
    parser.epilog = EXAMPLES
    add_how(parser)
    add_parameters(parser)
    add = parser.add_argument
    add("--no-cache", action="store_true", help="run every step, take nothing from the cache")
    add(
        "--from",
        dest="restart_from",
        action="append",
        default=[],
        metavar="STEP",
        help="run STEP and all after it anew",
    )
    add(
        "--on", metavar="BACKEND", help="where to run: local, airflow, prefect, kubeflow (default: local, or `backend`)"
    )
    add("--detach", action="store_true", help="on an engine: hand the run over and do not watch it")
    add_accept(parser)
    add("--name", metavar="TEXT", help="a name for people to find the run by")
    add("--tag", action="append", default=[], metavar="KEY=VALUE", help="keep this with the run")
    add("--idempotency-key", metavar="KEY", help="with a key that was used before, give that run, do not start another")


def add_how(parser: argparse.ArgumentParser) -> None:
    """Flags that `run` and `resume` share."""
    add = parser.add_argument
    add(
        "--workers",
        type=workers,
        metavar="WHERE",
        help="how many steps at the same time (default: one per processor), or a cluster: ray, ray:N, "
        "ray://HOST:10001, dask, dask:N, dask://HOST:8786",
    )
    add("--one-process-per-step", action="store_true", help="every step in a process of its own, by `exec-step`")
    add("--wait", action="store_true", help="where so many runs are active as may be: wait for one to end")
    add("--fail-on-gate", action="store_true", help="exit code 3 when a gate refuses")
    add("--quiet", "-q", action="store_true", help="say nothing unless the run does not succeed")


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Flags of every command that is given a pipeline's parameters."""
    add = parser.add_argument
    add("--params", metavar="FILE", help="parameters from a YAML, TOML or JSON file; flags win")
    add("--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter whose name is a flag here")


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """With a file, `--help` tells of its pipeline's parameters too."""
    own = [word for word in words if word not in ("-h", "--help")]
    wants_help = len(own) < len(words)
    if wants_help and not parser.parse_known_args(own)[1]:
        parser.parse_args(["--help"])
    arguments = parse_with_file(parser, own)
    arguments.help, arguments.parser = wants_help, parser
    return arguments


def execute(arguments: argparse.Namespace) -> int:
    pipeline = load_pipeline(arguments.file)
    if arguments.help:
        arguments.parser.epilog = parameter_help(pipeline, arguments.flags) + "\n" + EXAMPLES
        sys.stdout.write(arguments.parser.format_help())
        return 0
    settings = settings_for(arguments, pipeline.root)
    engine = engine_of(arguments.on, settings)
    given = parameters_of(pipeline, arguments)
    parameters = pipeline.parameters(given)
    built = traced(pipeline, parameters)
    options: dict[str, Any] = {
        "cache": not arguments.no_cache,
        "restart_from": tuple(arguments.restart_from),
        "name": arguments.name,
        "tags": dict(tag(text) for text in arguments.tag),
        "idempotency_key": arguments.idempotency_key,
        "trigger": "cli",
    }
    options |= {
        "workers": arguments.workers,
        "one_process_per_step": arguments.one_process_per_step,
        "wait": arguments.wait,
    }
    if engine == LOCAL:
        runner = LocalRunner(settings)
        return watched(arguments, lambda how: runner.run(built, parameters, check=False, **options, **how))
    source = os.path.relpath(arguments.file.partition(":")[0], settings.root)
    engines = EngineRunner(settings, engine)
    return handed_over(
        arguments,
        engines,
        lambda: engines.submit(built, parameters, accepted=arguments.accept, source=source, **options),
    )


def parameters_of(
    pipeline: Pipeline[..., Any], arguments: argparse.Namespace, *, partial: bool = False
) -> dict[str, Any]:
    """Values from --params, then --param, then flags; later wins. Everything unknown is refused, and what is missing
    too, unless only a part is wanted."""
    annotations = pipeline.signature.annotations
    defaults = pipeline.signature.defaults
    secrets = [name for name, value in defaults.items() if isinstance(value, SecretName)]
    values: dict[str, Any] = {}
    if arguments.params:
        values |= _from_file(arguments.params, annotations, pipeline.name)
    given: set[str] = set()
    for text in arguments.param:
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise UsageError(f"--param {text}: write --param NAME=VALUE")
        if name not in annotations:
            raise _unknown(f"--param {name}", name, pipeline)
        if name in given:
            raise ParameterError(f"--param {name} is given twice", hint="give it once")
        given.add(name)
        values[name] = parse_text(f"--param {name}", value, annotations[name])
    flags, rest = parse_flags(arguments.words, annotations, arguments.flags, secrets=secrets)
    values |= flags
    if rest:
        raise _unknown_word(rest[0], pipeline, arguments.flags)
    missing = [name for name in annotations if name not in values and name not in defaults]
    if missing and not partial:
        flags_missing = ", ".join(f"{_flag(name)} ({expected(annotations[name])})" for name in missing)
        raise ParameterError(
            f"pipeline '{pipeline.name}' needs {flags_missing}",
            hint=f"penstock run {arguments.file} --help shows its parameters",
        )
    return values


def parameter_help(pipeline: Pipeline[..., Any], taken: Sequence[str] = ()) -> str:
    """The pipeline's parameters as flags, with type and default."""
    signature = pipeline.signature
    if not signature.names:
        return f"pipeline '{pipeline.name}' has no parameters"
    rows = []
    for name in signature.names:
        annotation = signature.annotations[name]
        flag = _flag(name)
        form = f"{flag}, --no-{flag[2:]}" if is_flag(annotation) else f"{flag} {_form(annotation)}"
        if flag in taken:
            form = f"--param {name}={_form(annotation)}"
        default = signature.defaults.get(name)
        if isinstance(default, SecretName):
            told = f"secret, from {default.name}"
        elif name in signature.defaults:
            told = f"default: {default!r}"
        else:
            told = "required"
        rows.append((form, told))
    wide = max(len(form) for form, _ in rows)
    lines = [f"parameters of pipeline '{pipeline.name}':"]
    return "\n".join([*lines, *(f"  {form:<{wide}}  {told}" for form, told in rows)])


# -- inside ----------------------------------------------------------------------------------------------------------


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _form(annotation: Any) -> str:
    named = choices(annotation)
    return "{" + ",".join(named) + "}" if named else shown_type(annotation).replace("pathlib.", "")


def _unknown_word(word: str, pipeline: Pipeline[..., Any], taken: Sequence[str]) -> ParameterError:
    flag = word.partition("=")[0]
    if not flag.startswith("-"):
        return ParameterError(
            f"pipeline '{pipeline.name}' takes no plain words, but {word!r} was given",
            hint="a value follows its flag; a list is written with commas",
        )
    own = [_flag(name) for name in pipeline.signature.names]
    near = did_you_mean(flag, [*own, *taken])
    if not near.startswith("did"):
        near = f"its parameters: {', '.join(own)}" if own else "it takes no parameters"
    return ParameterError(f"pipeline '{pipeline.name}' has no parameter {flag}", hint=near)


def _unknown(what: str, name: str, pipeline: Pipeline[..., Any]) -> ParameterError:
    names = list(pipeline.signature.names)
    return ParameterError(
        f"{what}: pipeline '{pipeline.name}' has no such parameter",
        hint=did_you_mean(name, names) if names else "it takes no parameters",
    )


def _from_file(path: str, annotations: dict[str, Any], pipeline: str) -> dict[str, Any]:
    table = _read_table(path)
    values = {}
    for key, value in table.items():
        name = str(key).replace("-", "_")
        if name not in annotations:
            raise ParameterError(
                f"{path}: pipeline '{pipeline}' has no parameter '{key}'",
                hint=did_you_mean(name, list(annotations)) if annotations else "it takes no parameters",
            )
        if name in values:
            raise UsageError(f"--params: {path}: '{name}' is there twice", hint="keep one of them")
        values[name] = fit_value(f"{path}: {key}", value, annotations[name])
    return values


def _read_table(path: str) -> dict[Any, Any]:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".yaml", ".yml", ".toml", ".json"):
        raise UsageError(f"--params: {path} is no .yaml, .toml or .json file")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"--params: {path} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise UsageError(
            f"--params: {path} is not UTF-8 text: byte 0x{byte:02x} at position {error.start}",
            hint="save it as UTF-8",
        ) from error
    try:
        table = _decoded(text, suffix)
    except ValueError as error:
        raise UsageError(f"--params: {path} is not valid {suffix[1:].upper()}: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"--params: {path} holds no table of names and values", hint="write NAME: VALUE lines")
    return table


def _decoded(text: str, suffix: str) -> Any:
    if suffix == ".toml":
        import tomllib

        return tomllib.loads(text)
    if suffix == ".json":
        import json

        return json.loads(text, object_pairs_hook=_once_each)
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is there twice; YAML would silently let the last one win."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if key.value in seen:
                        raise yaml.MarkedYAMLError(problem=f"'{key.value}' is there twice", problem_mark=key.start_mark)
                    seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, Loader) or {}
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"'{key}' is there twice")
        table[key] = value
    return table
