"""Draw the README's pictures again, from a real run of examples/tumours: `make pictures`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
EXAMPLE = HERE.parent.parent / "examples" / "tumours"


def penstock(*arguments: str) -> str:
    """What a command prints, colours and all."""
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": "108", "OMP_NUM_THREADS": "1"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-m", "penstock", *arguments],
        cwd=EXAMPLE, env=environment, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout


def terminal(*sessions: tuple[str, ...]) -> str:
    """Commands and what they printed, as an SVG of a terminal. Its web font is left out: no page should phone home."""
    console = Console(record=True, width=108, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    for arguments in sessions:
        console.print(Text.assemble(("$ ", "dim"), ("penstock " + " ".join(arguments), "bold")))
        console.print(Text.from_ansi(penstock(*arguments).rstrip()))
    svg = console.export_svg(title="penstock")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    subprocess.run([sys.executable, "make_data.py"], cwd=EXAMPLE, check=True)
    subprocess.run(["rm", "-rf", ".penstock"], cwd=EXAMPLE, check=True)
    picture = terminal(("run", "pipeline.py"), ("run", "pipeline.py", "--strengths", "0.00001"))
    (HERE / "run.svg").write_text(picture, encoding="utf-8")
    penstock("graph", "pipeline.py", "--format", "svg", "-o", str(HERE / "graph.svg"))


if __name__ == "__main__":
    main()
