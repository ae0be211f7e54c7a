import warnings

import pytest
import torch

import geo3d
from geo3d.cli import doctor
from geo3d.cli.__main__ import main
from geo3d.ops import native


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_sound_installation(capsys):
    assert main(["doctor"]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    rows = {name: text.strip() for name, text in rows.items()}
    assert rows["geo3d"].startswith(geo3d.__version__) and rows["torch"].startswith(torch.__version__)
    assert (native.name() or "none") in rows["native kernels"]
    assert {"processor", "threads", "CUDA", "Triton", "Open3D"} <= set(rows)
    assert all(rows[name] == "ok" for name in doctor.operations())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_operator_that_computes_something_else_is_found(dtype, monkeypatch, capsys):
    real = doctor.operations()["gather_max"]

    def wrong(pos, x, ptr, common):
        outs = real(pos, x, ptr, common)
        return tuple(out + (0.01 if x.dtype == dtype else 0) for out in outs)

    monkeypatch.setattr(doctor, "operations", lambda: {"gather_max": wrong})
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED: differs from the reference on uniform clouds" in printed and "1 operators failed" in printed


def test_an_operator_that_breaks_is_a_line(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(doctor, "operations", lambda: {"knn": broken})
    assert main(["doctor"]) == 1
    assert "FAILED: RuntimeError: no\n" in capsys.readouterr().out


def test_it_takes_no_options(capsys):
    assert main(["doctor", "now"]) == 2
    assert capsys.readouterr().err == "geo3d: error: doctor now: geo3d doctor takes no options\n"
