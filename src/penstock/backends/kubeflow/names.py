"""Names that Kubeflow takes, from names that people wrote: small letters, digits and single dashes, each once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...core.canonical import digest_bytes

# Parameters of ours, beside the pipeline's own.
INDEX, ENGINE_RUN, RUN, STATE, LOGICAL_TIME = (
    "penstock_index", "penstock_engine_run", "penstock_run", "penstock_state", "penstock_logical_time",
)  # fmt: skip
_DIGEST = 6
_LONGEST = 56  # with what Kubeflow puts before and after it, it stays below Kubernetes' 63


def kubeflow_name(name: str, otherwise: str = "step") -> str:
    """One name, among others of the same file: `Names` keeps those apart.

    >>> kubeflow_name("prepare/split_rows"), kubeflow_name("größe"), kubeflow_name("日本")
    ('prepare-split-rows', 'gr-e', 'step')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST].strip("-") or otherwise


def pipeline_name(name: str) -> str:
    """What a deployment's pipeline and recurring run are called.

    A whole server shares these names: where letters had to change or go, a few of the digest keep it apart from others.

    >>> pipeline_name("daily-sales"), pipeline_name("daily_sales"), pipeline_name("Daily-Sales")
    ('daily-sales', 'daily-sales-2ad9fe', 'daily-sales-f8af70')
    """
    found = kubeflow_name(name, "pipeline")
    if found == name:
        return name
    digest = digest_bytes(name.encode())[:_DIGEST]
    return f"{found[: _LONGEST - _DIGEST - 1].strip('-')}-{digest}"


class Names:
    """Gives every name once; the second who asks for it gets a number behind."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def take(self, name: str, otherwise: str = "step") -> str:
        """A name that nobody else has.

        >>> names = Names(["end"])
        >>> names.take("fit"), names.take("Fit"), names.take("end")
        ('fit', 'fit-2', 'end-2')
        """
        wanted = found = kubeflow_name(name, otherwise)
        number = 1
        while found in self._taken:
            number += 1
            found = f"{wanted}-{number}"
        self._taken.add(found)
        return found
