"""graph: what a pipeline is, as frozen, versioned JSON. May know core only.

A `Graph` that exists is closed (every name it mentions is there) and acyclic. It holds names, never callables and
never values that are not JSON; the same file is what another process, another engine and `resume` start from.
"""

from .graph import (
    FORMAT,
    Argument,
    Fields,
    Graph,
    Guard,
    Item,
    Many,
    Mapping,
    Node,
    Output,
    Param,
    Parameter,
    Scope,
    Secret,
    Value,
    outputs_in,
)
from .options import Cron, Growth, LimitPolicy, Quarantine, ResourceRequest, RetryPolicy, StepOptions

__all__ = [
    "FORMAT",
    "Argument",
    "Cron",
    "Fields",
    "Graph",
    "Growth",
    "Guard",
    "Item",
    "LimitPolicy",
    "Many",
    "Mapping",
    "Node",
    "Output",
    "Param",
    "Parameter",
    "Quarantine",
    "ResourceRequest",
    "RetryPolicy",
    "Scope",
    "Secret",
    "StepOptions",
    "Value",
    "outputs_in",
]
