"""What holds for the project as a whole: its top level, its files, its configurations and its package."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import warnings
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import geo3d

ROOT = Path(__file__).resolve().parents[1]
TOP = {
    "pyproject.toml", "README.md", "geo3d", "configs", "datasets", "tests", "notebooks", "LICENSE", "CHANGELOG.md",
    "Makefile", "CONTRIBUTING.md",
}  # fmt: skip
MADE = {"runs", "build", "dist"}  # by the commands of the Makefile; git ignores them
SOURCES = sorted((ROOT / "geo3d").rglob("*.py"))
LEAVES = sorted((ROOT / "configs").glob("*/*.yaml"))


def pyproject():
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = pytest.importorskip("tomli", reason="Python 3.10 has no reader of TOML of its own")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def imports(path):
    """(module, whether at the top of the file) of every import of a file."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", id(node) in top


def test_the_top_level_is_fixed():
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}
    assert found - MADE <= TOP


def test_only_the_command_line_knows_hydra():
    for path in SOURCES:
        if "cli" not in path.parts:
            assert not {module.split(".")[0] for module, _ in imports(path)} & {"hydra", "omegaconf"}, path


def test_open3d_is_imported_when_a_picture_is_asked_for():
    for path in SOURCES:
        assert not any(module.startswith("open3d") and top for module, top in imports(path)), path


def test_importing_geo3d_is_cheap():
    code = "import sys, geo3d, geo3d.cli.__main__; print(*sorted({'torch', 'numpy', 'hydra'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_file_is_one_idea():
    for path in SOURCES:
        if (lines := len(path.read_text().splitlines())) > 300:
            warnings.warn(f"{path}: {lines} lines; is it more than one idea?", stacklevel=1)
        assert path.name not in ("utils.py", "helpers.py", "misc.py")


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_configuration_is_short_and_says_what_it_is(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 15
    assert lines[0].startswith("# ")


def test_no_path_of_a_machine_is_written_down():
    for path in [*SOURCES, *LEAVES, *(ROOT / "tests").rglob("*.py")]:
        assert not re.search(r"[\"'(= ]/(home|root|Users|mnt)/\w", path.read_text()), path


def test_everything_needed_is_pinned_within_what_is_asked_for():
    project = pyproject()["project"]
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), text


def test_the_wheel_works_without_the_checkout(tmp_path):
    build = "from scikit_build_core import build; import sys; print(build.build_wheel(sys.argv[1]))"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wheel = tmp_path / done.stdout.split()[-1]
    assert wheel.name.startswith(f"geo3d-{geo3d.__version__}-py3-none-")  # of one kind of machine, of any Python
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    expected = {path.relative_to(ROOT).as_posix() for path in SOURCES}
    expected |= {f"geo3d/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {"geo3d", f"geo3d-{geo3d.__version__}.dist-info"}
    script = (
        "import sys; sys.path += sys.argv[1:3]; del sys.argv[1:3]; from geo3d.cli.__main__ import main; "
        "from geo3d.cli.config import config_dir; print(config_dir()); sys.exit(main(sys.argv[1:]))"
    )
    places = [str(tmp_path / "site"), sysconfig.get_path("purelib")]  # -S: no .pth file leads back to the checkout
    words = [sys.executable, "-I", "-S", "-c", script, *places, "pretrain", "--help"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == str(tmp_path / "site" / "geo3d" / "configs")


def test_the_console_script_exists():
    module, _, name = pyproject()["project"]["scripts"]["geo3d"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))


def imports_of(path: Path, names: set[str]) -> set[str]:
    """The modules of geo3d that a file imports, inside functions and for type checkers too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                inner = f"{node.module}.{each.name}"
                found.add(inner if inner in names else node.module)
        elif isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
    return found & names


def test_no_modules_import_each_other_in_a_circle():
    package = Path(geo3d.__file__).parent
    paths = {
        ".".join(("geo3d", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    graph = {name: imports_of(path, set(paths)) - {name} for name, path in paths.items()}
    for name, path in paths.items():  # a package's __init__ may gather what its own modules define
        if path.name == "__init__.py":
            graph[name] = {each for each in graph[name] if not each.startswith(f"{name}.")}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
