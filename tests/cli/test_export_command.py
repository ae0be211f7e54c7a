from typing import get_args

import numpy as np
import pytest
import torch

from geo3d import compress
from geo3d.checkpoint import save_encoder
from geo3d.checks import OneOf, parameters
from geo3d.cli import export as command
from geo3d.cli import help as texts
from geo3d.cli.__main__ import main
from geo3d.decoders import GlobalConcat
from geo3d.deploy.onnx import layers as onnx_layers
from geo3d.deploy.onnx.check import random_clouds
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import ConfigError
from geo3d.heads import PointClassifier
from geo3d.seeds import seeded

pytest.importorskip("onnx")


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(texts.TOOLS, "export", "Writes an encoder as a file for another runtime.")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    with seeded(0, "export command"):
        encoder = DGCNN(k=4, channels=(8, 16), embedding=16).eval()
        save_encoder(encoder, folder / "float")
        rounded = compress.calibrate(compress.quantize(encoder, 4, 4), [random_clouds(encoder, 2, 32)])
        save_encoder(rounded.eval(), folder / "rounded")
        save_encoder(PointNet2(num_samples=(8, 4), width=0.125).eval(), folder / "pointnet2")
        decoder = GlobalConcat(encoder.point_channels, encoder.cloud_channels)
        head = PointClassifier(decoder.out_channels, 5, hidden=(8,), dropout=0.5).eval()
        save_encoder(encoder, folder / "network", head=head, decoder=decoder)
    return folder


def run(*words):
    return main(["export", *map(str, words)])


@pytest.mark.parametrize(
    ("checkpoint", "words", "said"),
    [
        ("float", ["num_points=48"], "onnxruntime against geo3d on 2 clouds of 48 points: largest"),
        ("rounded", ["neighbors=inputs", "int4=true"], "onnxruntime against geo3d on 2 clouds of 256 points: largest"),
        ("pointnet2", ["neighbors=inputs", "check=false", "clouds=3"], "not checked"),
    ],
)
def test_onnx(checkpoint, words, said, checkpoints, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "new" / "encoder.onnx"
    assert run(f"checkpoint={checkpoints / checkpoint}", f"out={out}", *words) == 0
    first, second = capsys.readouterr().out.splitlines()
    name = "PointNet2" if checkpoint == "pointnet2" else "DGCNN"
    assert first == f"{out}: {name}, {out.stat().st_size:,} bytes"
    assert second.startswith(said)
    assert [file.name for file in out.parent.iterdir()] == ["encoder.onnx"]


@pytest.mark.parametrize(
    ("words", "outputs", "kinds"),
    [
        ([], ["logits"], "DGCNN + GlobalConcat + PointClassifier"),
        (["part=network", "num_points=40"], ["logits"], "DGCNN + GlobalConcat + PointClassifier"),
        (["part=encoder"], ["point", "cloud"], "DGCNN"),
    ],
)
def test_a_segmentation_is_written_whole_unless_only_its_encoder_is_asked_for(
    words, outputs, kinds, checkpoints, tmp_path, capsys
):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "network.onnx"
    assert run(f"checkpoint={checkpoints / 'network'}", f"out={out}", *words) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{out}: {kinds}, {out.stat().st_size:,} bytes"
    assert second.startswith("onnxruntime against geo3d on 2 clouds of ")
    graph = pytest.importorskip("onnx").load(out).graph
    assert [output.name for output in graph.output] == outputs
    assert graph.output[0].type.tensor_type.shape.dim[2].dim_value == (5 if outputs == ["logits"] else 24)


def test_logits_that_differ_are_not_kept(checkpoints, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    real = onnx_layers.folded
    monkeypatch.setattr(onnx_layers, "folded", lambda *g: (real(*g)[0] * 1.01, real(*g)[1]))
    assert run(f"checkpoint={checkpoints / 'network'}", f"out={tmp_path / 'n.onnx'}") == 2
    assert "not written, because its logits differ; onnxruntime against geo3d" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_openvino(checkpoints, tmp_path, capsys):
    pytest.importorskip("openvino")
    assert run(f"checkpoint={checkpoints / 'rounded'}", f"out={tmp_path / 'encoder.xml'}", "format=openvino") == 0
    assert "openvino against geo3d on 2 clouds of 256 points" in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["encoder.bin", "encoder.xml"]


def test_torch(checkpoints, tmp_path, capsys):
    out = tmp_path / "encoder.pt2"
    assert run(f"checkpoint={checkpoints / 'float'}", f"out={out}", "format=torch", "num_points=32") == 0
    assert "torch against geo3d on 1 clouds of 32 points: largest" in capsys.readouterr().out
    point, cloud = torch.export.load(out).module()(torch.zeros(1, 32, 3))
    assert point.shape == (1, 32, 24) and cloud.shape == (1, 32)


def test_a_file_that_says_something_else_is_not_kept(checkpoints, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    real = onnx_layers.folded
    out = tmp_path / "encoder.onnx"
    out.write_text("older")
    for checkpoint in ("float", "rounded"):
        factor = 1.01 if checkpoint == "float" else 1.1
        monkeypatch.setattr(onnx_layers, "folded", lambda *g, f=factor: (real(*g)[0] * f, real(*g)[1]))
        assert run(f"checkpoint={checkpoints / checkpoint}", f"out={out}") == 2
        error = capsys.readouterr().err
        assert error.startswith(
            f"geo3d: error: {out}: not written, because its features differ from the encoder's; onnxruntime "
        )
        assert len(error.splitlines()) == 1 and out.read_text() == "older"
        assert [file.name for file in tmp_path.iterdir()] == ["encoder.onnx"]


def test_without_the_runtime_it_is_not_checked(checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert run(f"checkpoint={checkpoints / 'float'}", f"out={tmp_path / 'encoder.onnx'}") == 0
    assert "not checked: onnxruntime is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["checkpoint"], "checkpoint: expected KEY=VALUE"),
        (["neighbours=inside"], "neighbours: geo3d export takes no 'neighbours'; did you mean 'neighbors'?"),
        (["format=onx"], "format: 'onx' is not onnx, openvino or torch"),
        (["num_points=0"], "num_points: 0 is not an int from 1 to 1000000"),
        (["int4=yes"], "int4: 'yes' is not a bool"),
        (["out=a.onnx"], "checkpoint: a value is needed; give checkpoint=DIR/encoder"),
        (["checkpoint=a"], "out: a value is needed; give out="),
        (["checkpoint=a", "out=b", "format=torch", "opset=21"], "opset=21: format=torch has no such option; leave it"),
        (["checkpoint=a", "out=b", "format=torch"], "the program is for clouds of one size; give num_points=N"),
    ],
)
def test_words_that_cannot_be_understood(words, message):
    with pytest.raises(ConfigError) as error:
        command.parsed(words)
    assert message in str(error.value)


def test_mistakes_are_one_line(checkpoints, tmp_path, capsys):
    for words, message in (
        ((f"checkpoint={checkpoints / 'pointnet2'}", f"out={tmp_path / 'a.onnx'}"), "with neighbors=inputs"),
        ((f"checkpoint={checkpoints / 'float'}", f"out={tmp_path}"), "expected the name of a file to write"),
        ((f"checkpoint={checkpoints / 'float'}", f"out={tmp_path / 'a'}", "part=network"), "no segmentation network"),
        ((f"checkpoint={tmp_path}", f"out={tmp_path / 'a.onnx'}"), "expected encoder.safetensors and encoder.json"),
        ((f"checkpoint={checkpoints / 'float'}", f"out={tmp_path / 'a.xml'}", "precision=int8"), "no learned steps"),
    ):
        assert run(*words) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_usage_names_every_option(capsys):
    assert run("--help") == 0
    said = capsys.readouterr().out
    for name, parameter in parameters(command.exported).items():
        values = next((mark.names for mark in get_args(parameter.annotation) if isinstance(mark, OneOf)), ())
        assert f"{name}={'|'.join(values)}" in said


def test_the_sizes_that_are_checked_are_those_that_are_fixed(checkpoints, tmp_path):
    onnx = pytest.importorskip("onnx")
    out = tmp_path / "encoder.onnx"
    assert run(f"checkpoint={checkpoints / 'float'}", f"out={out}", "clouds=3", "num_points=20") == 0
    (pos,) = onnx.load(out).graph.input
    np.testing.assert_array_equal([d.dim_value for d in pos.type.tensor_type.shape.dim], [3, 20, 3])
