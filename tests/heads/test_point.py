"""The head of points: its layers, its categories, and what is refused."""

import copy

import pytest
import torch
from torch.nn.functional import one_hot

from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.heads import PointClassifier
from geo3d.nn.describe import graph_of
from geo3d.nn.evaluate import Value, evaluate
from geo3d.nn.quantizer import Quantizer
from geo3d.seeds import generator, seeded


def test_every_hidden_layer_is_as_asked():
    head = PointClassifier(6, 4, hidden=(8, 5), dropout=(0.5, 0.0), bias=True, negative_slope=0.0, output_bias=True)
    names = [type(layer).__name__ for layer in head.layers]
    assert names == ["Linear", "BatchNorm", "LeakyReLU", "Dropout", "Linear", "BatchNorm", "LeakyReLU", "Linear"]
    assert all(layer.bias is not None for layer in head.layers if type(layer).__name__ == "Linear")
    assert head(torch.zeros(7, 6)).shape == (7, 4)
    assert PointClassifier(6, 4, hidden=(8,), dropout=0.0).layers[0].bias is None


def test_a_category_reaches_the_points_of_its_cloud():
    head = PointClassifier(6, 4, hidden=(), dropout=(), categories=3, category_channels=5).eval()
    rows, layout = torch.zeros(5, 6), Layout(torch.tensor([0, 2, 5]))
    logits = head(rows, torch.tensor([0, 2]), layout)
    torch.testing.assert_close(logits[[0, 2]], logits[[1, 4]])
    assert not torch.equal(logits[0], logits[2])
    again = head(rows, torch.tensor([0, 1]), layout)
    torch.testing.assert_close(again[:2], logits[:2])
    assert not torch.allclose(again[2:], logits[2:])


def test_what_does_not_fit_is_refused():
    head = PointClassifier(6, 4, categories=3)
    with pytest.raises(CloudError, match=r"the head has 3 categories; give the clouds y \(B,\)"):
        head(torch.zeros(5, 6))
    with pytest.raises(CloudError, match="y: expected categories from 0 to 2; found "):
        head(torch.zeros(5, 6), torch.tensor([3]), Layout(torch.tensor([0, 5]), 5))
    with pytest.raises(ConfigError, match="dropout has 3 values for 2 hidden layers"):
        PointClassifier(6, 4, dropout=(0.1, 0.2, 0.3))


@pytest.mark.parametrize("categories", [0, 3])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_all_points_of_a_cloud_share_is_multiplied_once(categories, compressed):
    with seeded(0):
        head = PointClassifier(10, 4, hidden=(8,), dropout=0.0, bias=True, categories=categories)
    if compressed:
        head.layers[0].input_quantizer = Quantizer.for_activations(8)
    draw = generator("parts")
    cloud, rows = torch.randn(2, 6, generator=draw), torch.randn(7, 4, generator=draw)
    layout, category = Layout(torch.tensor([0, 3, 7])), torch.tensor([2, 1]) if categories else None
    repeated = torch.cat([cloud.repeat_interleave(layout.ptr.diff(), 0), rows], 1)
    grads = []
    for arguments in ((repeated, category, layout), (rows, category, layout, cloud)):
        other = copy.deepcopy(head)
        logits = other(*arguments)
        logits.square().sum().backward()
        grads.append([logits, *(p.grad for p in other.parameters())])
    for one, again in zip(*grads, strict=True):
        torch.testing.assert_close(one, again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("categories", [0, 3])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_graph_computes_the_logits(categories, slope):
    with seeded(0):
        head = PointClassifier(6, 4, (8, 5), dropout=(0.5, 0.0), negative_slope=slope, categories=categories)
    draw = generator("rows")
    rows, layout, y = torch.randn(7, 6, generator=draw), Layout(torch.tensor([0, 3, 7])), torch.tensor([2, 1])
    for _ in range(2):
        head.train()(torch.randn(7, 6, generator=draw), y, layout)
    inputs = {"rows": Value(rows, layout)}
    if categories:
        inputs["y"] = Value(one_hot(y, 3).float(), Layout(torch.arange(3), 1))
    with torch.no_grad():
        values = evaluate(head.eval(), graph_of(head, "test"), inputs)
        torch.testing.assert_close(values["logits"].x, head(rows, y, layout))
