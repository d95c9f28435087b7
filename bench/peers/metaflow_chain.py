"""Metaflow reads its graph from the source of a class, so a chain of N steps is written out: `prepare N` does."""

import sys
from itertools import pairwise
from pathlib import Path

STEP = """
    @step
    def {name}(self):
        self.x = self.x + 1
        self.next(self.{following})
"""
FLOW = """from metaflow import FlowSpec, step


class Chain(FlowSpec):
    @step
    def start(self):
        self.x = 1
        self.next(self.{first})
{middle}
    @step
    def end(self):
        self.x = self.x + 1
        print(self.x)


if __name__ == "__main__":
    Chain()
"""
steps = int(sys.argv[2])
names = [f"increment_{number}" for number in range(2, steps)] + ["end"]
middle = "".join(STEP.format(name=name, following=following) for name, following in pairwise(names))
Path("flow.py").write_text(FLOW.format(first=names[0], middle=middle))
