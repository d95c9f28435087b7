"""testing: a step or a pipeline in a user's own tests, in milliseconds, with nothing on disk but a temporary folder.

May know everything. What runs is the real launcher, engine, codecs and run log (in memory); only time, faults and the
steps that a test replaces are not what they are in production. Everything runs in the test's own process: timeouts,
limits and `isolation` are not enforced, and nothing is cached unless a bench is asked to.
"""

from __future__ import annotations

from .bench import Bench, BenchRun, run_pipeline
from .clock import TurnedClock
from .crashes import Crashed, crash_points
from .faults import Crash, CrashingBlobs, CrashingStore, Death, Faults, Fuse
from .memory import MemoryBlobs
from .proxy import FaultyProxy, Seen, Spoil
from .simulation import Simulated, SimulationError, simulate
from .steps import run_step

__all__ = [
    "Bench",
    "BenchRun",
    "Crash",
    "Crashed",
    "CrashingBlobs",
    "CrashingStore",
    "Death",
    "Faults",
    "FaultyProxy",
    "Fuse",
    "MemoryBlobs",
    "Seen",
    "Simulated",
    "SimulationError",
    "Spoil",
    "TurnedClock",
    "crash_points",
    "run_pipeline",
    "run_step",
    "simulate",
]
