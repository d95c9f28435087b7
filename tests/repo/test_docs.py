"""The documents say what is true: their examples run, and what must be documented is.

The rule for examples in docs/*.md and README.md:

- Every ```python block is a whole file, run as `python FILE` in a temporary folder that the blocks of its page share,
  in order. A first line such as `# hello.py` gives the file that name, so that later blocks may import it.
- A ```text block right after it is what it prints. A line in it that holds `…` may hold anything in that place.
- A ```python block right after a `<!-- not run -->` line is a fragment; it must still be valid Python.
- Every line `$ penstock …` or `penstock …` in a ```console block names a command and flags that exist.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from penstock.cli.app import COMMANDS, command_parser
from penstock.core import errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]
EVERY_PAGE = [*PAGES, *sorted((DOCS / "adr").glob("*.md")), ROOT / "CHANGELOG.md"]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = "<!-- not run -->"


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    text: str
    line: int
    not_run: bool
    follows: int | None  # the place in the list of the block that ends right above


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    ended = -1
    for match in _BLOCK.finditer(text):
        between = text[ended : match.start()] if ended >= 0 else text[: match.start()]
        above = between.strip()
        follows = len(found) - 1 if ended >= 0 and not above else None
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], line, above.endswith(_NOT_RUN), follows))
        ended = match.end()
    return found


def expectations(blocks: list[Block]) -> list[tuple[Block, str | None]]:
    """Every block that runs, with what it should print (None: anything)."""
    printed = {block.follows: block.text for block in blocks if block.language == "text" and block.follows is not None}
    return [
        (block, printed.get(place))
        for place, block in enumerate(blocks)
        if block.language == "python" and not block.not_run
    ]


def fits(told: str, printed: str) -> bool:
    """Whether the page's text is what was printed, `…` standing for anything within a line.

    >>> fits("run …: ok\\n", "run a-1: ok\\n"), fits("4\\n", "5\\n")
    (True, False)
    """
    pattern = ".*".join(re.escape(part) for part in told.rstrip("\n").split("…"))
    return re.fullmatch(pattern, printed.rstrip("\n")) is not None


@pytest.mark.parametrize("page", [page for page in PAGES if expectations(blocks_of(page))], ids=lambda page: page.stem)
def test_every_example_of_a_page_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    for number, (block, told) in enumerate(expectations(blocks_of(page)), 1):
        named = re.match(r"# ([\w/]+\.py)\b", block.text)
        file = tmp_path / (named[1] if named else f"example_{number}.py")
        file.write_text(block.text, encoding="utf-8")
        place = f"{page.name}:{block.line}"
        done = subprocess.run(
            [sys.executable, str(file)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{place}:\n{done.stdout}\n{done.stderr}"
        if told is not None:
            assert fits(told, done.stdout), f"{place} says\n{told}\nbut it prints\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_fragments_are_valid_python(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python" and block.not_run:
            ast.parse(block.text, f"{page.name}:{block.line}")


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.stem)
def test_every_command_line_of_a_page_names_a_command_and_flags_that_exist(page: Path) -> None:
    for block in blocks_of(page):
        if block.language != "console":
            continue
        for line in block.text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] != ["penstock"] or len(words) == 1 or words[1] in ("--help", "--version"):
                continue
            assert words[1] in COMMANDS, f"{page.name}:{block.line}: {line}"
            parser = command_parser(words[1], importlib.import_module(f"penstock.cli.commands.{COMMANDS[words[1]][0]}"))
            own = re.findall(r"^(?:  |penstock run .*)(--[a-z-]+)", parser.format_help(), re.MULTILINE)
            known = {*parser.known_flags(), *own, *_parameters_of_the_examples()}
            for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
                assert flag in known, f"{page.name}:{block.line}: {line}"


def _parameters_of_the_examples() -> set[str]:
    """Flags that pipelines of the documents have: `penstock run` takes them from the pipeline's signature."""
    return {"--source", "--strengths", "--seed", "--numbers", "--uri", "--depths"}


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.stem)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors_of(file), f"{page.name}: {target}"


def anchors_of(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def error_codes() -> list[str]:
    kinds = [errors.PenstockError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return sorted({kind.code for kind in kinds if kind.__module__ == errors.__name__})


@pytest.mark.parametrize("code", error_codes())
def test_every_error_code_has_a_section(code: str) -> None:
    assert f"\n## {code}\n" in (DOCS / "errors.md").read_text(encoding="utf-8")


def test_no_section_of_the_errors_page_is_about_an_error_that_does_not_exist() -> None:
    headings = re.findall(r"^## (.+)$", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == error_codes()


def test_every_public_name_is_in_the_authoring_reference() -> None:
    import penstock

    page = (DOCS / "authoring.md").read_text(encoding="utf-8")
    missing = [name for name in penstock.__all__ if not re.search(rf"`@?{name}\b", page)]
    assert not missing


def test_every_option_of_step_and_pipeline_is_in_the_authoring_reference() -> None:
    from penstock.authoring.pipeline import Pipeline
    from penstock.graph import StepOptions
    from penstock.wiring.runner import Ask

    page = (DOCS / "authoring.md").read_text(encoding="utf-8")
    renamed = {"timeout_s": "timeout", "quarantine": "on_invalid"}
    wanted = [renamed.get(name, name) for name in StepOptions.__struct_fields__]
    wanted += list(Ask.__struct_fields__)
    wanted += [name for name in Pipeline.__init__.__annotations__ if name not in ("fn", "return")]
    missing = [name for name in wanted if f"`{name}`" not in page]
    assert not missing


def test_the_command_reference_is_current() -> None:
    made = runpy.run_path(str(DOCS / "generate_cli.py"))["page"]()
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == made, "run `make docs`"


def test_decision_records_are_numbered_without_gaps_and_say_context_choice_and_price() -> None:
    files = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.startswith(f"# {file.name[:4]} "), file.name
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Choice", "Price"], file.name
