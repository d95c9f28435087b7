"""What a code fingerprint costs: cold, when nothing was read before, and warm, from what an earlier process kept.

Measured inside the process, from the first line to the digest: reading, parsing, following names, looking packages up.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import subprocess
from pathlib import Path

from .report import Row, environment, row

FILES, FUNCTIONS = 20, 11
RUNS = 15

MEASURE = """
import sys, time
from pathlib import Path
from penstock.engine.fingerprint import Fingerprints
started = time.process_time()
found = Fingerprints(Path.cwd(), Path("kept")).of(sys.argv[1])
spent = time.process_time() - started
print(spent, sum(not part.name.endswith(":imports") for part in found.parts))
"""

FUNCTION = '''
def part_{file}_{number}(rows: list[float], limit: float = LIMIT) -> float:
    """Add up what is below a limit, weighed."""
    kept = [row for row in rows if row < limit]
    total = 0.0
    for place, row in enumerate(kept):
        # later rows weigh less
        weight = WEIGHTS.get(place % {number_1}, 1.0) / (place + 1)
        if math.isnan(row) or row < -limit:
            continue
        total += weight * row + OFFSET
    return {call}
'''

BIG = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def total(x, y):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
"""


def rows(python: Path, folder: Path) -> list[Row]:
    """The lines of the page. `python` belongs to an environment that has the core alone."""
    small = folder / "functions"
    write_project(small)
    cold, warm, reached = measure(python, small)
    found = [
        row(f"code fingerprint, cold, {reached} definitions in {FILES} files", cold / reached,
            "{:.3f} ms CPU per definition", 0.5),
        row("the same, warm", warm, "{:.2f} ms CPU", 5),
    ]  # fmt: skip
    library = importlib.util.find_spec("sklearn")
    if library is not None and library.origin is not None:
        big = folder / "library"
        shutil.copytree(Path(library.origin).parent, big / "sklearn", ignore=shutil.ignore_patterns("__pycache__"))
        (big / "flow.py").write_text(BIG)
        cold, warm, reached = measure(python, big)
        kb = sum(path.stat().st_size for path in (big / "sklearn").rglob("*.py")) / 1000
        what = f"code fingerprint, cold, scikit-learn as the project's own ({kb:.0f} KB), {reached} definitions"
        found += [
            (what, f"{cold / reached:.2f} ms CPU per definition", "", ""),
            ("the same, warm", f"{warm:.0f} ms CPU", "", ""),
        ]
    return found


def write_project(folder: Path) -> None:
    """Every function calls the next one of its file, and the first ones call those of two other files."""
    folder.mkdir(parents=True)
    for file in range(FILES):
        others = [other for other in (2 * file + 1, 2 * file + 2) if other < FILES]
        head = "import json\nimport math\nimport msgspec\n" + "".join(f"import part_{other}\n" for other in others)
        head += f"\nLIMIT = {file + 10}.5\nOFFSET = math.sqrt({file})\nWEIGHTS = {{0: 0.5, 1: 0.25}}\n"
        text = ""
        for number in range(FUNCTIONS):
            last = number + 1 == FUNCTIONS
            call = "total + len(json.dumps(kept))" if last else f"part_{file}_{number + 1}(kept) + total"
            if number < len(others):
                call += f" + part_{others[number]}.part_{others[number]}_0(kept, limit)"
            text += "\n" + FUNCTION.format(file=file, number=number, number_1=number + 1, call=call)
        (folder / f"part_{file}.py").write_text(head + text)
    (folder / "flow.py").write_text("import part_0\n\ndef total(rows):\n    return part_0.part_0_0(rows)\n")


def measure(python: Path, folder: Path) -> tuple[float, float, int]:
    """Milliseconds cold and warm, medians, and how many definitions were reached; each in a process of its own."""
    command = [str(python), "-c", MEASURE, "flow.py:total"]
    cold, warm, reached = [], [], 0
    for _ in range(RUNS):
        shutil.rmtree(folder / "kept", ignore_errors=True)
        for taken in (cold, warm):
            done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
            spent, count = done.stdout.split()
            taken.append(float(spent) * 1000)
            reached = int(count)
    return statistics.median(cold), statistics.median(warm), reached
