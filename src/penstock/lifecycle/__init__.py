"""lifecycle: ready-made steps of a model's way: gate, register, deploy, notify. May know authoring, models, ports and
below.

Each is a plain function, of the models room where it is about models, made a step here; what they do outside goes
through ports that the run binds. Nothing here decides anything.
"""

from .steps import deploy, gate, notify, register

__all__ = ["deploy", "gate", "notify", "register"]
