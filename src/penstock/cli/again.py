"""Commands that we tell somebody to type next: with the profile of this one, or they would look elsewhere."""

from __future__ import annotations

import re

# Commands about runs. Those that start one are told with their flags as they were typed.
_ABOUT_RUNS = re.compile(r"penstock (?:show|logs|why|resume|cancel|diff|artifact|verify|reproduce)\b[^;`\n(]*[^;`\n( ]")

_profile = ""


def choose(profile: str | None) -> None:
    """What this process was given as --profile. A variable in the environment is there for the next command, too."""
    global _profile
    _profile = profile or ""


def again(text: str) -> str:
    """
    >>> choose("prod")
    >>> again("penstock show r1; penstock resume r1 --on local")
    'penstock show r1 --profile prod; penstock resume r1 --on local --profile prod'
    >>> choose(None)
    >>> again("penstock show r1")
    'penstock show r1'
    """
    if not _profile:
        return text
    flag = f" --profile {_profile}"
    return _ABOUT_RUNS.sub(lambda found: found[0] if "--profile" in found[0] else found[0] + flag, text)
