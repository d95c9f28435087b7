"""Writes docs/cli.md from the parsers of the command line: `make docs`.

tests/repo/test_docs.py fails when the page is not what this writes.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from penstock.cli.app import COMMANDS, command_parser
from penstock.cli.exits import Exit
from penstock.engine.single import StepExit

PAGE = Path(__file__).parent / "cli.md"

HEAD = """# Command line

<!-- Written by docs/generate_cli.py from the parsers themselves: change those, then run `make docs`. -->

`penstock COMMAND --help` prints the same. `python -m penstock` is `penstock`.

Where a command takes a run, give its id, a unique beginning or end of it, or `last`.

Results go to standard output, everything else to standard error. With `--json`, standard output holds JSON and nothing
else. Colours are used on a terminal only, and never when `NO_COLOR` is set.
"""

# What each code means; a code without a line here stops this script.
EXITS = {
    Exit.OK: "It worked.",
    Exit.FAILED: "The run failed; or a check or comparison says no.",
    Exit.USAGE: "The command line, a parameter, the configuration or the pipeline's definition is wrong; or an "
    "optional library is missing. Nothing was started.",
    Exit.GATE: "A gate refused, and `--fail-on-gate` was given. The run itself succeeded.",
    Exit.NOT_FOUND: "There is no such run, step, artifact or model version.",
    Exit.STORE: "A store, an artifact, the registry, a data source, a cluster or a server (a port in use) is in "
    "trouble.",
    Exit.DIFFERENT: "`reproduce` found another result than the run had, or `verify` a step that cannot be relied on.",
    Exit.BUG: "A bug in penstock. Please report it with what was printed.",
    Exit.INTERRUPTED: "Stopped by Ctrl-C or by `penstock cancel`. `penstock resume` goes on.",
}
STEP_EXITS = {
    StepExit.DONE: "Succeeded, cached or skipped.",
    StepExit.FAILED: "Failed for good: another attempt would be refused before user code.",
    StepExit.UPSTREAM_FAILED: "Something it needs failed.",
    StepExit.NOT_READY: "Something it needs is not done: the engine called too early.",
    StepExit.SKIPPED: "Skipped, where `--tell-skips` asks for it; else 0.",
    StepExit.FENCED: "Not ours: a newer attempt or owner has it, another process works on it, or the run is over.",
    StepExit.RETRY: "Failed; the retry policy would like another attempt.",
}


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Commands\n"]
    parts.append("| command | what it does |\n|---|---|")
    parts += [f"| [`penstock {name}`](#penstock-{name}) | {what} |" for name, (_, what) in COMMANDS.items()]
    parts.append("")
    for name in COMMANDS:
        parts.append(_section(name))
    parts.append("## Exit codes\n")
    parts.append(_codes({code.value: text for code, text in EXITS.items()}, [each.value for each in Exit]))
    parts.append("\n`penstock exec-step` has codes of its own, for engines. With 2, `exec-*` could not begin:\n")
    parts.append(_codes({code.value: text for code, text in STEP_EXITS.items()}, [each.value for each in StepExit]))
    return "\n".join(parts) + "\n"


def _section(name: str) -> str:
    module, what = COMMANDS[name]
    parser = command_parser(name, importlib.import_module(f"penstock.cli.commands.{module}"))
    parts = [f"## penstock {name}\n", what[0].upper() + what[1:] + ".\n", *_usage(parser)]
    parts += _tables(parser)
    parts += _children(parser)
    if parser.epilog:
        parts += ["```text", parser.epilog.strip("\n"), "```", ""]
    return "\n".join(parts)


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    return ["```text", usage, "```", ""]


def _tables(parser: argparse.ArgumentParser) -> list[str]:
    shown = [each for each in parser._actions if each.help != argparse.SUPPRESS and not _is_plumbing(each)]
    if not shown:
        return []
    rows = [f"| {_form(each)} | {_told(each)} |" for each in shown]
    return ["| argument or flag | meaning |", "|---|---|", *rows, ""]


def _children(parser: argparse.ArgumentParser) -> list[str]:
    parts: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                parts += [f"### {child.prog}\n", *_usage(child), *_tables(child)]
    return parts


def _is_plumbing(action: argparse.Action) -> bool:
    return isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))


def _form(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    value = value if isinstance(value, str) else " ".join(value)
    if action.choices is not None and action.metavar is None:
        value = "{" + ",".join(str(each) for each in action.choices) + "}"
    if not action.option_strings:
        return f"`{value}`"
    takes = "" if action.nargs == 0 else f" {value}"
    return "`" + ", ".join(f"{flag}{takes}" for flag in action.option_strings).replace("|", "\\|") + "`"


def _told(action: argparse.Action) -> str:
    values = {**vars(action), "prog": "penstock"}
    text = (action.help or "") % values if "%(" in (action.help or "") else (action.help or "").replace("%%", "%")
    return text.replace("|", "\\|")


def _codes(told: dict[int, str], every: list[int]) -> str:
    rows = [f"| {code} | {told[code]} |" for code in every]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parents[1])}")
