"""The names that ``import geo3d`` gives, and ``python -m geo3d``."""

import ast
import importlib
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import geo3d


def surface() -> dict[str, tuple[str, str]]:
    """Public name -> module and name there, from ``__init__.pyi``."""
    stub = ast.parse(Path(geo3d.__file__).with_suffix(".pyi").read_text())
    found = [each for each in stub.body if isinstance(each, ast.ImportFrom)]
    return {name.asname or name.name: (each.module or "", name.name) for each in found for name in each.names}


def test_the_public_names_are_those_of_the_stub():
    named = next(each for each in ast.parse(Path(geo3d.__file__).with_suffix(".pyi").read_text()).body[::-1])
    assert sorted(ast.literal_eval(named.value)) == sorted(surface()) == sorted(geo3d.__all__)
    assert set(dir(geo3d)) == {*surface(), "__version__"} and len(surface()) < 25
    assert (Path(geo3d.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", sorted(surface()))
def test_a_public_name_is_that_of_its_home(name):
    module, there = surface()[name]
    assert getattr(geo3d, name) is getattr(importlib.import_module(module), there)


def test_importing_geo3d_loads_nothing_large():
    code = "import sys, geo3d; print({'torch', 'numpy', 'pytorch_lightning'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="module 'geo3d' has no attribute 'load_decoder'"):
        geo3d.load_decoder  # noqa: B018 - what asking for it does is the test


def test_the_module_is_the_command_and_passes_its_status_on(monkeypatch, capsys):
    for words, status in ((["--version"], 0), (["no-such-job"], 2)):
        monkeypatch.setattr(sys, "argv", ["geo3d", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("geo3d.__main__", run_name="__main__")
        assert ended.value.code == status
    assert capsys.readouterr().out == f"geo3d {geo3d.__version__}\n"
