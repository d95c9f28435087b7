"""soak: real runs, killed at seeded moments and resumed until they are done, and what came of them.

    python -m soak                          300 kills, and docs/soak.md
    python -m soak --seed 7 --case 12       one case again

A case is a project of its own in a temporary folder: it is started as a user starts it, struck (`strikes.py`), resumed
(`case.py`), and then held against a calm run (`verdict.py`). Nothing here is imported by penstock or shipped with it.
"""
