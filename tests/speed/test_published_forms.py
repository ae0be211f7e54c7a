"""The forms that geo3d is compared with compute the same function, on the same weights."""

import pytest
import torch
from speed.published_dgcnn import PublishedDGCNN
from speed.published_pointnet2 import PublishedPointNet2
from speed.pyg import PyGDGCNN, PyGPointNet2

from geo3d.bench.inputs import dense, randomized, surfaces
from geo3d.cloud import Layout
from geo3d.encoders import DGCNN, PointNet2
from geo3d.ops.search.knn import knn

NUM_POINTS = 96


def clouds(dtype):
    batch = surfaces(3, NUM_POINTS)
    batch.pos = batch.pos.to(dtype)
    return batch


def tables_of(encoder, batch):
    inputs = [batch.pos, *encoder(batch).point.detach().split(list(encoder.channels), 1)][: len(encoder.channels)]
    return [knn(x, Layout(batch.ptr, NUM_POINTS), encoder.k) for x in inputs]


def same(a, b, rtol):
    a, b = a.detach(), b.detach()
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * max(0.01, float(b.abs().max())))


@pytest.mark.parametrize("training", [False, True])
def test_dgcnn_and_its_gradients(training):
    """In float64, rounding does not decide any maximum, so the gradients are the same."""
    torch.manual_seed(0)
    encoder = randomized(DGCNN(k=6, channels=(8, 16), embedding=32)).double()
    batch = clouds(torch.float64)
    published, pyg = PublishedDGCNN(encoder).double(), PyGDGCNN(encoder).double()
    for model in (published, pyg):
        model.load(encoder)
    for model in (encoder, published, pyg):
        model.train(training)
    outs = [encoder(batch).cloud, published(dense(batch)), pyg(batch.pos, NUM_POINTS)]
    weight = torch.randn(outs[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for out in outs:
        (out * weight).sum().backward()
    same(outs[1], outs[0], 1e-9)
    same(outs[2], outs[0], 1e-9)
    for name, parameter in encoder.named_parameters():
        for model in (published, pyg):
            same(model.gradients()[name].view_as(parameter), parameter.grad, 1e-7)


def test_dgcnn_takes_neighbours_from_outside():
    encoder = randomized(DGCNN(k=6, channels=(8, 16), embedding=32)).eval()
    batch = clouds(torch.float32)
    with torch.no_grad():
        tables = tables_of(encoder, batch)
        expected = encoder(batch).cloud
        local = [neighbors.view(3, NUM_POINTS, -1) - batch.ptr[:-1, None, None] for neighbors in tables]
        same(PublishedDGCNN(encoder).eval()(dense(batch), local), expected, 1e-4)
        same(PyGDGCNN(encoder).eval()(batch.pos, NUM_POINTS, tables), expected, 1e-4)
        others = [neighbors.flip(0) - neighbors.flip(0).min() for neighbors in local]
        assert not torch.allclose(PublishedDGCNN(encoder).eval()(dense(batch), others), expected, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_pointnet2_and_its_gradients(training):
    torch.manual_seed(0)
    encoder = randomized(PointNet2(num_samples=(32, 8), width=0.125, radii=(0.3, 0.6), num_neighbors=(12, 12))).double()
    batch = clouds(torch.float64)
    models = [PublishedPointNet2(encoder), PyGPointNet2(encoder, distinct=False), PyGPointNet2(encoder, distinct=True)]
    for model in models:
        model.double().load(encoder)
        model.train(training)
    encoder.train(training)
    expected = encoder(batch).cloud
    published, filled, distinct = (
        models[0](dense(batch)),
        models[1](batch.pos, NUM_POINTS),
        models[2](batch.pos, NUM_POINTS),
    )
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for out in (expected, published, filled):
        (out * weight).sum().backward()
        same(out, expected, 1e-9)
    for name, parameter in encoder.named_parameters():
        for model in models[:2]:
            same(model.gradients()[name].view_as(parameter), parameter.grad, 1e-7)
    assert torch.allclose(distinct, expected, atol=1e-9) != training
