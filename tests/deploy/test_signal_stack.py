"""Signals are handled on a stack that is not freed."""

import sys

import numpy as np
import pytest
import torch

from geo3d.bench.exports import _openvino
from geo3d.deploy.onnx.check import in_openvino
from geo3d.deploy.onnx.export import export_openvino
from geo3d.deploy.signal_stack import current, kept
from geo3d.encoders import PointNet
from geo3d.testing import tiny_batch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own way to handle signals")


def stack() -> tuple[int | None, int, int]:
    now = current()
    return now.start, now.flags, now.size


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("openvino")
    return export_openvino(PointNet(width=0.1, embedding=8).eval(), tmp_path_factory.mktemp("export") / "encoder.xml")


def test_models_that_go_in_another_order_than_they_came_leave_it_as_it_was(exported):
    before = stack()
    pos = tiny_batch(1, 16).pos.numpy()[None]
    models = [in_openvino(exported), _openvino(exported, lambda names: {"pos": pos}, 1), in_openvino(exported)]
    assert stack() == before
    assert np.isfinite(models[0]({"pos": pos})[1]).all() and torch.isfinite(models[1]()).all()
    for _ in range(3):
        del models[0]
        assert stack() == before


def test_the_library_alone_would_leave_another_one(exported):
    import openvino

    before = stack()
    with kept():
        model = openvino.Core().compile_model(str(exported), "CPU")
        assert stack() != before
    assert stack() == before
    del model
    assert stack() == before


def test_it_is_kept_after_an_error():
    before = stack()
    with pytest.raises(ZeroDivisionError), kept():
        raise ZeroDivisionError
    assert stack() == before
