"""Hidden inputs: what a cached step looks at that its key does not cover. May know core and ports.

A `Watch` is open around the step's function and notes opens of files and folders, connections, processes, variables of
the environment and draws from a global generator. It tells what it saw and decides nothing: `declared.py` takes out
what the step declares, and the launcher keeps nothing for others where something is left. docs/caching.md says what
cannot be seen.
"""

from .places import CHANGED
from .watching import Ready, Watch, leave_out

__all__ = ["CHANGED", "Ready", "Watch", "leave_out"]
