"""Commands that we tell somebody to type next: with the profile of this one, or they would look elsewhere."""

from __future__ import annotations

import re

# Commands about runs. Those that start one are told with their flags as they were typed.
_ABOUT_RUNS = re.compile(
    r"\bpenstock (?:ls|show|logs|why|resume|cancel|diff|artifact|verify|reproduce)\b(?![^;`\n]*--profile)"
)

_profile = ""


def choose(profile: str | None) -> None:
    """What this process was given as --profile. A variable in the environment is there for the next command, too."""
    global _profile
    _profile = profile or ""


def again(text: str) -> str:
    """A text with commands in it, each with the profile right behind its verb: words may follow that are no command.

    >>> choose("prod")
    >>> again("penstock show r1; penstock resume r1 --on local finishes it here")
    'penstock show --profile prod r1; penstock resume --profile prod r1 --on local finishes it here'
    >>> choose(None)
    >>> again("penstock show r1")
    'penstock show r1'
    """
    return _ABOUT_RUNS.sub(lambda found: f"{found[0]} --profile {_profile}", text) if _profile else text
