"""A Hamilton node is a function whose argument is named like the node before it, so a chain of N is written out."""

import importlib
import sys
from pathlib import Path

from hamilton import driver

steps = int(sys.argv[1])
written = [f"def x{n}(x{n - 1}: int) -> int:\n    return x{n - 1} + 1\n" for n in range(1, steps + 1)]
Path("chain.py").write_text("\n\n".join(written))
sys.path.insert(0, "")
chain = importlib.import_module("chain")
made = driver.Builder().with_modules(chain).with_cache().build()
print(made.execute([f"x{steps}"], inputs={"x0": 0}))
