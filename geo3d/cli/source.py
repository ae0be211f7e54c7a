"""What a function or class takes, read from its source: ``--help`` must not wait for torch to be imported."""

import ast
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import geo3d

Definition = ast.FunctionDef | ast.ClassDef


class Option(NamedTuple):
    """One parameter: its name, its default as written (None if it has none), and what the docstring says of it."""

    name: str
    default: str | None
    text: str


def options(target: str) -> list[Option]:
    """The parameters of ``geo3d.package.name``, in order; none if its definition is not found.

    Example:
        >>> [option.name for option in options("geo3d.cli.config.did_you_mean")]
        ['word', 'names', 'otherwise']
    """
    module, _, name = target.rpartition(".")
    if not module.startswith("geo3d."):
        return []
    found = next((each for path in files(module) if (each := definition(path, name))), None)
    if found is None:
        return []
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
        Option(each.arg, None if default is None else ast.unparse(default), documented.get(each.arg, ""))
        for each, default in pairs
        if each.arg != "self"
    ]


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
