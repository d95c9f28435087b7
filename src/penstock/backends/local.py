"""What the embedded engine makes of each feature: it is what every other backend is held to."""

from __future__ import annotations

from ..graph.demands import features
from ..ports.backend import Declarations, Verdict, emulated, supported

_NO_CLOCK = "kept with the pipeline; here whoever calls `penstock run` is the clock"


def declarations() -> Declarations:
    """Everything is its own, but what needs somebody who keeps time, and requests that one machine cannot reserve."""
    special: dict[str, Verdict] = {
        "schedule.expression": emulated(_NO_CLOCK),
        "schedule.tz": emulated(_NO_CLOCK),
        "schedule.catch_up": emulated(_NO_CLOCK),
        "schedule.start": emulated(_NO_CLOCK),
        "on_data": emulated(_NO_CLOCK),
        "updates": emulated("kept with the pipeline; nobody here waits for it"),
        "resources.cpu": emulated("a request: this machine reserves nothing, and every run records that"),
        "resources.memory": emulated("a request: this machine reserves nothing, and every run records that"),
        "resources.gpu": emulated("a request: this machine reserves nothing, and every run records that"),
    }
    return {feature: special.get(feature, supported()) for feature in features() if feature not in _OPEN}


_OPEN: frozenset[str] = frozenset()  # what the embedded engine itself does not keep yet
