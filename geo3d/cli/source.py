"""What a function or class takes, read from its source: ``--help`` must not wait for torch to be imported."""

import ast
import functools
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import geo3d
from geo3d import checks
from geo3d.checks import Range

Definition = ast.FunctionDef | ast.ClassDef


class Option(NamedTuple):
    """One parameter: its name, its default as written (None if it has none), and what the docstring says of it."""

    name: str
    default: str | None
    text: str
    range: str = ""
    """What values it takes, in words, where it is a number that may not be anything."""


def options(target: str) -> list[Option]:
    """The parameters of ``geo3d.package.name``, in order; none if its definition is not found.

    Example:
        >>> [option.name for option in options("geo3d.errors.did_you_mean")]
        ['word', 'names', 'otherwise']
    """
    module, _, name = target.rpartition(".")
    if not module.startswith("geo3d."):
        return []
    place = next(((each, path) for path in files(module) if (each := definition(path, name))), None)
    if place is None:
        return []
    found, path = place
    documented = described(ast.get_docstring(found) or "")
    function: ast.AST | None = found
    if isinstance(found, ast.ClassDef):
        function = next((each for each in found.body if getattr(each, "name", "") == "__init__"), None)
    if not isinstance(function, ast.FunctionDef):
        return []
    signature = function.args
    positional = [*signature.posonlyargs, *signature.args]
    defaults = [None] * (len(positional) - len(signature.defaults)) + list(signature.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(signature.kwonlyargs, signature.kw_defaults, strict=True)]
    return [
        Option(
            each.arg,
            None if default is None else ast.unparse(default),
            documented.get(each.arg, ""),
            stated(each.annotation, path),
        )
        for each, default in pairs
        if each.arg != "self"
    ]


def stated(annotation: ast.AST | None, path: Path) -> str:
    """The range of the numbers that an annotation asks for, in words, looked up where its names are defined.

    Example:
        >>> stated(ast.parse("Annotated[int, Range(1, 8)] | None", mode="eval").body, Path("x.py"))
        'from 1 to 8'
        >>> stated(ast.parse("Share", mode="eval").body, Path("x.py"))
        'from 0 to 1'
    """
    for node in ast.walk(annotation) if annotation else ():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Range":
            low, high = (number(each) for each in node.args)
            return str(Range(low, high, above=bool(node.keywords)))
        if isinstance(node, ast.Name):
            if hasattr(checks, node.id):
                marks = getattr(getattr(checks, node.id), "__metadata__", ())
                ranges = [str(mark) for mark in marks if isinstance(mark, Range)]
            else:
                ranges = [each for each in [stated(alias(path, node.id), path)] if each]
            if ranges:
                return ranges[0]
    return ""


def number(node: ast.AST) -> float:
    """A number as it is written in a range: ``10_000``, ``1e-3`` or ``2**18``.

    Example:
        >>> [number(ast.parse(text, mode="eval").body) for text in ("10_000", "1e-3", "2**18")]
        [10000, 0.001, 262144]
    """
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return number(node.left) ** number(node.right)
    value: float = ast.literal_eval(node)
    return value


@functools.cache
def alias(path: Path, name: str, passed: tuple[Path, ...] = ()) -> ast.AST | None:
    """What a module calls by that name: ``NAME = Annotated[...]`` in it, or in the one it is imported from.

    A package's files may import from one another: what was looked through before (``passed``) is not asked again.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not re.search(rf"\b{name}\b", text):
        return None
    passed += (path,)
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == name:
            return statement.value
        if isinstance(statement, ast.ImportFrom) and any(each.name == name for each in statement.names):
            module = statement.module or ""
            others = files(module) if module.startswith("geo3d.") and name[:1].isupper() else []
            return next(
                (found for other in others if other not in passed and (found := alias(other, name, passed))), None
            )
    return None


def named(module: str) -> list[str]:
    """What the calls at the top level of a module give as ``name="..."``, in order.

    Example:
        >>> named("geo3d.probes.protocols")[0]
        'crosspoint'
    """
    (path,) = files(module)
    return [
        str(keyword.value.value)
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
        for keyword in statement.value.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    ]


def files(module: str) -> list[Path]:
    """The source of a module, or every file in a package, without importing it."""
    place = Path(geo3d.__file__).parents[1].joinpath(*module.split("."))
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def definition(path: Path, name: str) -> Definition | None:
    """The function or class of that name at the top level of a file, if it is there."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not re.search(rf"^(def|class) {name}\b", text, re.MULTILINE):
        return None  # parsing takes longer than looking
    body = ast.parse(text).body
    return next(each for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == name)


def described(docstring: str) -> dict[str, str]:
    """What the ``Args:`` of a docstring says, by name.

    Example:
        >>> described('''What comes out.
        ...
        ... Args:
        ...     k: Neighbours
        ...         of a point.
        ...     width: Of layers.
        ... ''')
        {'k': 'Neighbours of a point.', 'width': 'Of layers.'}
    """
    _, _, section = inspect.cleandoc(docstring).partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    entries = re.findall(r"^    (\w+)(?: \([^)]*\))?: (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
