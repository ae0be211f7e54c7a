"""What ``import geo3d`` and ``python -m geo3d`` give."""

import runpy
import sys

import pytest

import geo3d
from geo3d import checkpoint
from geo3d.encoders import published


def test_public_functions_are_those_of_their_homes():
    assert geo3d.load_encoder is checkpoint.load_encoder and geo3d.save_encoder is checkpoint.save_encoder
    assert geo3d.from_published is published.from_published
    with pytest.raises(AttributeError, match="module 'geo3d' has no attribute 'load_decoder'"):
        geo3d.load_decoder  # noqa: B018 - what asking for it does is the test


def test_the_module_is_the_command_and_passes_its_status_on(monkeypatch, capsys):
    for words, status in ((["--version"], 0), (["no-such-job"], 2)):
        monkeypatch.setattr(sys, "argv", ["geo3d", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("geo3d.__main__", run_name="__main__")
        assert ended.value.code == status
    assert capsys.readouterr().out == f"geo3d {geo3d.__version__}\n"
