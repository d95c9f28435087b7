"""core: the words everything else is written in. Knows nobody.

Errors with a hint and a stable code, ids, clocks, durations and sizes, canonical JSON, digests, and the places
in a user's file. No I/O, no third-party import but blake3 and msgspec.
"""
