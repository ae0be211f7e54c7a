"""Which tests are near a file."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

NEAR = 8
"""Test files that a mutant is shown to."""
EVERYWHERE = "tests/test_options.py"
"""A test that walks through the whole package is near every file."""


class Tree:
    """A checkout: its files, and which tests are near each."""

    def __init__(self, root: Path, package: str = "geo3d") -> None:
        self.root, self.package = root, package
        self.tests = sorted(path.relative_to(root).as_posix() for path in (root / "tests").rglob("test_*.py"))
        self.files = sorted(path.relative_to(root).as_posix() for path in (root / package).rglob("*.py"))
        self.imports = {path: set(self._imported(path)) for path in [*self.files, *self.tests]}

    def _file(self, module: str) -> str | None:
        path = module.replace(".", "/")
        return next((name for name in (f"{path}.py", f"{path}/__init__.py") if (self.root / name).is_file()), None)

    def _imported(self, path: str) -> Iterator[str]:
        """Files that a file imports anywhere; names that a package passes on count for where they come from."""
        for module, name in _import_statements(self.root / path):
            if module.split(".")[0] != self.package:
                continue
            whole = self._file(f"{module}.{name}") if name else None
            file = whole or self._file(module)
            if file is not None:
                yield file
            if whole is None and file is not None and file.endswith("__init__.py"):
                passed = (inner for inner, said in _import_statements(self.root / file) if said == name)
                yield from filter(None, map(self._file, passed))

    def near(self, path: str, most: int = NEAR) -> list[str]:
        """The ``most`` tests nearest to a file, its own examples among them, and the test of the whole package."""
        inner, module = Path(path).relative_to(self.package), path.removesuffix(".py").replace("/", ".")
        folder = f"tests/{inner.parent.as_posix()}/".replace("/./", "/")
        users = {file for file in self.files if path in self.imports[file]}
        ranks: list[Callable[[str], bool]] = [
            lambda test: test == f"{folder}test_{inner.stem.strip('_')}.py",
            lambda test: test.startswith(folder) and Path(test).stem.endswith(f"_{inner.stem}"),
            lambda test: path in self.imports[test],
            lambda test: module in (self.root / test).read_text(),
            lambda test: bool(users & self.imports[test]),
            lambda test: str(Path(test).parent) in {str(Path(other).parent) for other in found},
        ]
        found = [path] if ">>> " in (self.root / path).read_text() and path.endswith(".py") else []
        for rank in ranks:
            fresh = [test for test in self.tests if test not in found and rank(test)]
            found += sorted(fresh, key=lambda test: (not test.startswith(folder), inner.stem not in Path(test).stem))
        whole = [EVERYWHERE] if EVERYWHERE in self.tests else []  # first: the others may use up the time
        return whole + [test for test in found[:most] if test != EVERYWHERE]


def _import_statements(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
