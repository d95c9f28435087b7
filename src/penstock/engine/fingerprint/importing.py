"""What happens while a file is imported, beyond binding its names: registries that are filled, settings that are set.

A statement at top level runs then, and so do the decorators of definitions and the bases and metaclasses of classes.
What these call is followed through the functions of the same file; where it leads to another file, it is kept as an
`Effect`, to be followed there.
"""

from __future__ import annotations

import _ast
from collections.abc import Container, Iterator
from typing import Any, Literal, NamedTuple

from .facts import Block, Effect, Mention
from .scopes import Scope
from .syntax import NO_DEFINITION, chain_of, root_chain

Chain = tuple[str, ...]


class _Use(NamedTuple):
    """What a statement does with a name when it runs."""

    number: int
    mention: Mention
    how: Literal["mentions", "calls", "inherits"]


class ImportTime:
    """Collects the statements of one file."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._definitions: dict[str, list[int]] = {}
        self._bases: dict[int, list[Chain]] = {}  # class -> its bases and metaclass
        self._uses: list[_Use] = []
        self._changed: list[tuple[int, Chain, bool]] = []  # statement, what it changes, whether that is sure

    def statement(self, node: Any, block: Block, scope: Scope, decorators: list[Chain]) -> None:
        """Note the next top-level statement."""
        number = len(self._blocks)
        self._blocks.append(block)
        self._changed += [(number, chain, sure) for chain, sure in scope.changed.items()]
        self._uses += [_Use(number, Mention(chain, block.first_line), "mentions") for chain in decorators]
        if decorators is NO_DEFINITION:
            self._uses += [_Use(number, each, "calls") for each in block.mentions if each.literal is None]
            return
        self._definitions.setdefault(node.name, []).append(number)
        if isinstance(node, _ast.ClassDef):
            bases = [root_chain(each) for each in node.bases]
            bases += [chain_of(each.value) for each in node.keywords if each.arg == "metaclass"]
            self._bases[number] = [chain for chain in bases if chain is not None]
            self._uses += [_Use(number, Mention(each, block.first_line), "inherits") for each in self._bases[number]]

    def filled_by(self, imports: Container[str]) -> dict[str, tuple[int, ...]]:
        """Who fills a registry: the function that changes it, and what calls that function while it is imported."""
        callers: dict[int, list[int]] = {}
        for use in self._uses:
            for called in self._called(use):
                callers.setdefault(called, []).append(use.number)
        found: dict[str, list[int]] = {}
        for number, block in enumerate(self._blocks):
            for name in dict.fromkeys(chain[0] for chain in block.fills):
                if name not in imports:  # what is imported is a registry of the file that it comes from
                    found.setdefault(name, []).extend([number, *callers.get(number, ())])
        return {name: tuple(dict.fromkeys(numbers)) for name, numbers in found.items()}

    def effects(self, imports: Container[str], own: Container[str], stars: bool) -> tuple[Effect, ...]:
        """What importing this file may do to others. `stars`: a name that it does not bind may come by `import *`."""

        def outside(name: str) -> bool:
            return name in imports or (stars and name not in own)

        found = [
            Effect(number, chain, None, "changes" if sure else "mentions")
            for number, chain, sure in self._changed
            if outside(chain[0])
        ]
        for use in self._uses:
            number, mention, how = use
            if mention.via is not None or outside(mention.chain[0]):
                found.append(Effect(number, mention.chain, mention.via, how))
                continue
            for called in self._called(use):
                block = self._blocks[called]
                found += [Effect(number, chain, None, "changes") for chain in block.fills if outside(chain[0])]
                if block.kind != "function":
                    found += [
                        Effect(number, chain, None, "inherits") for chain in self._bases[called] if outside(chain[0])
                    ]
                    continue
                for each in block.mentions:
                    if each.literal is None and (each.via is not None or outside(each.chain[0])):
                        found.append(Effect(number, each.chain, each.via))
        return tuple(dict.fromkeys(found))

    def _called(self, use: _Use) -> Iterator[int]:
        """Definitions of this file that run then, from the nearest outward. A base class runs only if it is a maker."""
        names, seen = [use.mention.chain[0]] if use.mention.via is None else [], set[int]()
        for name in names:
            for number in self._definitions.get(name, ()):
                if number in seen:
                    continue
                seen.add(number)
                block = self._blocks[number]
                if use.how != "inherits" or block.kind in ("maker", "function"):
                    yield number
                if block.kind == "function":
                    names += [each.chain[0] for each in block.mentions if each.via is None]
                else:
                    names += [chain[0] for chain in self._bases[number]]
