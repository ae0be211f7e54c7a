import copy

import pytest
import torch
from torch.nn.functional import leaky_relu

from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.quantizer import Quantizer
from geo3d.ops import native
from geo3d.seeds import generator

BUILDS = [None, *native.builds()]


@pytest.fixture(params=BUILDS, ids=lambda build: build or "torch")
def build(request):
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


def made(weights=4, activations=4, signs=True):
    draw = generator("rounded edges")
    layer = EdgeConv(6, 16)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.5)
        layer.norm.weight.abs_().add_(0.2)
        if signs:
            layer.norm.weight[::3] *= -1
    layer.linear.quantizer = Quantizer.for_weights(weights, 32)
    layer.linear.input_quantizer = Quantizer.for_activations(activations)
    layer.neighbor_quantizer = Quantizer.for_activations(activations, 16)
    x = torch.randn(40, 6, generator=draw)
    return layer, x, torch.randint(40, (40, 5), generator=draw)


def by_edges(layer, x, neighbors, training):
    """The layer computed edge by edge in torch: a and b from the two rounded halves, b rounded for each edge."""
    linear, norm = layer.linear, layer.norm
    x = linear.input_quantizer(x)
    sign = torch.where(norm.weight < 0, -1.0, 1.0)
    difference, center = (linear.weight * sign[:, None]).chunk(2, 1)
    of_center, of_neighbor = linear.quantizer(torch.cat([center, difference])).chunk(2)
    a, b = x @ (of_center - of_neighbor).T, x @ of_neighbor.T
    edges = b[neighbors]
    rounded = layer.neighbor_quantizer(edges.flatten(0, 1)).view_as(edges)
    y = a[:, None] + rounded
    mean, var = (
        (y.mean((0, 1)), y.var((0, 1), correction=0)) if training else (norm.running_mean * sign, norm.running_var)
    )
    z = leaky_relu((y - mean) * torch.rsqrt(var + norm.eps) * (norm.weight * sign) + norm.bias, layer.negative_slope)
    return z, edges, mean * sign, var


@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (2, 2), (4, 8)])
def test_like_all_edges_with_each_edge_rounded(build, bits):
    layer, x, neighbors = made(*bits)
    layer.train()(x, neighbors)  # sets the steps
    layer.eval()
    edges = by_edges(layer, x, neighbors, training=False)[0]
    torch.testing.assert_close(layer(x, neighbors), edges.amax(1), rtol=1e-5, atol=2e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, neighbors), edges.amax(1).detach(), rtol=1e-5, atol=2e-5)
    other = copy.deepcopy(layer).train()
    with torch.no_grad():
        z, _, mean, var = by_edges(layer, x, neighbors, training=True)
    momentum, count = other.norm.momentum, neighbors.numel()
    expected = [
        layer.norm.running_mean.lerp(mean, momentum),
        layer.norm.running_var.lerp(var * count / (count - 1), momentum),
    ]
    torch.testing.assert_close(other(x, neighbors), z.amax(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close([other.norm.running_mean, other.norm.running_var], expected, rtol=1e-4, atol=1e-4)


def test_gradients_take_the_slot_before_rounding(build):
    layer, x, neighbors = made(2, 2)
    layer.train()(x, neighbors)
    weights = torch.randn(40, 16, generator=generator("weights"))
    for training in (True, False):
        layer.train(training)
        z, edges, *_ = by_edges(layer, x, neighbors, training)
        largest = z.gather(1, edges.argmax(1, keepdim=True))[:, 0]
        parameters = [p for p in layer.parameters() if p is not layer.neighbor_quantizer.log_step]
        parameters = [p for p in parameters if p is not layer.neighbor_quantizer.shift]
        # The layer rounds b once per point, the reference once per edge, so the gradient scale of b's step differs.
        expected = torch.autograd.grad((largest * weights).sum(), parameters)
        if not training:
            continue  # in evaluation the rounded maximum picks the neighbour, and nothing is trained
        found = torch.autograd.grad((layer(x, neighbors) * weights).sum(), parameters)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)


def test_more_bits_come_closer():
    errors = []
    for bits in (2, 4, 8):
        layer, x, neighbors = made(bits, bits)
        plain = copy.deepcopy(layer)
        plain.linear.quantizer = plain.linear.input_quantizer = plain.neighbor_quantizer = None
        with torch.no_grad():
            errors.append(float((layer.train()(x, neighbors) - plain.train()(x, neighbors)).square().mean()))
    assert errors[0] > 4 * errors[1] > 16 * errors[2]
