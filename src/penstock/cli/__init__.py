"""cli: parse, call, render. Makes no decision: what a run means is the engine's, where things are is wiring's.

Each command is a module of `commands/` with `configure(parser)` and `execute(arguments) -> int`, imported when it is
asked for; `app` is the front door.
"""

from .app import main

__all__ = ["main"]
