"""Warm workers: processes of the project's own interpreter that run its steps, one request at a time each.

Made by penstock, the same beside every flow; do not edit. A worker is one `penstock exec-steps` process: a
request goes in as a line of JSON, answers come out as lines. It ends, with all below it, when we do.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from typing import Any

_LINE = 1 << 30  # bytes; a longer answer would be refused
_PATIENCE_S = 5.0


class WorkerLost(RuntimeError):
    """A worker process died in the middle of a request. The attempt is lost; Prefect may make another one."""


class CannotBegin(RuntimeError):
    """No worker can be started, or something that the pipeline needs on this server is not there."""


class Worker:
    """One process, asked one thing at a time. It ends, with all below it, when this process is gone."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int) -> None:
        self._process = process
        self._lifeline = lifeline
        self._last_words: deque[str] = deque(maxlen=30)
        self._listening = asyncio.create_task(self._hear_errors())
        self._asked = 0
        self.run_id = ""

    @classmethod
    async def start(cls, command: list[str], root: str, environment: dict[str, str]) -> Worker:
        theirs, lifeline = os.pipe()
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                cwd=root,
                env={**os.environ, **environment, "PENSTOCK_LIFELINE": str(theirs)},
                pass_fds=(theirs,),
                start_new_session=True,
                limit=_LINE,
            )
        except OSError as error:
            os.close(lifeline)
            raise CannotBegin(
                f"the project's interpreter cannot be started: {command[0]} in {root} ({error.strerror})."
                " Deploy the pipeline again, from the environment that has the project and penstock"
            ) from None
        finally:
            os.close(theirs)
        worker = cls(process, lifeline)
        hello = await worker._hear() or {}
        if not hello.get("ready"):
            reason = hello.get("error") or await worker.last_words()
            worker.kill()
            raise CannotBegin(f"no worker could be started: {reason}")
        worker.run_id = hello["run"]
        return worker

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, request: dict[str, Any], told: Any = None) -> dict[str, Any]:
        """The answer to a request. `told` is given what the step prints, as it prints."""
        self._asked += 1
        line = json.dumps({"id": self._asked, **request}, ensure_ascii=False)
        try:
            self._process.stdin.write(line.encode() + b"\n")  # type: ignore[union-attr]
            await self._process.stdin.drain()  # type: ignore[union-attr]
        except (BrokenPipeError, ConnectionResetError):
            pass  # its end is heard below, with the reason
        while (answer := await self._hear()) is not None:
            if answer.get("id") != self._asked:
                continue
            if "text" not in answer:
                return answer
            if told is not None:
                told(answer["text"])
        raise WorkerLost(f"the worker process died ({await self._ending()}) while it worked on {line}")

    async def close(self) -> None:
        """Let it end by itself, or else make it."""
        self._process.stdin.close()  # type: ignore[union-attr]
        ending = asyncio.create_task(self._process.wait())
        await asyncio.wait([ending], timeout=_PATIENCE_S)
        self.kill()
        await ending

    def kill(self) -> None:
        """Now. It kills what it started when the lifeline is cut; its own group dies by us in any case."""
        self._cut_lifeline()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    async def last_words(self) -> str:
        await self._ending()
        return "\n".join(self._last_words) or "it said nothing"

    async def _hear(self) -> dict[str, Any] | None:
        line = await self._process.stdout.readline()  # type: ignore[union-attr]
        return json.loads(line) if line.endswith(b"\n") else None

    async def _hear_errors(self) -> None:
        async for line in self._process.stderr:  # type: ignore[union-attr]
            text = line.decode(errors="replace").rstrip()
            self._last_words.append(text)
            print(text, file=sys.stderr)

    async def _ending(self) -> str:
        code = await self._process.wait()
        self._cut_lifeline()
        await asyncio.wait([self._listening], timeout=1.0)  # something below it may have kept its stderr
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _cut_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


class Workers:
    """As many as are asked at the same time; an idle one is asked again, a dead one is replaced."""

    def __init__(self, command: list[str], root: str, environment: dict[str, str]) -> None:
        self._command = command
        self._root = root
        self._environment = environment
        self._idle: list[Worker] = []
        self._all: list[Worker] = []
        self.run_id = ""

    async def begin(self) -> None:
        """Start the first one: what cannot work is found out before any step is asked for."""
        self._idle.append(await self._start())

    async def ask(self, request: dict[str, Any], told: Any = None) -> dict[str, Any]:
        worker = await self._free()
        try:
            answer = await worker.ask(request, told)
        except BaseException:
            worker.kill()
            self._all.remove(worker)
            raise
        self._idle.append(worker)
        return answer

    async def close(self) -> None:
        await asyncio.gather(*(worker.close() for worker in self._all))
        self._all, self._idle = [], []

    def kill(self) -> None:
        for worker in self._all:
            worker.kill()
        self._idle = []

    async def _free(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._all.remove(worker)
        return await self._start()

    async def _start(self) -> Worker:
        worker = await Worker.start(self._command, self._root, self._environment)
        self._all.append(worker)
        self.run_id = self.run_id or worker.run_id
        return worker
