"""What is known of one source file: its top-level statements, what each binds, changes and mentions."""

from __future__ import annotations

from typing import Literal

import msgspec

VERSION = 5  # of the analysis: raised whenever the same bytes would give other facts or another digest


class Import(msgspec.Struct, frozen=True, array_like=True):
    """One name that an import binds. `attr` None: the name stands for the module itself."""

    module: str
    level: int = 0
    attr: str | None = None
    line: int = 0


class Mention(msgspec.Struct, frozen=True, array_like=True):
    """A use of a name from outside the statement: `helpers.clean` is ("helpers", "clean").

    `via` is set when the first name was imported inside a function; `dynamic` when it is read by getattr with a name
    that is not written in the source. `literal` is the text it is asked for, as in `os.environ["HOME"]`; "" where
    that is not written in the source. Such a mention comes beside the plain one; so does a call without arguments
    of what would then be seeded by the kernel, whose literal is "()".
    """

    chain: tuple[str, ...]
    line: int
    via: Import | None = None
    dynamic: bool = False
    literal: str | None = None


class Block(msgspec.Struct, frozen=True, array_like=True):
    """One top-level statement. Lines count from 1, the last one included; the digest is of its meaning."""

    label: str
    digest: str
    first_line: int
    last_line: int
    mentions: tuple[Mention, ...] = ()
    fills: tuple[tuple[str, ...], ...] = ()  # what its functions change when they are called, by its chain
    kind: Literal["statement", "function", "class", "maker"] = "statement"  # a maker acts when classes are made of it


class Effect(msgspec.Struct, frozen=True, array_like=True):
    """What importing the file does to something of another file: `number` is the statement that does it.

    Whatever it does, it may call what `chain` stands for, which changes what that fills; a base class only if it is a
    maker. A mention changes an object itself, unless it is a function or class.
    """

    number: int
    chain: tuple[str, ...]
    via: Import | None = None
    how: Literal["changes", "mentions", "calls", "inherits"] = "calls"


class ModuleFacts(msgspec.Struct, frozen=True, array_like=True):
    """Everything that fingerprints need of a file, so that a known file is not parsed again."""

    blocks: tuple[Block, ...]
    names: dict[str, tuple[int, ...]]  # name -> statements that bind, rebind or change it, in order
    imports: dict[str, tuple[Import, ...]]
    stars: tuple[Import, ...] = ()
    exports: tuple[str, ...] | None = None  # a literal __all__
    filled_by: dict[str, tuple[int, ...]] = {}  # name -> statements that fill it through a function, while importing
    decorated_by: dict[str, tuple[int, ...]] = {}  # name -> definitions decorated with an attribute of it
    changes: dict[str, tuple[int, ...]] = {}  # like `names`, for names that only `import *` can have bound
    effects: tuple[Effect, ...] = ()
    modules: tuple[Import, ...] = ()  # what is imported when the file is
    problem: str | None = None  # why the file could not be parsed

    def has(self, name: str) -> bool:
        return name in self.names or name in self.imports or name in self.filled_by
