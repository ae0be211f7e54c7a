"""Which exports other runtimes are timed with: all there are, and the fastest right one counts."""

import pytest
import torch

from geo3d import compress
from geo3d.bench import exports
from geo3d.bench.engines import start
from geo3d.bench.exports import CannotRunError, Form, fastest, forms
from geo3d.bench.inputs import randomized, surfaces
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.seeds import seeded

N = 48


def tiny(dynamic=False, bits=None):
    with seeded(0, "tiny"):
        encoder = randomized(DGCNN(k=4, channels=(8, 16), embedding=16, dynamic=dynamic))
    if bits is not None:
        encoder = compress.calibrate(compress.quantize(encoder, *bits), [surfaces(2, N)])
    return encoder.eval()


class Fake:
    def __init__(self, value):
        self.engine, self.value = "engine", value

    def __call__(self):
        return torch.tensor([self.value])


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (DGCNN(k=2), {("inside", "float", False)}),
        (PointNet(), {("inside", "float", False)}),
        (PointNet2(), {("inputs", "float", False)}),
        (tiny(), {(search, "float", False) for search in ("inside", "inputs")}),
        (tiny(bits=(8, 8)), {(s, p, False) for s in ("inside", "inputs") for p in ("float", "int8")}),
        (tiny(True, (4, 8)), {("inside", "float", False), ("inside", "int8", False), ("inside", "int8", True)}),
    ],
)
def test_every_form_there_is(encoder, expected):
    assert {tuple(form) for form in forms(encoder)} == expected


def test_the_fastest_right_one_counts(monkeypatch):
    slow, quick, wrong = Fake(1.0), Fake(1.01), Fake(2.0)
    seconds = {0: [3.0, 3.0, 0.1], 1: [2.0, 2.0, 9.0], 2: [0.0, 0.0, 0.0]}
    monkeypatch.setattr(exports, "interleaved", lambda calls, *_: {i: seconds[i] for i in calls})
    assert fastest([slow, quick, wrong], torch.tensor([1.0])) is quick
    assert fastest([wrong, slow], torch.tensor([1.0])) is slow
    with pytest.raises(CannotRunError, match="^engine: no form gives the encoder's features; nearest 1.0e"):
        fastest([wrong], torch.tensor([1.0]))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_all_forms_of_a_rounded_encoder_with_one_graph_run_and_agree(engine, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip(engine)
    encoder, batch, tried = tiny(bits=(4, 8)), surfaces(2, N), []

    def noted(calls, expected):
        tried.extend(call.form for call in calls)
        for call in calls:
            assert float((call() - expected).norm() / expected.norm()) < 5e-3, call.form
        return calls[-1]

    monkeypatch.setattr("geo3d.bench.engines.fastest", noted)
    found = start(engine, encoder, batch, 1, tmp_path)
    assert tried == forms(encoder) and len(tried) == 6 and found.form == tried[-1]
    assert len(list(tmp_path.glob("*.onnx"))) == 6


def test_one_form_that_cannot_run_does_not_hide_the_others(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    whole = exports.Exported.__init__

    def failing(self, engine, encoder, batch, form, *rest):
        if form.neighbors == "inside":
            raise RuntimeError("no such operator")
        whole(self, engine, encoder, batch, form, *rest)

    monkeypatch.setattr(exports.Exported, "__init__", failing)
    assert start("onnxruntime", tiny(), surfaces(1, N), 1, tmp_path).form == Form("inputs", "float")
    with pytest.raises(CannotRunError, match="^onnxruntime cannot run it: no such operator$"):
        start("onnxruntime", tiny(True), surfaces(1, N), 1, tmp_path)
