"""Moving an alias so that neither a repeat nor a latecomer undoes what came after it.

No registry offers a compare-and-set of an alias. So a move is made under a lease, by an attempt that is still its
step's newest, and is noted beside the alias with its key. A repeat finds its own note; an attempt that was stopped
between its last look and the registry's act finds out right afterwards, and puts back what the newest note says.
"""

from __future__ import annotations

from ..core.errors import FencedError
from ..ports.effects import Effect
from ..ports.models import AliasMove, ModelRegistry

KEPT = 10  # notes beside an alias: a repeat comes soon after the move that it repeats


def move_alias(registry: ModelRegistry, name: str, alias: str, move: AliasMove, effect: Effect) -> str:
    """Point the alias at `move.version`, unless this very effect has done so before. Says what was done, in words.

    Raises FencedError where the attempt has been replaced; the alias is then where the newer one put it.
    """
    found = registry.find(name, alias)
    before = found.version if found is not None else None
    notes = registry.moves(name, alias)
    done = any(note.key == move.key for note in notes)
    if before == move.version:
        if not done and (not notes or notes[0].version != before):  # an attempt before us came no further than the move
            registry.note_move(name, alias, move)
        return f"{alias} already points to version {before}"
    if done:
        return f"an earlier attempt pointed {alias} to version {move.version}; it has moved on to {before} since"
    effect.check()
    registry.set_alias(name, alias, move.version)
    try:
        effect.check()
    except FencedError:
        _put_back(registry, name, alias, before, notes)
        raise
    registry.note_move(name, alias, move)
    return f"{alias} → version {move.version}" + (f" (was {before})" if before else "")


def noted(notes: list[AliasMove], move: AliasMove) -> list[AliasMove]:
    """The notes with one more, newest first, each effect once."""
    return [move, *(note for note in notes if note.key != move.key)][:KEPT]


def _put_back(registry: ModelRegistry, name: str, alias: str, before: str | None, known: list[AliasMove]) -> None:
    """Where the alias was, or where it was put while this attempt did not run."""
    newer = registry.moves(name, alias)
    wanted = newer[0].version if newer and newer[:1] != known[:1] else before
    if wanted is not None:
        registry.set_alias(name, alias, wanted)
