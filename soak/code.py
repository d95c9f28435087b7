"""Which code a campaign tested: a digest that comments, docstrings and formatting do not change."""

from __future__ import annotations

from pathlib import Path

from penstock.testing.codedigest import code_digest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "penstock"
ROOMS = ("core", "engine", "graph", "ports", "stores", "wiring")


def digests() -> dict[str, str]:
    """Room -> digest of its Python and SQL."""
    return {room: code_digest([SOURCE / room], SOURCE / room) for room in ROOMS}
