"""One file and one line: a class that geo3d has never seen goes through everything that an encoder goes through."""

import json

import pytest
import torch
from support.blobs import Blobs
from support.two_scales import TwoScales
from torch.utils.data import DataLoader

import geo3d.encoders
from geo3d import compress
from geo3d.bench.cost import cost
from geo3d.bench.label import label
from geo3d.bench.model import load, timings
from geo3d.checkpoint import load_encoder, read_card, save_encoder
from geo3d.cloud import collate
from geo3d.compress.adaptive.encoder import adapt
from geo3d.deploy.onnx.check import difference
from geo3d.deploy.onnx.export import export_onnx, export_torch, onnx_inputs
from geo3d.deploy.program.program import Program
from geo3d.errors import ConfigError
from geo3d.invariance import SO3
from geo3d.jobs import pretrain
from geo3d.nn.linear import Linear
from geo3d.objectives import VICReg
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.testing import tiny_batch


@pytest.fixture(autouse=True)
def line_in_init(monkeypatch):
    """What a file in ``geo3d/encoders`` needs besides: its line in ``__init__``."""
    monkeypatch.setattr(geo3d.encoders, "TwoScales", TwoScales, raising=False)
    monkeypatch.setattr(geo3d.encoders, "__all__", [*geo3d.encoders.__all__, "TwoScales"])


def made(**keywords) -> TwoScales:
    with seeded(0, "two scales"):
        encoder = TwoScales(**keywords)
        for layer in encoder.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    return encoder.eval()


FORMS = {
    "float": lambda encoder: encoder,
    "rounded": lambda encoder: compress.calibrate(compress.quantize(encoder, 4, 8), [tiny_batch(num_points=24)]),
    "pruned": lambda encoder: compress.prune(encoder, 0.6, one_shot=True),
    "structured": lambda encoder: compress.structure(encoder, 2.0, min_channels=8),
    "two steps": lambda encoder: FORMS["rounded"](FORMS["pruned"](encoder)),
}
everyone = pytest.mark.parametrize("form", FORMS)


def test_coordinates_stay_exact_and_channels_go():
    rounded = FORMS["rounded"](made())
    assert {name: (m.quantizer.bits, m.input_quantizer and m.input_quantizer.bits) for name, m in linears(rounded)} == {
        "close.linear": (8, None), "wide.linear": (8, None), "top": (4, 8),
    }  # fmt: skip
    pruned = FORMS["pruned"](made())
    assert pruned.near + pruned.far < 32 and pruned.point_channels == pruned.near + pruned.far
    assert cost(pruned, 24).macs <= 0.6 * cost(made(), 24).macs


def linears(encoder):
    return [(name, module) for name, module in encoder.named_modules() if isinstance(module, Linear)]


@everyone
def test_saved_and_loaded(form, tmp_path):
    encoder = FORMS[form](made()).eval()
    encoder(tiny_batch(num_points=24))
    save_encoder(encoder, tmp_path)
    again, batch = load_encoder(tmp_path), tiny_batch(num_points=[24, 7, 13])
    assert type(again) is TwoScales and read_card(tmp_path)["class"] == "TwoScales"
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(again(batch)[:2], encoder(batch)[:2], strict=True))


@pytest.mark.parametrize("neighbors", ["inside", "inputs"])
@pytest.mark.parametrize("form", ["float", "rounded", "pruned", "structured"])
def test_exported(form, neighbors, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    encoder, batch = FORMS[form](made()).eval(), tiny_batch(num_points=24)
    path = export_onnx(encoder, tmp_path / "a.onnx", neighbors=neighbors)
    point, cloud = ort.InferenceSession(str(path)).run(None, onnx_inputs(encoder, batch, neighbors))
    with torch.no_grad():
        expected = encoder(batch)
    assert difference(expected, point, cloud).acceptable(rounded=form == "rounded", searched=neighbors == "inside")
    program = torch.export.load(export_torch(encoder, tmp_path / "a.pt2", batch)).module()
    torch.testing.assert_close(program(batch.pos.view(3, 24, 3))[1], expected.cloud, rtol=1e-5, atol=1e-5)


def test_it_is_run_as_it_is_where_no_compiled_form_exists():
    encoder, batch = made(), tiny_batch(num_points=24)
    program = Program(encoder)
    with torch.no_grad():  # without gradients another kernel may run, with other last bits
        assert not program.native and torch.equal(program(batch).cloud, encoder(batch).cloud)
    with pytest.raises(ConfigError, match="the operations have no compiled form: that needs edge convolutions"):
        Program(FORMS["rounded"](made()), precision="int8")
    with pytest.raises(ConfigError, match="adapt needs a DGCNN.*found a TwoScales"):
        adapt(encoder)


def test_trained_compressed_and_benched(tmp_path):
    data = DataModule(Blobs, batch_size=8, num_points=24, holdout=0.0)
    recipe = {"quantize": {"weights": 8, "activations": 8}}
    trainer = {"max_epochs": 1, "accelerator": "cpu"}
    with seeded(0, "two scales"):
        plain, rounded = TwoScales(), TwoScales()
    pretrain(plain, VICReg(), SO3(), data, out=tmp_path / "a", projector=(16, 8), trainer=trainer)
    pretrain(rounded, VICReg(), SO3(), data, out=tmp_path / "b", projector=(16, 8), trainer=trainer, recipe=recipe)
    assert json.loads((tmp_path / "a" / "encoder" / "encoder.json").read_text())["class"] == "TwoScales"
    contenders = load([tmp_path / "a", tmp_path / "b"])
    assert [each.name for each in contenders] == ["TwoScales, float", "TwoScales, W8A8"]
    batch = next(iter(DataLoader(data.prepared("test"), 4, collate_fn=collate)))
    rows, _, _, notes = timings(contenders, batch, repeats=2)
    assert not notes and {row["engine"] for each in rows.values() for row in each} == {"geo3d", "torch"}
    assert all(row["difference"] < 1e-4 for each in rows.values() for row in each)
    assert label(made(), {}) == "TwoScales, float"
