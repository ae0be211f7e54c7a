"""Edge convolutions of several layers against explicit edges in float64: values, gradients, statistics."""

import pytest
import torch
from torch.nn.functional import leaky_relu
from torch.testing import assert_close

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.errors import CloudError, NotFiniteError
from geo3d.nn.edge_mlp import EdgeMLP
from geo3d.ops import native
from geo3d.ops.search.knn import knn

SIZES = {"uniform": (30, 30), "ragged": (41, 5, 20)}
CHANNELS = {"two": (12, 20), "three": (8, 12, 20), "wide": (64, 64)}


@pytest.fixture(params=[*native.builds(), None], ids=str)
def build(request):
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


def made(channels, sizes, inputs=5, dtype=torch.float32):
    with seeds.seeded(0):
        layer = EdgeMLP(inputs, channels)
        for norm in layer.mlp.norms:
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)
    layer.to(dtype)
    x = torch.randn(sum(sizes), inputs, generator=seeds.generator("edge mlp"), dtype=torch.float64).to(dtype)
    layout = Layout(torch.tensor([0, *sizes]).cumsum(0), sizes[0] if len(set(sizes)) == 1 else None)
    return layer, x, knn(x, layout, 7)


def explicit(layer, x, neighbors):
    """Every edge by itself, and the statistics of its layers."""
    center = x[:, None].expand(-1, neighbors.shape[1], -1)
    h, found = torch.cat([x[neighbors] - center, center], 2), []
    for linear, norm in zip(layer.mlp.linears, layer.mlp.norms, strict=True):
        h = h @ linear.weight.t()
        if layer.training:
            mean, var = h.mean((0, 1)), h.var((0, 1), correction=0)
            found += [mean, var]
        else:
            mean, var = norm.running_mean, norm.running_var
        h = leaky_relu((h - mean) * torch.rsqrt(var + norm.eps) * norm.weight + norm.bias, 0.2)
    return h.amax(1), found


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_training_is_that_of_explicit_edges(build, channels, sizes):
    layer, x, neighbors = made(CHANNELS[channels], SIZES[sizes])
    double, wide, _ = made(CHANNELS[channels], SIZES[sizes], dtype=torch.float64)
    x.requires_grad_()
    wide = x.detach().double().requires_grad_()
    out, (expected, statistics) = layer(x, neighbors), explicit(double, wide, neighbors)
    ask = torch.randn(out.shape, generator=seeds.generator("ask"))
    (out * ask).sum().backward()
    (expected * ask.double()).sum().backward()
    assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
    for found, wanted in zip((x, *layer.parameters()), (wide, *double.parameters()), strict=True):
        assert float((found.grad - wanted.grad).abs().max()) < 1e-4 * (1 + float(wanted.grad.abs().max()))
    edges = neighbors.numel()
    for norm, mean, var in zip(layer.mlp.norms, statistics[::2], statistics[1::2], strict=True):
        assert_close(norm.running_mean.double(), 0.1 * mean, rtol=1e-4, atol=1e-5)
        assert_close(norm.running_var.double(), 0.9 + 0.1 * var * edges / (edges - 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("gradients", [True, False])
def test_evaluation_is_that_of_explicit_edges(build, sizes, gradients):
    layer, x, neighbors = made((12, 20), SIZES[sizes])
    double = made((12, 20), SIZES[sizes], dtype=torch.float64)[0].eval()
    layer.eval()
    for one, other in zip(layer.mlp.norms, double.mlp.norms, strict=True):
        for name in ("running_mean", "running_var"):
            value = torch.rand(one.running_mean.shape, generator=seeds.generator(name)) + 0.2
            getattr(one, name).copy_(value)
            getattr(other, name).copy_(value)
    with torch.set_grad_enabled(gradients):
        assert_close(layer(x, neighbors).double(), explicit(double, x.double(), neighbors)[0], rtol=1e-4, atol=1e-4)


def test_the_small_form_of_one_layer(build):
    layer, x, neighbors = made((20,), SIZES["uniform"])
    double = made((20,), SIZES["uniform"], dtype=torch.float64)[0]
    assert_close(layer(x, neighbors).double(), explicit(double, x.double(), neighbors)[0], rtol=1e-4, atol=1e-4)


def test_what_is_not_finite_or_out_of_range_is_refused(build):
    layer, x, neighbors = made((12, 20), SIZES["uniform"])
    with pytest.raises(CloudError, match="out of range"):
        layer(x, neighbors + 60)
    x[3, 1] = torch.nan
    with pytest.raises(NotFiniteError):
        layer.eval()(x, neighbors)
