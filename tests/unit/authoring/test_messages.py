"""Every mistake that building finds, as its user reads it: the file, and below it what penstock says.

A line marked `# here` must be named with its number, and no other line of a pipeline's body may be.
PENSTOCK_WRITE_MESSAGES=1 writes the messages anew; read the difference before you keep it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.authoring.pipeline import Pipeline
from penstock.core.errors import PenstockError

MESSAGES = Path(__file__).parent / "messages"
DIVIDER = "\n=== says ===\n"


def said(source: str, user_file: Any) -> Iterator[str]:
    """What each pipeline of a file, or each attempt it makes, or the file itself raises."""
    try:
        module: ModuleType = user_file(source)
    except PenstockError as error:
        yield str(error)
        return
    for value in list(vars(module).values()):
        if isinstance(value, Pipeline):
            try:
                value.trace()
            except PenstockError as error:
                yield str(error)
    for attempt in getattr(module, "attempts", list)():
        try:
            attempt()
        except PenstockError as error:
            yield str(error)


@pytest.mark.parametrize("case", sorted(path.stem for path in MESSAGES.glob("*.txt")))
def test_a_mistake_is_told_with_its_line_and_its_remedy(case: str, user_file: Any) -> None:
    place = MESSAGES / f"{case}.txt"
    source, _, expected = place.read_text(encoding="utf-8").partition(DIVIDER)
    message = "\n\n".join(said(source, user_file)) + "\n"
    if os.environ.get("PENSTOCK_WRITE_MESSAGES"):
        place.write_text(source + DIVIDER + message, encoding="utf-8")
        expected = message
    assert message == expected
    marked = {n for n, line in enumerate(source.splitlines(), 1) if line.endswith("# here")}
    named = {int(number) for number in re.findall(r"^ *churn\.py:(\d+): ", message, re.MULTILINE)}
    assert marked <= named
    about_functions = {n for n, line in enumerate(source.splitlines(), 1) if line.startswith(("@", "def ", "    @"))}
    assert named - marked <= about_functions
