"""Hundreds of generated edits of large, real code: what a step reaches misses, everything else hits.

`PENSTOCK_EDITS=10` makes ten times as many; `PENSTOCK_SEED` takes others.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.engine import environment
from penstock.engine.comparison import definition_changes, package_changes
from penstock.engine.fingerprint import Fingerprints
from penstock.ports.records import Fingerprint

from . import code_edits as edits
from .code_edits import MARK, Source
from .real_code import STEPS, Entered, RealProject

TIMES = float(os.environ.get("PENSTOCK_EDITS", "1"))
SEED = os.environ.get("PENSTOCK_SEED", "0")
KINDS: dict[str, Callable[[Source, edits.Definition], str | None]] = {
    "a helper's body": edits.a_statement_more,
    "a default argument": edits.a_default,
    "a decorator": edits.a_decorator,
    "the class of a method": edits.the_class,
}
# How many edits of each kind; a fingerprint of sympy costs five times one of scikit-learn.
EACH = {"sklearn": 12, "sympy": 3, "networkx": 5}


class Lab:
    """One library, its untouched fingerprints, and edits that are taken back."""

    def __init__(self, project: RealProject) -> None:
        self.project = project
        self.fingerprints = Fingerprints(project.root, project.root / ".cache")
        self.untouched = {step: self.of(step) for step in project.steps}
        self.chance = random.Random(f"{SEED} {project.library}")
        self._sources: dict[str, Source] = {}

    def of(self, step: str) -> Fingerprint:
        self.fingerprints.refresh()
        return self.fingerprints.of(f"flow.py:{step}")

    def source(self, file: str) -> Source:
        if file not in self._sources:
            self._sources[file] = Source((self.project.root / file).read_text())
        return self._sources[file]

    def count(self) -> int:
        return int(EACH[self.project.library] * TIMES)

    def after(self, step: str, files: dict[str, str]) -> Fingerprint:
        """The fingerprint with other texts of some files, which are put back."""
        paths = {self.project.root / name: text for name, text in files.items()}
        before = {path: path.read_bytes() if path.exists() else None for path in paths}
        try:
            for path, text in paths.items():
                compile(text, str(path), "exec", dont_inherit=True)
                path.write_text(text)
            return self.of(step)
        finally:
            for path, content in before.items():
                path.unlink() if content is None else path.write_bytes(content)

    def entered(self) -> Iterator[tuple[str, Entered]]:
        """What ran, in a random order."""
        found = [(step, each) for step, trace in self.project.traces.items() for each in trace.entered]
        self.chance.shuffle(found)
        yield from found

    def missed(self, kind: str, step: str, file: str, text: str) -> None:
        """Hold an edit to be a miss whose changed lines `why` would print."""
        before, after = self.untouched[step], self.after(step, {file: text})
        assert after.digest != before.digest, (
            f"{kind}: an edit of {file} hits, though {step} runs it\n{diff(self, file, text)}"
        )
        told = [line for change in definition_changes(before.parts, after.parts) for line in change.diff]
        assert any(line[:1] == "+" and MARK in line for line in told), (
            f"{kind}: {file}\n{diff(self, file, text)}\n{told}"
        )

    def hit(self, kind: str, step: str, files: dict[str, str]) -> None:
        after = self.after(step, files)
        if after.digest != self.untouched[step].digest:
            told = [change.text for change in definition_changes(self.untouched[step].parts, after.parts)]
            shown = [diff(self, name, text) for name, text in files.items() if len(files) < 4]
            pytest.fail(f"{kind}: {list(files)[:3]} misses for {step}: {told[:5]}\n{shown}")


def diff(lab: Lab, file: str, text: str) -> str:
    import difflib

    before = lab.source(file).text.splitlines() if (lab.project.root / file).exists() else []
    return "\n".join(list(difflib.unified_diff(before, text.splitlines(), lineterm="", n=1))[:12])


@pytest.fixture(scope="module", params=STEPS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp(request.param)
    yield Lab(RealProject(request.param, root))
    shutil.rmtree(root)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_of_anything_that_ran_misses_and_why_shows_the_line(lab: Lab, kind: str) -> None:
    made = 0
    for step, each in lab.entered():
        source = lab.source(each.file)
        function = source.function_at(each.line)
        text = KINDS[kind](source, function) if function is not None and "<lambda>" not in each.qualname else None
        if text is not None:
            lab.missed(kind, step, each.file, text)
            made += 1
        if made >= lab.count():
            break
    assert made >= min(lab.count(), 5)


def test_an_edit_of_a_constant_that_is_read_misses(lab: Lab) -> None:
    made = 0
    for step, each in lab.entered():
        for text in edits.constants(lab.source(each.file), each.names):
            lab.missed("a constant", step, each.file, text)
            made += 1
        if made >= lab.count():
            break
    assert made >= (5 if lab.project.library == "sklearn" else 0), "the functions of networkx read no constants"


def test_an_import_that_leads_elsewhere_misses(lab: Lab) -> None:
    made = 0
    for step, each in lab.entered():
        for text in edits.imports(lab.source(each.file), each.names, lab.project.library):
            lab.missed("an import", step, each.file, text)
            made += 1
        if made >= lab.count():
            break
    assert made >= min(lab.count(), 5)


def test_another_version_of_a_package_that_is_used_misses(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = environment.package_versions()
    for step, trace in lab.project.traces.items():
        used = {name.partition(".")[0] for each in trace.entered for name in each.modules.values()} - {
            lab.project.library
        }
        for package in sorted(used & versions.keys()):
            monkeypatch.setattr(environment, "_versions", {**versions, package: "0.0.edited"})
            after = lab.of(step)
            assert after.digest != lab.untouched[step].digest, f"{step} runs code that uses {package}"
            assert [each.name for each in package_changes(lab.untouched[step].packages, after.packages)] == [package]
    monkeypatch.setattr(environment, "_versions", {**versions, "rich": "0.0.edited"})
    for step in lab.project.steps:
        assert lab.of(step).digest == lab.untouched[step].digest


def test_comments_and_blank_lines_hit(lab: Lab) -> None:
    for file in lab.chance.sample(sorted(lab.project.imported - {"flow.py"}), lab.count()):
        step = lab.chance.choice(lab.project.steps)
        lab.hit("comments", step, {file: edits.comments(lab.source(file), lab.chance, 0.2)})


def test_docstrings_hit(lab: Lab) -> None:
    for file in lab.chance.sample(sorted(lab.project.imported - {"flow.py"}), lab.count()):
        step = lab.chance.choice(lab.project.steps)
        lab.hit("docstrings", step, {file: edits.docstrings(lab.source(file), lab.chance, 0.3)})


def test_every_file_reformatted_and_without_comments_hits(lab: Lab) -> None:
    files = sorted(lab.project.imported)
    lab.hit("formatting", lab.project.steps[0], {file: edits.reformatted(lab.source(file)) for file in files})


def test_a_function_that_nothing_names_hits(lab: Lab) -> None:
    files = [str(path.relative_to(lab.project.root)) for path in lab.project.files()]
    found = list(edits.never_named({file: lab.source(file) for file in files}))
    made = 0
    for file, function in lab.chance.sample(found, len(found)):
        text = edits.a_statement_more(lab.source(file), function)
        if text is not None and file != "flow.py":
            lab.hit(f"unreached {function.name}", lab.chance.choice(lab.project.steps), {file: text})
            made += 1
        if made >= lab.count():
            break
    assert made >= min(lab.count(), 5)


def test_a_new_file_that_nothing_imports_hits(lab: Lab) -> None:
    files = sorted(lab.project.imported - {"flow.py"})
    for file in lab.chance.sample(files, lab.count() // 2):
        new = str(Path(file).with_name("_brand_new.py"))
        text = f"from . import *\nimport {lab.project.library} as lib\nlib.new = 1\n\ndef new():\n    return lib\n"
        lab.hit("a new file", lab.chance.choice(lab.project.steps), {new: text})


def test_a_function_moved_to_a_file_of_its_own_hits(lab: Lab) -> None:
    made = 0
    for step, each in lab.entered():
        source = lab.source(each.file)
        function = source.function_at(each.line)
        path = Path(each.file)
        if function is None or function not in source.tree.body or function.decorator_list or path.stem == "flow":
            continue
        here = path.stem if path.stem != "__init__" else ""
        text, new = edits.moved(source, function, here, "_moved_away")
        lab.hit(f"moving {function.name}", step, {each.file: text, str(path.with_name("_moved_away.py")): new})
        made += 1
        if made >= max(2, lab.count() // 2):
            break
    assert made >= 2


def test_the_whole_project_moved_hits(lab: Lab, tmp_path: Path) -> None:
    os.rename(lab.project.root, tmp_path / "deeper")
    try:
        moved = Fingerprints(tmp_path / "deeper").of(f"flow.py:{lab.project.steps[0]}")
        inside = Fingerprints(tmp_path).of(f"deeper/flow.py:{lab.project.steps[0]}")
    finally:
        os.rename(tmp_path / "deeper", lab.project.root)
    assert moved.digest == inside.digest == lab.untouched[lab.project.steps[0]].digest
