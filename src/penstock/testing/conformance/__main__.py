"""`python -m penstock.testing.conformance`: run the cases on engines, say what differs, write docs/backends.md."""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from ...core.errors import PenstockError
from . import results as kept
from .campaign import Campaign, Played
from .catalogue import CASES, chosen
from .driving import driver_of
from .generating import generated_cases
from .page import COLUMNS, page

SEEDS = 60
ENGINE_SEEDS = 8  # where each step costs a second


def main() -> int:
    arguments = _arguments()
    output = Path(arguments.output) if arguments.output else None
    if arguments.check or arguments.render:
        assert output is not None
        return _check(output) if arguments.check else _render(output)
    for each in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job is born deaf to it
        signal.signal(each, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="penstock-conformance-"))
    try:
        return _run(arguments, work, output)
    except PenstockError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if arguments.keep:
            print(f"what was left is in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def _run(arguments: argparse.Namespace, work: Path, output: Path | None) -> int:
    whole = not arguments.cases
    names = arguments.engines.split(",")
    drivers = {name: driver_of(name, Path.cwd()) for name in names}  # all of them first: a missing one is known at once
    cases = chosen(tuple(arguments.cases), sample=arguments.sample)
    seeds = (SEEDS if whole else 0) if arguments.seeds is None else arguments.seeds
    generated = generated_cases(range(seeds), work / "generated")
    campaign = Campaign((*cases, *generated), work, full=not arguments.small)
    command = f"python -m penstock.testing.conformance {shlex.join(sys.argv[1:])}"
    columns: dict[str, kept.Column] = {}
    wrong = 0
    for name, driver in drivers.items():
        few = generated if name in ("calm", "local", "apart") else generated[:ENGINE_SEEDS]
        played = campaign.play(driver, (*cases, *few))
        wrong += _told(name, played)
        columns[name] = kept.column_of(driver, played, command, full=campaign.full)
        if whole and output is not None:  # after each: an engine that breaks later takes nothing away
            path = output.with_suffix(".json")
            kept.save(kept.with_columns(kept.load(path), {name: columns[name]}), path)
            _render(output)
    return 1 if wrong else 0


def _told(name: str, played: list[Played]) -> int:
    """Print what became of each case; how many were not kept."""
    wrong = 0
    for one in played:
        print(f"{name:<10} {one.verdict:<8} {one.case.name} ({one.seconds:.1f} s)", flush=True)
        if one.verdict != "kept":
            wrong += one.verdict != "refused"
            print("".join(f"    {line}\n" for line in one.differences), end="", flush=True)
    counts = Counter(one.verdict for one in played)
    print(f"{name}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()), flush=True)
    return wrong


def _render(output: Path) -> int:
    output.write_text(page(kept.load(output.with_suffix(".json")), CASES), encoding="utf-8")
    print(f"{output} is written")
    return 0


def required() -> list[str]:
    """Engines that the page must tell of: the local ones, and those that there is a driver for."""
    drivers = {path.stem.removeprefix("conformance_") for path in Path.cwd().glob("engines/conformance_*.py")}
    return [name for name in COLUMNS if name in kept.LOCAL or name in drivers]


def _check(output: Path) -> int:
    """Whether the committed page is about this code, and is what its results say."""
    results = kept.load(output.with_suffix(".json"))
    sample = [case.name for case in CASES if case.sample]
    found = kept.faults(results, [case.name for case in CASES], required(), sample)
    if not output.exists() or output.read_text(encoding="utf-8") != page(results, CASES):
        found.append(f"it is not what {output.with_suffix('.json').name} says (--render writes it from there)")
    for line in found:
        print(f"{output} is stale: {line}")
    print("Run: make conformance" if found else f"{output} is about this code")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m penstock.testing.conformance", description=__doc__)
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help="only these cases or groups of cases; the page is not written then")
    add("--engines", default="local,apart", metavar="NAMES", help="with commas (%(default)s)")
    add("--output", metavar="FILE", help="the page to write; FILE.json goes beside it")
    add("--sample", action="store_true", help="only the cases that CI runs on every engine")
    add("--small", action="store_true", help="at the small size of every day")
    add("--seeds", type=int, metavar="N", help=f"so many generated pipelines ({SEEDS}; 0 for a few cases)")
    add("--keep", action="store_true", help="leave the projects, stores and printed text where they are, and say where")
    add("--check", action="store_true", help="only say whether the page of --output is about this code")
    add("--render", action="store_true", help="only write the page of --output again from its results")
    arguments = parser.parse_args()
    if (arguments.check or arguments.render) and not arguments.output:
        parser.error("--check and --render need --output")
    unknown = {*arguments.cases} - {case.name for case in CASES} - {case.group for case in CASES}
    if unknown:
        parser.error(f"there is no case or group {', '.join(sorted(map(repr, unknown)))}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
