"""Bytes of a Python file in, facts out. One walk over the tree does both: it writes the meaning and notes the names.

`_ast` and `compile` are used rather than `ast`, whose import costs more than the analysis of a small file.
"""

from __future__ import annotations

import _ast
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ...core.canonical import digest_bytes
from .facts import Block, Import, Mention, ModuleFacts
from .importing import ImportTime
from .impure import BARE, BARE_NAMES
from .scopes import Scope
from .syntax import (
    MUTATORS,
    STEP_DECORATORS,
    chain_of,
    decorator_chains,
    exports,
    imported,
    keeps_what_it_makes,
    kind_of,
    modules_of,
    root_chain,
    step_names,
    top_level,
)

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST
_NOT_MEANING = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
# What is evaluated first is walked first: a class body's `x = x` reads the module's x before it binds its own.
_VALUE_FIRST = (_ast.Assign, _ast.AugAssign, _ast.AnnAssign, _ast.NamedExpr)
_BLIND = frozenset({"__doc__", "__subclasses__"})  # attributes that lead where no name does, of whatever object
_NESTED = {_ast.ListComp, _ast.SetComp, _ast.DictComp, _ast.GeneratorExp}


def analyse(source: bytes, known: Mapping[str, bool] = MappingProxyType({})) -> ModuleFacts:
    """The facts of a file. A file that cannot be parsed is one block that means its bytes.

    `known`: names of penstock (True) or its decorators (False) that are bound elsewhere, in another cell.
    """
    try:
        body = _parse(source, "exec").body
        names = {**known, **step_names(body)}
        try:
            return _Reader(names).read(body)
        except RecursionError:
            # A sum of 400 terms is a tree 400 deep. Frames of Python functions live on the heap, so there is room.
            limit = sys.getrecursionlimit()
            sys.setrecursionlimit(max(limit, 60_000))
            try:
                return _Reader(names).read(body)
            finally:
                sys.setrecursionlimit(limit)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        block = Block("whole file", digest_bytes(source), 1, source.count(b"\n") + 1)
        return ModuleFacts((block,), {}, {}, problem=f"{type(error).__name__}: {error}")


_PARSING = threading.Lock()  # two at a time, CPython 3.11 mixes up how deep each of them is


def _parse(source: bytes | str, mode: str) -> Any:
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user hears of a bad escape when the file is imported
        return compile(source, "<source>", mode, _ONLY_AST, dont_inherit=True)


def _fields(kind: type) -> tuple[str, ...]:
    names = tuple(each for each in kind._fields if each not in _NOT_MEANING)  # type: ignore[attr-defined]
    if issubclass(kind, _VALUE_FIRST):
        return tuple(sorted(names, key=lambda name: name.startswith("target")))
    return names


class _Reader:
    """Walks statements; `out` collects the meaning, `scope` the names."""

    def __init__(self, step_names: dict[str, bool]) -> None:
        self.step_names = step_names
        self.out: list[str] = []
        self.scope = Scope("module", None)
        self.in_annotation = False
        self.in_docs = False
        self.fields: dict[type, tuple[str, ...]] = {}
        self.handlers: dict[type, Callable[[Any], None]] = {
            _ast.Name: self.name,
            _ast.Attribute: self.attribute,
            _ast.Subscript: self.subscript,
            _ast.Constant: self.constant,
            _ast.Call: self.call,
            _ast.Expr: self.expression,
            _ast.FunctionDef: self.function,
            _ast.AsyncFunctionDef: self.function,
            _ast.Lambda: self.anonymous,
            _ast.ClassDef: self.class_definition,
            _ast.NamedExpr: self.walrus,
            _ast.Import: self.local_import,
            _ast.ImportFrom: self.local_import,
            _ast.Global: self.global_names,
            _ast.Nonlocal: self.nonlocal_names,
            _ast.ExceptHandler: self.named_part,
            _ast.MatchAs: self.named_part,
            _ast.MatchStar: self.named_part,
            _ast.MatchMapping: self.named_part,
            _ast.arg: self.argument,
            _ast.AnnAssign: self.annotated,
            _ast.Assign: self.assigned,
        }
        self.handlers |= dict.fromkeys(_NESTED, self.comprehension)

    # ---- the file

    def read(self, body: list[_ast.stmt]) -> ModuleFacts:
        blocks: list[Block] = []
        imports: dict[str, list[Import]] = {}
        stars: list[Import] = []
        touched: dict[str, list[int]] = {}
        bound: set[str] = set()
        modules: list[Import] = []
        import_time = ImportTime()
        decorated: dict[str, list[int]] = {}
        for each in top_level(body):
            if isinstance(each, _ast.Import | _ast.ImportFrom):
                for name, found in imported(each):
                    stars.append(found) if name == "*" else imports.setdefault(name, []).append(found)
                modules += modules_of(each)
                continue
            if isinstance(each, _ast.Expr) and isinstance(each.value, _ast.Constant):
                continue
            block, scope = self.block(each)
            number = len(blocks)
            blocks.append(block)
            bound.update(scope.bound)
            for name in scope.touched():
                touched.setdefault(name, []).append(number)
            for name, locals_ in scope.imports.items():
                imports.setdefault(name, []).extend(locals_)
                bound.add(name)
                touched.setdefault(name, []).append(number)
            chains = decorator_chains(each)
            for chain in chains:
                if len(chain) > 1:
                    decorated.setdefault(chain[0], []).append(number)
            import_time.statement(each, block, scope, chains)
            modules += scope.modules
        numbers_of = {name: tuple(dict.fromkeys(numbers)) for name, numbers in touched.items()}
        own = {name for name in numbers_of if name in bound or name in imports}
        return ModuleFacts(
            blocks=tuple(blocks),
            names={name: numbers for name, numbers in numbers_of.items() if name in own},
            imports={name: tuple(dict.fromkeys(found)) for name, found in imports.items()},
            stars=tuple(stars),
            exports=exports(body),
            changes={name: each for name, each in numbers_of.items() if stars and name not in own},
            filled_by=import_time.filled_by(imports),
            decorated_by={name: tuple(numbers) for name, numbers in decorated.items()},
            effects=import_time.effects(imports, own, bool(stars)),
            modules=tuple(dict.fromkeys(modules)),
        )

    def block(self, node: _ast.stmt) -> tuple[Block, Scope]:
        self.out = []
        self.scope = scope = Scope("module", None)
        self.walk(node)
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        mentions = tuple(
            dict.fromkeys(
                Mention(load.chain, load.line, load.via, load.dynamic, load.literal) for load in scope.distinct_loads()
            )
        )
        names = [*scope.touched(), *scope.imports, f"{type(node).__name__.lower()} statement"]
        label = getattr(node, "name", None) or names[0]
        digest = digest_bytes("".join(self.out).encode("utf-8", "surrogatepass"))
        block = Block(label, digest, first, node.end_lineno or first, mentions, tuple(scope.fills), kind_of(node))
        return block, scope

    # ---- the walk

    def walk(self, node: Any) -> None:
        kind = type(node)
        handler = self.handlers.get(kind)
        if handler is not None:
            handler(node)
        else:
            self.plain(node, kind)

    def plain(self, node: Any, kind: type, skip: str = "") -> None:
        fields = self.fields.get(kind)
        if fields is None:
            fields = self.fields[kind] = _fields(kind)
        out = self.out
        out.append(kind.__name__ + "(")
        for field in fields:
            if field != skip:
                self.value(getattr(node, field, None))
        out.append(")")

    def value(self, value: Any) -> None:
        if isinstance(value, _ast.AST):
            self.walk(value)
        elif isinstance(value, list):
            self.out.append("[")
            for each in value:
                # A bare string does nothing: docstrings, and strings used as comments.
                if type(each) is _ast.Expr and type(each.value) is _ast.Constant and type(each.value.value) is str:
                    continue
                self.value(each)
            self.out.append("]")
        elif value is None:
            self.out.append("~")
        else:
            self.out.append(repr(value) + ",")

    def name(self, node: _ast.Name) -> None:
        self.out.append(f"'{node.id}'")
        if isinstance(node.ctx, _ast.Load):
            self.scope.load((node.id,), node.lineno)
        else:
            self.scope.bind(node.id)

    def attribute(self, node: _ast.Attribute) -> None:
        if not isinstance(node.ctx, _ast.Load):
            self.scope.change(root_chain(node))
        elif node.attr in _BLIND and not self.in_docs:
            self.scope.load((node.attr,), node.lineno)
        chain = chain_of(node)
        if chain is None:
            self.plain(node, _ast.Attribute)
        else:
            self.out.append(f"'{'.'.join(chain)}'")
            self.scope.load(chain, node.lineno)

    def subscript(self, node: _ast.Subscript) -> None:
        if not isinstance(node.ctx, _ast.Load):
            self.scope.change(root_chain(node))
        else:
            self.asked(chain_of(node.value), node.slice, node.lineno)
        self.plain(node, _ast.Subscript)

    def constant(self, node: _ast.Constant) -> None:
        value = node.value
        # repr refuses integers of more than 4300 digits.
        text = hex(value) if type(value) is int else repr(value)
        self.out.append(f"{type(value).__name__}:{text};")
        if self.in_annotation and isinstance(value, str):
            self.quoted(value, node.lineno)

    def asked(self, chain: tuple[str, ...] | None, key: Any, line: int) -> None:
        """`os.environ["X"]`, `environ.get("X")`, `getenv("X")`; what the name stands for is seen later."""
        if chain is not None and not {"environ", "getenv"}.isdisjoint(chain):
            text = getattr(key, "value", None)
            self.scope.load(chain, line, literal=text if isinstance(text, str) else "")

    def quoted(self, text: str, line: int) -> None:
        """Names inside an annotation written as a string."""
        try:
            tree = _parse(text.strip(), "eval")
        except (SyntaxError, ValueError, RecursionError):
            return
        out, self.out = self.out, []
        before = len(self.scope.loads)
        self.walk(tree.body)
        self.scope.loads[before:] = [load._replace(line=line) for load in self.scope.loads[before:]]
        self.out = out

    def call(self, node: _ast.Call) -> None:
        func = node.func
        if isinstance(func, _ast.Attribute) and func.attr in MUTATORS:
            self.scope.change(root_chain(func))
        chain = chain_of(func)
        if chain is not None and chain[-1] in BARE_NAMES and not node.args and not node.keywords:
            self.scope.load(chain, node.lineno, literal=BARE)
        if chain is not None and node.args:
            first = node.args[0]
            self.asked(chain, first, node.lineno)
            if chain in (("setattr",), ("delattr",)):
                self.scope.change(root_chain(first))
            if chain == ("getattr",) and len(node.args) > 1 and not isinstance(node.args[1], _ast.Constant):
                target = chain_of(first)
                if target is not None:
                    self.scope.load(target, node.lineno, dynamic=True)
            module = getattr(first, "value", None)
            if chain[-1] in ("import_module", "__import__") and isinstance(module, str) and module[:1] != ".":
                self.scope.load(("*",), node.lineno, via=Import(module))
                self.plain(node, _ast.Call, skip="func")
                self.out.append(".".join(chain))
                return
        self.plain(node, _ast.Call)

    def expression(self, node: _ast.Expr) -> None:
        before = len(self.scope.loads)
        self.plain(node, _ast.Expr)
        if self.scope.kind == "module":
            # A statement that is run for its effect may change whatever it mentions: `shuffle(X)`, `np.random.seed(0)`.
            for load in self.scope.loads[before:]:
                self.scope.change(load.chain, sure=False)

    # ---- definitions

    def decorators(self, node: Any) -> None:
        self.out.append("@[")
        for each in node.decorator_list:
            if not self.is_step_decorator(each):
                self.walk(each)
        self.out.append("]")

    def is_step_decorator(self, node: Any) -> bool:
        chain = chain_of(node.func if isinstance(node, _ast.Call) else node)
        if chain is None or chain[0] not in self.step_names:
            return False
        is_module = self.step_names[chain[0]]
        return (len(chain) > 1 and chain[-1] in STEP_DECORATORS) if is_module else len(chain) == 1

    def annotation(self, node: Any) -> None:
        before, self.in_annotation = self.in_annotation, True
        self.value(node)
        self.in_annotation = before

    def function(self, node: _ast.FunctionDef | _ast.AsyncFunctionDef) -> None:
        self.out.append(f"{type(node).__name__} {node.name}(")
        self.decorators(node)
        self.annotation(node.returns)
        self.value(getattr(node, "type_params", None))
        self.signature_and_body(node.args, node.body)
        self.scope.bind(node.name)
        self.out.append(")")

    def anonymous(self, node: _ast.Lambda) -> None:
        self.out.append("Lambda(")
        self.signature_and_body(node.args, node.body)
        self.out.append(")")

    def signature_and_body(self, args: _ast.arguments, body: Any) -> None:
        self.plain(args, _ast.arguments)  # defaults and annotations belong to the enclosing scope
        self.open("function")
        for each in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
            if each is not None:
                self.scope.bind(each.arg)
        self.value(body)
        self.close()

    def argument(self, node: _ast.arg) -> None:
        self.out.append(f"{node.arg}:")
        self.annotation(node.annotation)

    def annotated(self, node: _ast.AnnAssign) -> None:
        self.out.append("AnnAssign(")
        self.annotation(node.annotation)
        self.value(node.value)
        self.value(node.target)
        self.out.append(")")

    def assigned(self, node: _ast.Assign) -> None:
        # `inner.__doc__ = fn.__doc__` passes a docstring on and does nothing by it.
        self.in_docs = all(isinstance(each, _ast.Attribute) and each.attr == "__doc__" for each in node.targets)
        self.plain(node, _ast.Assign)
        self.in_docs = False

    def class_definition(self, node: _ast.ClassDef) -> None:
        self.out.append(f"ClassDef {node.name}(")
        self.decorators(node)
        self.value(getattr(node, "type_params", None))
        self.value(node.bases)
        self.value(node.keywords)
        self.open("class")
        self.value(node.body)
        self.close()
        self.scope.bind(node.name)
        if keeps_what_it_makes(node):
            self.scope.fills[node.name,] = None
        self.out.append(")")

    def comprehension(self, node: Any) -> None:
        self.out.append(type(node).__name__ + "(")
        self.walk(node.generators[0].iter)  # evaluated outside
        self.open("comprehension")
        for number, each in enumerate(node.generators):
            self.plain(each, _ast.comprehension, skip="" if number else "iter")
        for field in ("elt", "key", "value"):
            self.value(getattr(node, field, None))
        self.close()
        self.out.append(")")

    def walrus(self, node: _ast.NamedExpr) -> None:
        self.out.append(f"NamedExpr({node.target.id}")
        self.value(node.value)
        scope = self.scope
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        scope.bind(node.target.id)
        self.out.append(")")

    def open(self, kind: str) -> None:
        self.scope = Scope(kind, self.scope)

    def close(self) -> None:
        closed, parent = self.scope, self.scope.parent
        assert parent is not None
        closed.close_into(parent)
        self.scope = parent

    # ---- other bindings

    def local_import(self, node: _ast.Import | _ast.ImportFrom) -> None:
        self.out.append("Import[")
        for name, found in imported(node):
            self.out.append(f"{name}={found.level}:{found.module}:{found.attr},")
            if name != "*":
                self.scope.bind_import(name, found)
        if self.scope.kind == "module":
            self.scope.modules += modules_of(node)
        self.out.append("]")

    def global_names(self, node: _ast.Global) -> None:
        self.out.append(f"Global{sorted(node.names)}")
        self.scope.globals.update(node.names)

    def nonlocal_names(self, node: _ast.Nonlocal) -> None:
        self.out.append(f"Nonlocal{sorted(node.names)}")
        self.scope.nonlocals.update(node.names)

    def named_part(self, node: Any) -> None:
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        if name:
            self.scope.bind(name)
        self.plain(node, type(node))
