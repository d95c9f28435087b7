"""Names in a generated flow: an identifier for each step, that shadows nothing and is shadowed by nothing."""

from __future__ import annotations

import builtins
import keyword
import unicodedata
from collections.abc import Iterable

_TAKEN = frozenset(
    {*dir(builtins), *keyword.kwlist, *keyword.softkwlist, "Any", "Literal", "NO_CACHE", "STEP", "PIPELINE",
     "DEPLOYMENT", "ConcurrencyLimitConfig", "ConcurrencyLimitStrategy", "Cron", "Pipeline", "another_attempt",
     "beside", "command_line", "flow", "index", "perform", "penstock_run", "run", "task"}
)  # fmt: skip


def identifiers(names: Iterable[str], *, taken: Iterable[str] = (), kind: str = "step") -> dict[str, str]:
    """An identifier for each name, close to it and like no other; the same names give the same identifiers.

    >>> identifiers(["fit", "prepare/split", "prepare-split", "list", "depth"], taken=["depth"])
    {'fit': 'fit', 'prepare/split': 'prepare_split', 'prepare-split': 'prepare_split_2', 'list': 'list_step', \
'depth': 'depth_step'}
    """
    used = {*_TAKEN, *taken}
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name in names:
        letters = unicodedata.normalize("NFKC", name)
        plain = "".join(each if f"_{each}".isidentifier() else "_" for each in letters) or kind
        plain = plain if plain.isidentifier() and not plain.startswith("__") else f"{kind}_{plain}"
        first = candidate = f"{plain}_{kind}" if plain in used and plain not in counts else plain
        while candidate in used:
            counts[first] = counts.get(first, 1) + 1
            candidate = f"{first}_{counts[first]}"
        counts.setdefault(plain, 1)
        used.add(candidate)
        found[name] = candidate
    return found


def apart(name: str, taken: Iterable[str]) -> str:
    """A name of ours that no parameter has: a parameter hides it inside the flow.

    >>> apart("run", ["run", "run_"])
    'run__'
    """
    used = set(taken)
    while name in used:
        name += "_"
    return name


def flow_identifier(pipeline: str, *, taken: Iterable[str]) -> str:
    """The flow function's name: the pipeline's own, where nothing else has it."""
    return identifiers([pipeline], taken=taken, kind="flow")[pipeline]
