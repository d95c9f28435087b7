"""A durable step costs little more than the durable write itself: chains against a floor of the same length."""

from __future__ import annotations

from pathlib import Path

from .measuring import Figures, fresh, interleaved
from .pipelines import CHAIN, FLOOR, HELLO
from .report import RUNS, Row, environment, row

GOALS_FLOOR_MS = 0.09  # CPU of the floor's step on the machine whose figures the mark was taken from
STEPS = 1_000  # more than the hundred that people ask about, so that the difference stands well above the noise


def rows(python: Path, folder: Path) -> list[Row]:
    return [*import_rows(python, folder), *hello_rows(python, folder), *chain_rows(python, folder)]


def import_rows(python: Path, folder: Path) -> list[Row]:
    code = {"bare": "pass", "import penstock": "import penstock",
            "from penstock import pipeline, step": "from penstock import pipeline, step"}  # fmt: skip
    commands = {name: [str(python), "-c", text] for name, text in code.items()}
    taken = interleaved(commands, folder, environment(), runs=RUNS * 3)
    bare = taken.pop("bare").cpu
    return [
        row(f"`{name}`, over bare Python", (each.cpu - bare) * 1000, "{:.1f} ms CPU", 45)
        for name, each in taken.items()
    ]  # fmt: skip


def hello_rows(python: Path, folder: Path) -> list[Row]:
    (folder / "hello.py").write_text(HELLO)
    (folder / "floor.py").write_text(FLOOR)
    penstock = str(python.parent / "penstock")
    commands = {
        "bare": [str(python), "-c", "pass"],
        "floor": [str(python), "floor.py", "2", "NORMAL"],
        "first": [penstock, "run", "hello.py"],
        "again": [penstock, "run", "hello.py", "--no-cache"],
        "hits": [penstock, "run", "hello.py"],
    }

    def before(name: str) -> None:
        if name == "first":
            fresh(folder)

    taken = interleaved(commands, folder, environment(), runs=RUNS, before=before)
    bare, floor = taken["bare"].cpu, taken["floor"].cpu

    def beside(name: str) -> str:
        return f" (bare Python {bare:.3f}, with SQLite {floor:.3f}: {taken[name].cpu / floor:.1f}x)"

    return [
        row("`penstock run hello.py`, cold, first run in a new folder", taken["first"].cpu, "{:.3f} CPU s", 0.12,
            beside=beside("first")),
        row("the same, peak memory", taken["first"].peak_mb, "{:.1f} MB", 30),
        row("the same, on a store that exists", taken["again"].cpu, "{:.3f} CPU s", 0.12, beside=beside("again")),
        row("the same, all hits", taken["hits"].cpu, "{:.3f} CPU s", 0.12),
    ]  # fmt: skip


def chain_rows(python: Path, folder: Path) -> list[Row]:
    (folder / "chain.py").write_text(CHAIN)
    (folder / "floor.py").write_text(FLOOR)
    found: list[Row] = []
    for mode in ("full", "normal"):
        step, floor, hit = per_step(python, folder, mode)
        what = f"a durable step of a chain, synchronous={mode.upper()} on both sides ({STEPS:,} steps)"
        found.append(row(what, step.cpu, "{:.3f} ms CPU per step", 0.3, beside=f" (floor {floor.cpu:.3f})"))
        if mode == "full":  # without the disk's part, the floor is next to nothing and a ratio says nothing
            there = step.cpu * GOALS_FLOOR_MS / floor.cpu
            found += [
                row(f"the same, scaled to the {GOALS_FLOOR_MS} ms that the floor took where the mark was set", there,
                    "{:.3f} ms CPU per step", 0.3),
                row("the same, against the floor's CPU", step.cpu / floor.cpu, "{:.1f}x", 3.5),
                row("the same, against the floor's wall time", step.wall / floor.wall, "{:.1f}x", 2.2,
                    beside=f" ({step.wall:.3f} against {floor.wall:.3f} ms per step)"),
            ]  # fmt: skip
        found.append(row("the same chain again, all hits", hit.cpu, "{:.3f} ms CPU per step", 0.15,
                         beside=f" (wall {hit.wall:.3f} ms)"))  # fmt: skip
    return found


def per_step(python: Path, folder: Path, mode: str) -> tuple[Figures, Figures, Figures]:
    """Milliseconds per step: of a chain that runs, of the floor, and of a chain that is all hits."""
    penstock = str(python.parent / "penstock")
    chain = [penstock, "run", "chain.py", "--length"]
    commands: dict[str, list[str]] = {}
    for name, steps in (("one", "1"), ("many", str(STEPS + 1))):
        commands[f"run {name}"] = [*chain, steps, "--no-cache"]
        commands[f"floor {name}"] = [str(python), "floor.py", steps, mode.upper()]
        commands[f"hit {name}"] = [*chain, steps]
    fresh(folder)
    taken = interleaved(commands, folder, environment() | {"PENSTOCK_DURABILITY": mode}, runs=RUNS)

    def each(what: str) -> Figures:
        one, many = taken[f"{what} one"], taken[f"{what} many"]
        ms = 1000 / STEPS
        return Figures((many.cpu - one.cpu) * ms, (many.wall - one.wall) * ms, many.peak_mb - one.peak_mb)

    return each("run"), each("floor"), each("hit")
