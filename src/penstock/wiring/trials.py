"""Start experiments in processes of their own and hear what they tell: the other end of `trial`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ..core.canonical import canonical_json
from ..core.errors import NotReproducibleError
from ..engine.environment import TUNING
from ..engine.listener import Listener, Silent
from ..graph import Graph
from ..ports.events import RunView
from ..ports.records import RunRecord, RunState, StepRun
from .trial import (  # fmt: skip
    MODULE,
    Began,
    Compared,
    Comparison,
    Ended,
    Experiment,
    Happened,
    Message,
    Passes,
    Progressed,
    Refused,
    Said,
)

_MESSAGE = msgspec.json.Decoder(Message)
_SHOWN_LINES = 12


class Interpreter(msgspec.Struct, frozen=True):
    """What runs an experiment: a Python, and the variables that must be set (None: unset) before it starts."""

    python: str = sys.executable
    variables: dict[str, str | None] = {}

    def with_variables(self, **variables: str | None) -> Interpreter:
        return msgspec.structs.replace(self, variables={**self.variables, **variables})

    def environ(self) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if name not in self.variables}
        return found | {name: value for name, value in self.variables.items() if value is not None}


class Tried(msgspec.Struct):
    """One run of an experiment, as it was told."""

    record: RunRecord
    graph: Graph
    steps: Mapping[tuple[str, str], StepRun]
    sizes: dict[tuple[str, str], int]  # of maps, by scope and enclosing index
    state: RunState | None = None  # None: it broke off


def tuned(settings: dict[str, str]) -> dict[str, str | None]:
    """Every variable that decides how libraries add up, as recorded: what was not set is unset."""
    return {name: settings.get(name) for name in TUNING}


def run(passes: Passes, by: Interpreter, home: Path, listener: Listener | None = None) -> list[Tried]:
    """Run it to its end. Raises NotReproducibleError where it cannot begin or breaks off, and KeyboardInterrupt after
    the experiment has recorded that it was stopped."""
    heard = listener or Silent()
    found: list[Tried] = []
    view = RunView()
    for message in _messages(passes, by, home):
        match message:
            case Began(record, graph):
                view = RunView()
                for event in passes.known:
                    view.apply(event)
                found.append(Tried(record, graph, view.steps, view.sizes))
                heard.begin(record, graph, view)
            case Happened(event):
                heard.event(view.apply(event))
            case Said(step, index, text):
                heard.text(step, index, text)
            case Progressed(step, index, done, total, note):
                heard.progress(step, index, done, total, note)
            case Ended(state):
                found[-1].state = state
            case _:
                continue
    return found


def compared(comparison: Comparison, by: Interpreter, home: Path) -> list[Compared]:
    """What every pair came to."""
    if not comparison.pairs:
        return []
    return [message for message in _messages(comparison, by, home) if isinstance(message, Compared)]


def _messages(experiment: Experiment, by: Interpreter, home: Path) -> Iterator[Message]:
    """Every message, as it comes. The process is stopped and waited for, whatever happens here."""
    home.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    with tempfile.TemporaryDirectory(dir=home, prefix="trial-") as folder, open(read_end, "rb") as pipe:
        paper, said = Path(folder, "experiment.json"), Path(folder, "stderr")
        paper.write_bytes(canonical_json(experiment))
        try:
            with open(said, "wb") as stderr:
                child = subprocess.Popen(
                    [by.python, "-P", "-m", MODULE, str(paper), str(write_end)],
                    pass_fds=(write_end,),
                    env=by.environ(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,  # Ctrl-C is for us to pass on, once
                )
        finally:
            os.close(write_end)
        refused: Refused | None = None
        try:
            for line in pipe:
                message = _MESSAGE.decode(line)
                if isinstance(message, Refused):
                    refused = message
                else:
                    yield message
            code = child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            for _ in pipe:  # until it has recorded its end
                pass
            raise
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
        if refused is not None:
            raise NotReproducibleError(refused.problem, hint=refused.hint)
        if code:
            lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            shown = "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:])
            raise NotReproducibleError(
                f"the process of the experiment ended with code {code}:\n{shown}".rstrip(":\n"),
                hint="what it says is above; it ran " + by.python,
            )
