"""Every option of the package with its default and its range, and every constant, against the list in options.txt.

After a change, write the new list with ``python tests/test_options.py`` and describe the change in the changelog.
"""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import geo3d
from geo3d.checks import Length, OneOf, Range, parameters

LIST = Path(__file__).with_name("options.txt")
PLAIN = bool | int | float | str | None
PARTS = ast.Tuple | ast.List | ast.Dict | ast.Set | ast.BinOp | ast.operator | ast.UnaryOp | ast.unaryop
LITERAL = ast.Constant | ast.Name | ast.Attribute | ast.expr_context | PARTS


def options() -> Iterator[str]:
    """One line for each constant, and for each parameter that has a default of numbers or words, or a range."""
    root = Path(geo3d.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if "triton" in parts[:-1] or path.name.startswith("__"):
            continue  # Triton kernels are another language; __init__ defines nothing of its own, __main__ runs
        module = import_module(".".join(["geo3d", *parts]))
        yield from (f"{module.__name__}.{line}" for line in constants(path.read_text()))
        for name, value in vars(module).items():
            here = getattr(value, "__module__", "") == module.__name__
            if here and (inspect.isclass(value) or inspect.isfunction(value)):
                yield from described(f"{module.__name__}.{name}", value)


def constants(source: str) -> Iterator[str]:
    """The assignments of numbers and words to names in capitals."""
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.isupper():
                if all(isinstance(part, LITERAL) for part in ast.walk(value)):
                    yield ast.unparse(node)


def described(name: str, value: Any) -> Iterator[str]:
    functions = [(name, value)]
    if inspect.isclass(value):
        methods = ((key, each) for key, each in vars(value).items() if key != "__init__")
        functions += [(f"{name}.{key}", each) for key, each in methods if inspect.isfunction(each)]
    for path, function in functions:
        try:
            given = parameters(function)
        except (ValueError, TypeError):  # classes without a signature
            continue
        for key, parameter in given.items():
            words = [f"= {parameter.default!r}"] if plain(parameter.default) else []
            words += [
                str(each.names) if isinstance(each, OneOf) else repr(each) for each in ranges(parameter.annotation)
            ]
            if words:
                yield " ".join([path, key, *words])


def plain(value: Any) -> bool:
    """Whether a default consists only of numbers and words."""
    return all(map(plain, value)) if isinstance(value, tuple | list) else isinstance(value, PLAIN)


def ranges(annotation: Any) -> Iterator[Any]:
    """Ranges, lengths and choices anywhere in an annotation."""
    if isinstance(annotation, Range | Length | OneOf):
        yield annotation
    for part in get_args(annotation):
        yield from ranges(part)


def test_every_option_has_the_default_and_the_range_of_the_list():
    declared = sorted(set(options()))
    assert len(declared) > 500
    assert declared == LIST.read_text().splitlines()


if __name__ == "__main__":
    LIST.write_text("\n".join(sorted(set(options()))) + "\n")
