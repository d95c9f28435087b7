"""`.dockerignore`: which paths its lines leave out, and which they ask for by name."""

from __future__ import annotations

import re
from collections.abc import Iterable


class Ignoring:
    """The rules of one file; of several that match, the last one decides.

    >>> rules = Ignoring(["*.csv", "# a comment", "!data/small.csv", "old/**/notes"])
    >>> rules.verdict("a.csv"), rules.verdict("data/big.csv"), rules.verdict("old/x/y/notes/z.md")
    (True, None, True)
    >>> Ignoring(["data", "!data/small.csv"]).verdict("data/small.csv")
    False
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for line in lines:
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            leaves_out = not pattern.startswith("!")
            pattern = pattern.lstrip("!").strip().strip("/")
            pattern = pattern.removeprefix("./")
            if pattern and pattern != ".":
                self._rules.append((re.compile(_expression(pattern)), leaves_out))

    def verdict(self, path: str) -> bool | None:
        """True: left out. False: asked for by name (`!path`). None: no rule is about it."""
        found = None
        for expression, leaves_out in self._rules:
            if expression.match(path):
                found = leaves_out
        return found

    def has_exceptions(self) -> bool:
        """Whether something below a folder that is left out may still be asked for."""
        return any(not leaves_out for _, leaves_out in self._rules)


def _expression(pattern: str) -> str:
    """As Go's filepath.Match with `**`; a match of a folder is one of everything below it."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 2
        elif pattern[at] == "*":
            parts.append("[^/]*")
            at += 1
        elif pattern[at] == "?":
            parts.append("[^/]")
            at += 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            parts.append(pattern[at : end + 1].replace("\\", "\\\\"))
            at = end + 1
        else:
            parts.append(re.escape(pattern[at]))
            at += 1
    return "".join(parts) + r"(?:/.*)?\Z"
