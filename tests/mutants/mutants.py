"""Small changes of a source file, each of which a good test suite should notice."""

import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

COMPARISONS = {
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip

SYMMETRIC = {"max", "min", "maximum", "minimum", "equal", "allclose", "gcd", "transpose", "swapaxes", "runs", "usable"}
"""Functions whose first two arguments may be swapped."""


class Mutant(NamedTuple):
    """One changed file: ``text`` is all of it after the change."""

    path: str
    kind: str
    line: int
    old: str
    """The lines that change, without indentation."""
    new: str
    text: str

    def __str__(self) -> str:
        old, new = self.old.replace("\n", "\n    - "), self.new.replace("\n", "\n    + ")
        return f"{self.path}:{self.line} ({self.kind})\n    - {old}\n    + {new}"


def mutants_of(path: str, source: str) -> list[Mutant]:
    """All mutants of a Python source text; types, docstrings and texts are left alone."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, kind, new in _changes(ast.parse(source)):
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        found.append(_mutant(path, source.encode(), kind, start, end, new))
    return [mutant for mutant in found if mutant.old != mutant.new]


def _mutant(path: str, source: bytes, kind: str, start: int, end: int, new: str) -> Mutant:
    text = source[:start] + new.encode() + source[end:]
    left, right = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end) % (len(source) + 1)
    old_lines, new_lines = source[left:right], text[left : right + len(text) - len(source)]
    line = source.count(b"\n", 0, start) + 1
    return Mutant(path, kind, line, old_lines.decode().strip(), new_lines.decode().strip(), text.decode())


def compiles(mutant: Mutant) -> bool:
    """Whether it is a program; the few that are none need not be run."""
    try:
        compile(mutant.text, mutant.path, "exec")
    except SyntaxError:
        return False
    return True


def _changes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """(node, kind of the change, what stands in its place)."""
    for node in _walk(tree):
        for kind, changed in _variants(node):
            # In brackets where the place may bind more tightly than what is put there.
            bracketed = isinstance(changed, (ast.BinOp, ast.BoolOp, ast.Compare, ast.UnaryOp, ast.IfExp))
            text = ast.unparse(changed)
            yield node.test if kind == "branch" else node, kind, f"({text})" if bracketed else text


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose values matter when the program runs."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or (name == "keywords" and _is_zip(node)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr) and not _types_only(child):
                yield child
                yield from _walk(child)


def _is_zip(node: ast.AST) -> bool:
    """Whether the keyword is zip's ``strict``, which only says what holds anyway."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip"


def _types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare():
            for i, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    yield "comparison", _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
        case ast.Constant(value=bool()):
            yield "truth", ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield "number", ast.Constant(node.value + 1)
        case ast.Constant(value=float()):
            yield "number", ast.Constant(2 * node.value if node.value else 1.0)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "sign", node.operand
        case ast.BoolOp():
            yield "and or", _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        case ast.BinOp():
            yield "arithmetic", _with(node, op=ARITHMETIC.get(type(node.op), type(node.op))())
            if isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult)):
                yield "order", _with(node, left=node.right, right=node.left)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in SYMMETRIC:
            return
        case ast.Call(args=[first, second, *rest]) if not {type(first), type(second)} & {ast.Starred, ast.GeneratorExp}:
            yield "arguments", _with(node, args=[second, first, *rest])
        case ast.If() | ast.IfExp() | ast.While():
            yield "branch", _not(node.test)
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield "removed", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "removed", ast.Pass()
        case ast.Break():
            yield "loop", ast.Continue()
        case ast.Continue():
            yield "loop", ast.Break()


def _not(test: ast.expr) -> ast.expr:
    return (
        test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else ast.UnaryOp(ast.Not(), test)
    )


def _with(node: ast.AST, **changes: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


class Written(NamedTuple):
    """One change that a person wrote down."""

    why: str
    path: str
    old: str
    new: str
    tests: list[str]


def read(path: Path) -> list[Written]:
    """The changes of a text file: blocks of ``# why``, the file, ``- old`` lines, ``+ new`` lines, ``= tests``."""
    found = []
    for block in path.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line]
        marked = {mark: [line[2:] for line in lines if line[:2].rstrip() == mark] for mark in "#-+="}
        names = [line for line in lines if line[:2].rstrip() not in "#-+="]
        if names:
            why, old, new = " ".join(marked["#"]), "\n".join(marked["-"]), "\n".join(marked["+"])
            found.append(Written(why, names[0], old, new, " ".join(marked["="]).split()))
    return found


def applied(change: Written, source: str) -> Mutant:
    """The mutant that a written change makes of its file.

    Raises:
        ValueError: If what it replaces is not there exactly once.
    """
    if source.count(change.old) != 1:
        raise ValueError(f"{change.path}: expected exactly once, found {source.count(change.old)} times: {change.old}")
    line = source[: source.index(change.old)].count("\n") + 1
    text = source.replace(change.old, change.new)
    return Mutant(change.path, "written", line, change.old.strip(), change.new.strip(), text)
