"""A pipeline, crashed at every single write, and the processes that come after to finish it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..authoring.pipeline import Pipeline
from ..core.errors import UsageError
from .bench import Bench, BenchRun, Executed
from .faults import Crash, Death, Fuse

Step = tuple[str, str]  # name, index


class Crashed:
    """A run whose process died at one write. `resume` finishes it as a new process would."""

    def __init__(self, bench: Bench, again: Callable[[], BenchRun], before: frozenset[str], lives: int) -> None:
        self.bench = bench
        self.repeated: list[Executed] = []  # attempts, after a crash, of steps that had finished before it
        self._fuses = [bench.faults.fuse]
        self._again = again
        self._before = before  # runs that were on the bench already
        self._lives = lives

    def resume(self) -> BenchRun:
        """Finish the run; where the crash came before anything was stored, start it again.

        With `lives`, the processes that try it first die too, each at another write and in another way.
        """
        while len(self._fuses) < self._lives:
            at, death = self._fuses[-1].at or 1, self._fuses[-1].death
            fuse = Fuse(1 + (5 * at + len(self._fuses)) % 11, death=_NEXT[death])
            self._fuses.append(fuse)
            try:
                return self._life(fuse)
            except Crash:
                continue
        return self._life(Fuse())

    def _life(self, fuse: Fuse) -> BenchRun:
        bench = self.bench
        run = next((run for run in bench.store.match_runs("") if run not in self._before), None)
        done = self._finished(run)
        entered = len(bench.executed)
        try:
            if run is not None:
                return bench.resume(run, fuse=fuse)
            bench.faults.fuse = fuse
            return self._again()
        finally:
            self.repeated += [each for each in bench.executed[entered:] if each[:2] in done]

    def _finished(self, run: str | None) -> set[Step]:
        if run is None:
            return set()
        return {(each.step, each.index) for each in self.bench.store.step_runs(run) if each.state.has_output}

    def __str__(self) -> str:
        return ", then ".join(map(str, self._fuses))


_NEXT = {Death.BEFORE: Death.AFTER, Death.MIDWAY: Death.BEFORE, Death.AFTER: Death.MIDWAY}


def crash_points(
    pipeline: Pipeline[..., Any],
    /,
    *,
    make: Callable[[], Bench] = Bench,
    every: int = 1,
    lives: int = 1,
    **parameters: Any,
) -> Iterator[Crashed]:
    """The pipeline, crashed before, in the middle of and after each write to the run log and the artifact store.

    Each crash has a fresh bench. A write of the run log is a transaction: in its middle there is nothing to see, so
    only blobs are left half-written.

    make:   gives a fresh bench, where a plain one is not enough; runs that it holds already stay what they are.
    every:  take only each n-th write.
    lives:  how many processes die in all: the first at each write, those that resume at writes that vary with it.

    >>> from penstock import pipeline, step
    >>> @step
    ... def extract() -> list[int]:
    ...     return [1, 2, 3]
    >>> @pipeline
    ... def extracted() -> list[int]:
    ...     return extract()
    >>> for crashed in crash_points(extracted, lives=2):
    ...     assert crashed.resume().output == [1, 2, 3], crashed
    ...     assert not crashed.repeated, crashed
    """
    if every < 1 or lives < 1:
        raise UsageError(f"crash_points(every={every}, lives={lives}): both are counted from 1")
    calm = make()
    counted = calm.faults.fuse = Fuse()
    calm.run(pipeline, **parameters)
    for at in range(1, len(counted.writes) + 1, every):
        for death in Death:
            if death is Death.MIDWAY and not counted.writes[at - 1].startswith("blobs.put"):
                continue
            bench = make()
            before = frozenset(bench.store.match_runs(""))
            bench.faults.fuse = Fuse(at, death=death)
            try:
                bench.run(pipeline, **parameters)
            except Crash:
                yield Crashed(bench, lambda bench=bench: bench.run(pipeline, **parameters), before, lives)  # type: ignore[misc]
