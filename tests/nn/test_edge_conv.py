"""EdgeConv against the layer written out edge by edge."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geo3d.cloud import Layout
from geo3d.nn.edge_conv import EdgeConv
from geo3d.ops import native
from geo3d.ops.search.knn import knn


class PlainEdgeConv(nn.Module):
    """The layer computed edge by edge, one row per edge."""

    def __init__(self, layer: EdgeConv) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.linear.weight.detach().clone())
        self.norm = nn.BatchNorm1d(layer.out_channels, momentum=layer.norm.momentum).to(self.weight.dtype)
        self.norm.load_state_dict(layer.norm.state_dict())
        self.slope = layer.negative_slope

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        center = x[:, None].expand(-1, neighbors.shape[1], -1)
        edges = torch.cat([x[neighbors] - center, center], 2)
        y = self.norm((edges @ self.weight.t()).flatten(0, 1))
        return leaky_relu(y, self.slope).view(*neighbors.shape, -1).max(1).values


SIZES = {"uniform": [20, 20], "ragged": [20, 1, 3, 17], "single": [25], "small": [2]}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def prepared(dtype: torch.dtype = torch.float64, seed: int = 0, zero: bool = False) -> EdgeConv:
    draw = torch.Generator().manual_seed(seed)
    layer = EdgeConv(6, 10).to(dtype)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.randn(10, 12, generator=draw))
        layer.norm.weight.copy_(torch.randn(10, generator=draw))  # signs of both kinds
        layer.norm.bias.copy_(torch.randn(10, generator=draw))
        layer.norm.running_mean.copy_(torch.randn(10, generator=draw))
        layer.norm.running_var.copy_(torch.rand(10, generator=draw) + 0.5)
        if zero:
            layer.norm.weight[:3] = torch.tensor([0.0, -0.0, 0.0])
    return layer


def points(sizes: list[int], dtype: torch.dtype = torch.float64, k: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(7)
    x = torch.randn(sum(sizes), 6, generator=draw).to(dtype)
    return x.requires_grad_(), knn(x, Layout(torch.tensor([0, *sizes]).cumsum(0)), k)


def close(ours: Tensor | None, theirs: Tensor | None, dtype: torch.dtype) -> None:
    assert ours is not None and theirs is not None
    torch.testing.assert_close(
        ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * float(theirs.detach().abs().max())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SIZES)
def test_equals_the_plain_layer(name: str, training: bool, dtype: torch.dtype) -> None:
    layer = prepared(dtype).train(training)
    plain = PlainEdgeConv(layer).train(training)
    x, neighbors = points(SIZES[name], dtype)
    copy = x.detach().clone().requires_grad_()
    ours, theirs = layer(x, neighbors), plain(copy, neighbors)
    close(ours, theirs, dtype)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    close(x.grad, copy.grad, dtype)
    close(layer.linear.weight.grad, plain.weight.grad, dtype)
    close(layer.norm.weight.grad, plain.norm.weight.grad, dtype)
    close(layer.norm.bias.grad, plain.norm.bias.grad, dtype)
    close(layer.norm.running_mean, plain.norm.running_mean, dtype)
    close(layer.norm.running_var, plain.norm.running_var, dtype)
    assert layer.norm.num_batches_tracked == plain.norm.num_batches_tracked == int(training)


@pytest.mark.parametrize("training", [True, False])
def test_scale_of_zero(training: bool) -> None:
    """A channel whose scale is zero equals the norm's bias everywhere, so any neighbour may count as the largest."""
    layer = prepared(zero=True).train(training)
    plain = PlainEdgeConv(layer).train(training)
    x, neighbors = points([20, 20])
    copy = x.detach().clone().requires_grad_()
    ours, theirs = layer(x, neighbors), plain(copy, neighbors)
    close(ours, theirs, torch.float64)
    ours.sum().backward()
    theirs.sum().backward()
    close(x.grad, copy.grad, torch.float64)
    close(layer.linear.weight.grad, plain.weight.grad, torch.float64)
    close(layer.norm.bias.grad, plain.norm.bias.grad, torch.float64)
    grad = layer.norm.weight.grad
    assert grad is not None and bool(grad.isfinite().all()) and bool((grad[:3] != 0).all())  # zero can be left


def test_duplicated_points() -> None:
    layer = prepared()
    plain = PlainEdgeConv(layer)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).repeat(4, 1)
    neighbors = knn(x, Layout(torch.tensor([0, 20])), 6)
    ours, theirs = layer(x, neighbors), plain(x, neighbors)
    close(ours, theirs, torch.float64)
    close(layer.norm.running_var, plain.norm.running_var, torch.float64)


def test_cumulative_average() -> None:
    layer = prepared()
    layer.norm.momentum = None
    plain = PlainEdgeConv(layer)
    for seed in range(3):
        x, neighbors = points([10 + seed, 9])
        layer(x, neighbors)
        plain(x, neighbors)
    close(layer.norm.running_mean, plain.norm.running_mean, torch.float64)
    close(layer.norm.running_var, plain.norm.running_var, torch.float64)


def test_frozen_norm_takes_running_statistics_in_training() -> None:
    layer = prepared()
    layer.norm.eval()
    x, neighbors = points([20, 20])
    out = layer(x, neighbors)
    assert torch.equal(out, layer.eval()(x, neighbors))
    out.sum().backward()
    assert layer.linear.weight.grad is not None and x.grad is not None


def test_single_edge_leaves_the_running_statistics_finite() -> None:
    layer = prepared()
    layer(torch.ones(1, 6, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long))
    assert bool(layer.norm.running_var.isfinite().all())


def test_half_precision_products_with_float32_statistics() -> None:
    layer = prepared(torch.float32)
    x, neighbors = points([30, 30], torch.float32)
    expected = prepared(torch.float32)(x, neighbors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x, neighbors)
    out.sum().backward()
    assert out.dtype == torch.float32
    assert layer.linear.weight.grad is not None and layer.linear.weight.grad.dtype == torch.float32
    torch.testing.assert_close(out, expected, rtol=0.05, atol=0.05)


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operator returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.elements = max(self.elements, leaf.untyped_storage().nbytes() // leaf.element_size())
        return out


def test_no_tensor_of_all_edges_is_made() -> None:
    rows, channels, k = 400, 64, 40
    x = torch.randn(rows, channels, generator=torch.Generator().manual_seed(0)).requires_grad_()
    neighbors = knn(x, Layout(torch.tensor([0, rows])), k)
    layer = EdgeConv(channels, channels)
    plain = PlainEdgeConv(layer)
    with Largest() as ours:
        layer(x, neighbors).sum().backward()
    with Largest() as theirs:
        plain(x, neighbors).sum().backward()
    assert ours.elements <= max(2 * rows * channels, rows * k)  # the two parts of each point lie side by side
    assert theirs.elements >= rows * k * 2 * channels


@pytest.mark.parametrize("build", [*native.builds(), None], ids=str)
@pytest.mark.parametrize("channels", [3, 6, 9])
@pytest.mark.parametrize("training", [True, False])
def test_coordinates_keep_all_digits_under_autocast(build: str | None, channels: int, training: bool) -> None:
    """Neighbours a thousandth apart, far from the origin: in bf16 they would be one point."""
    draw = torch.Generator().manual_seed(0)
    x = 1 + 1e-3 * torch.randn(64, channels, generator=draw)
    neighbors = knn(x, Layout(torch.tensor([0, 64])), 8)
    layer = EdgeConv(channels, 16)
    plain = PlainEdgeConv(layer).double()
    for norm in (layer.norm, plain.norm):  # single precision keeps 1e-4 of a cloud that is 1e-3 wide
        norm.eps = 1e-7
    expected = plain.train(training)(x.double(), neighbors)
    layer.train(training)
    with native.using(build) if build else native.disabled(), torch.autocast("cpu", torch.bfloat16):
        got = layer(x, neighbors)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-3 * float(expected.detach().std()))
