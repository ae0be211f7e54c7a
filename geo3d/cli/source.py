"""Reads parameters and their descriptions from source code, so that ``--help`` need not wait for torch to import."""

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
    """One parameter: its name, its default as source code (None if it has none), and its text in the docstring."""

    name: str
    default: str | None
    text: str
    range: str = ""
    """The range of its values in words; empty if it has none."""


def options(target: str) -> list[Option]:
    """The parameters of the function or class ``target``, in order; an empty list if its definition is not found.

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
    node, path = place
    documented = described(ast.get_docstring(node) or "")
    function: ast.AST | None = node
    if isinstance(node, ast.ClassDef):
        function = next((each for each in node.body if getattr(each, "name", "") == "__init__"), None)
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
    """The range that an annotation gives to a number, in words; empty if it gives none.

    If the annotation is a name, such as ``Share``, its definition is looked up in ``geo3d.checks`` or in the module.

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
    """The value of a number as ranges write it: ``10_000``, ``1e-3`` or ``2**18``.

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
    """The annotation that a module assigns to a name, as in ``NAME = Annotated[...]``; None if it is not found.

    If the module imports the name, the search goes on in the module that it comes from.

    Args:
        path: The source of the module.
        name: The name.
        passed: Files that were searched before; they are skipped, because the files of a package may import from one
            another.
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
                (value for other in others if other not in passed and (value := alias(other, name, passed))), None
            )
    return None


def named(module: str) -> list[str]:
    """The values of ``name="..."`` in the calls that a module assigns at its top level, in order.

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
    """The source file of a module, or all source files of a package, found without an import."""
    place = Path(geo3d.__file__).parents[1].joinpath(*module.split("."))
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def definition(path: Path, name: str) -> Definition | None:
    """The function or class of that name at the top level of a file; None if there is none."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not re.search(rf"^(def|class) {name}\b", text, re.MULTILINE):
        return None  # a search in the text is faster than parsing it
    body = ast.parse(text).body
    return next(each for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == name)


def described(docstring: str) -> dict[str, str]:
    """Name -> description, from the ``Args:`` section of a docstring.

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
