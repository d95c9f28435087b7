"""The front door: find the command, parse, call, and turn errors into words and exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from ..core.errors import DefinitionError, PenstockError, UsageError, did_you_mean
from .again import again, choose
from .exits import Exit, exit_of
from .render import paint, print_json
from .streams import reader_left, reopen_missing, settle

# name -> (module, what it does), in the order of --help
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "make a project that runs at once"),
    "run": ("run", "run a pipeline"),
    "plan": ("plan", "show what a run would do, and why"),
    "check": ("check", "show what an engine makes of all that a pipeline asks for"),
    "compile": ("compile", "write a pipeline as an engine's own files"),
    "deploy": ("deploy", "make an engine know a pipeline"),
    "ls": ("ls", "list runs"),
    "show": ("show", "show a run, or a step of it"),
    "logs": ("logs", "show what steps printed and logged"),
    "why": ("why", "explain why a step ran or was taken from the cache"),
    "diff": ("diff", "compare two runs"),
    "verify": ("verify", "find steps with hidden state or chance in them"),
    "reproduce": ("reproduce", "run a run again as it was, and compare step by step"),
    "resume": ("resume", "finish a run that failed, was stopped or lost its process"),
    "cancel": ("cancel", "ask a run to stop"),
    "artifact": ("artifact", "show or fetch a stored value"),
    "graph": ("graph", "draw a pipeline"),
    "gc": ("gc", "delete what no run needs any more"),
    "doctor": ("doctor", "check this machine, the project and its stores"),
    "serve": ("serve", "serve a registered model"),
    "build": ("build", "build the container image that steps run in"),
    "exec-step": ("exec_step", "run one step of a manifest (for engines)"),
    "exec-steps": ("exec_steps", "run steps of a manifest as told, line by line (for engines)"),
    "exec-map": ("exec_map", "tell the elements of a map (for engines)"),
    "exec-end": ("exec_end", "close a run that an engine ordered (for engines)"),
}

COMMON = ("profile", "json", "project")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help at the terminal's width. Left to itself, argparse would load shutil (and bz2, lzma, …) for that at once."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=_columns())

    def format_help(self) -> str:
        return super().format_help().rstrip() + "\n"


class Parser(argparse.ArgumentParser):
    """argparse, with our errors: what is wrong with which flag, and the near one."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=_Help,
            allow_abbrev=False,
            conflict_handler="resolve",
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help")

    def known_flags(self) -> list[str]:
        return [flag for flag in self._option_string_actions if flag.startswith("--") and flag != "--help"]

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """All of it, or a UsageError that names the first word that is not understood."""
        arguments, rest = self.parse_known_args(words)
        if rest:
            flag = rest[0].partition("=")[0]
            if flag.startswith("-"):
                raise UsageError(f"{self.prog} has no flag '{flag}'", hint=did_you_mean(flag, self.known_flags()))
            raise UsageError(f"{self.prog}: '{rest[0]}' is one word too many", hint=f"{self.prog} --help")
        return arguments


def _columns() -> int:
    try:
        return min(os.get_terminal_size(1).columns, 120) - 2
    except OSError:
        return 98


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; every expected error has been told by then."""
    words = list(sys.argv[1:] if argv is None else argv)
    reopen_missing()
    code = _guarded(words)
    settle()
    return code


def _guarded(words: Sequence[str]) -> int:
    code = Exit.OK
    try:
        try:
            return _called(words)
        except PenstockError as error:
            code = exit_of(error)
            tell(error, as_json="--json" in words)
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
            sys.stderr.write("stopped\n")
        except Exception as error:  # noqa: BLE001 - the outermost boundary: whatever gets here is our own mistake
            if isinstance(error, BrokenPipeError) and reader_left():
                return Exit.OK  # whoever read our output has enough
            code = Exit.BUG
            _told_as_bug()
    except BrokenPipeError:  # there was something to tell, and nobody to hear it
        pass
    return code


def _told_as_bug() -> None:
    import traceback

    traceback.print_exc()
    sys.stderr.write("\nThis is a bug in penstock, not in your pipeline: please report it with the lines above.\n")


def _called(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        if len(words) > 1 and words[0] == "help":
            return _called([words[1], "--help"])
        sys.stdout.write(overview())
        return Exit.OK if words else Exit.USAGE
    if words[0] in ("--version", "-V", "version"):
        from .. import __version__

        sys.stdout.write(f"penstock {__version__}\n")
        return Exit.OK
    name = words[0]
    if name not in COMMANDS:
        what = "flag" if name.startswith("-") else "command"
        hint = did_you_mean(name, list(COMMANDS)) if what == "command" else "penstock --help"
        if name.endswith(".py"):
            hint = f"penstock run {name}"
        raise UsageError(f"penstock has no {what} '{name}'", hint=hint)
    module = importlib.import_module(f".commands.{COMMANDS[name][0]}", __package__)
    parser = command_parser(name, module)
    try:
        parse = getattr(module, "parse", None)  # `run` takes flags that it learns from the pipeline
        arguments = parse(parser, words[1:]) if parse is not None else parser.parse(words[1:])
    except SystemExit as leaving:  # --help has been printed
        return int(leaving.code or 0)
    choose(getattr(arguments, "profile", None))
    return int(module.execute(arguments))


def command_parser(name: str, module: ModuleType) -> Parser:
    """The parser of one command: the flags that all share (`COMMON` of its module limits them), then its own."""
    parser = Parser(f"penstock {name}", COMMANDS[name][1])
    common: Sequence[str] = getattr(module, "COMMON", COMMON)
    if "profile" in common:
        parser.add_argument("--profile", metavar="NAME", help="settings of [profiles.NAME] in penstock.toml")
    if "project" in common:
        parser.add_argument("--project", metavar="DIR", help="the project's folder (default: found from here)")
    if "json" in common:
        parser.add_argument("--json", action="store_true", help="JSON on stdout, for programs")
    module.configure(parser)
    return parser


def overview() -> str:
    """What `penstock --help` prints."""
    lines = [
        "usage: penstock COMMAND …",
        "",
        "ML pipelines as typed Python functions: from raw data to a live model.",
        "",
    ]
    lines += [f"  {paint(f'{name:<10}', 'bold')} {what}" for name, (_, what) in COMMANDS.items()]
    lines += [
        "",
        "  penstock init mything && cd mything && penstock run pipeline.py",
        "  penstock COMMAND --help    the flags of one command",
        "",
        "exit codes: 0 ok, 1 the run failed, 2 usage or definition, 3 a gate refused (--fail-on-gate), 4 not found,",
        "            5 trouble with a store, artifact, registry or server, 6 reproduce or verify found a difference,",
        "            70 a bug in penstock, 130 interrupted",
        "",
    ]
    return "\n".join(lines)


def tell(error: PenstockError, *, as_json: bool = False) -> None:
    """An error for people on stderr, and for programs on stdout."""
    sys.stdout.flush()
    sys.stderr.write(told(error) + "\n")
    if as_json:
        print_json({"error": error.as_record()})


def told(error: PenstockError) -> str:
    """`error[code]: problem`, its place, the hint; and every single problem of a definition."""
    every: list[PenstockError] = [error]
    lines: list[str] = []
    if isinstance(error, DefinitionError) and error.problems:
        lines.append(f"{paint(f'error[{error.code}]', 'red', sys.stderr)}: {error.problem}")
        every = error.problems
    for each in every:
        text = each.problem if lines else f"{paint(f'error[{each.code}]', 'red', sys.stderr)}: {each.problem}"
        details: list[Any] = [f"at {each.where}" if each.where else None]
        details += [f"hint: {again(each.hint)}" if each.hint else None]
        indent = "  " if lines else ""
        mark = "- " if lines else ""
        lines += (
            [indent + (mark if not at else "  ") + line for at, line in enumerate(text.splitlines())]
            if mark
            else [text]
        )
        for detail in details:
            if detail:
                lines += [f"{indent}  {line}" for line in detail.splitlines()]
    return "\n".join(lines)
