"""Names that Kubeflow takes, from names that people wrote: small letters, digits and single dashes, each once."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Parameters of ours, beside the pipeline's own.
INDEX, ENGINE_RUN, RUN, STATE, LOGICAL_TIME = (
    "penstock_index", "penstock_engine_run", "penstock_run", "penstock_state", "penstock_logical_time",
)  # fmt: skip
_LONGEST = 56  # with what Kubeflow puts before and after it, it stays below Kubernetes' 63


def kubeflow_name(name: str, otherwise: str = "step") -> str:
    """One name.

    >>> kubeflow_name("prepare/split_rows"), kubeflow_name("größe"), kubeflow_name("日本")
    ('prepare-split-rows', 'gr-e', 'step')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST].strip("-") or otherwise


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
