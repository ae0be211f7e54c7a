"""The slots of the linear layer: where they act, in which order, and that they leave coordinates alone."""

import torch
import torch.nn.functional as F
from torch import nn

from geo3d.nn.linear import Linear, linear
from geo3d.nn.structured import SlidingSum
from geo3d.seeds import generator, seeded


class Times(nn.Module):
    """A stand-in for a slot: it multiplies by a factor that can be recognised in the product."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class Steps(nn.Module):
    def forward(self, x):
        return (x / 0.25).round() * 0.25


def layer(bias=True):
    with seeded("linear"):
        return linear(8, 5, bias=bias)


def x(rows=6, channels=8):
    return torch.randn(rows, channels, generator=generator("linear", rows, channels))


def test_without_compression_it_is_torchs_layer_bit_for_bit():
    made = layer()
    with seeded("linear"):
        plain = nn.Linear(8, 5)
    assert torch.equal(made.weight, plain.weight) and torch.equal(made.bias, plain.bias)
    assert torch.equal(made(x()), plain(x())) and list(made.state_dict()) == ["weight", "bias"]
    assert made.inputs(entry := x()) is entry and made.matrix() is made.weight and made.masked() is made.weight


def test_each_place_acts_and_in_the_published_order():
    made = layer()
    made.mask, made.quantizer = Times(3.0), Steps()
    made.pool, made.input_quantizer = SlidingSum(8, 8), Times(0.5)
    rounded = ((3 * made.weight) / 0.25).round() * 0.25  # the mask comes first, the rounding last
    assert torch.equal(made.matrix(), rounded) and torch.equal(made.masked(), 3 * made.weight)
    torch.testing.assert_close(made(x()), F.linear(0.5 * made.pool(x()), rounded, made.bias))


def test_a_pool_narrows_the_product_and_is_rounded_after_the_sums():
    made = layer()
    made.pool = SlidingSum(8, 3)
    made.weight = nn.Parameter(made.weight.detach()[:, :3])
    made.input_quantizer = Steps()
    sums = x().unfold(1, 6, 1).sum(2) * 6**-0.5
    torch.testing.assert_close(made(x()), F.linear((sums / 0.25).round() * 0.25, made.weight, made.bias))


def test_leading_coordinates_are_neither_summed_nor_rounded():
    made, rows = layer(), x()
    made.skip = 3
    made.pool, made.input_quantizer = Times(2.0), Steps()
    entered = made.inputs(rows)
    assert torch.equal(entered[:, :3], rows[:, :3])
    assert torch.equal(entered[:, 3:], (2 * rows[:, 3:] / 0.25).round() * 0.25)
    assert torch.equal(made.inputs(rows[:, 3:], skip=0), entered[:, 3:])
    assert torch.equal(made(rows), F.linear(entered, made.weight, made.bias))


def test_modules_in_the_places_are_registered_and_gradients_pass_them():
    made = layer(bias=False)
    made.mask, made.pool = Times(nn.Parameter(torch.tensor(2.0))), Times(nn.Parameter(torch.tensor(3.0)))
    assert isinstance(made, Linear) and set(dict(made.named_parameters())) == {"weight", "mask.factor", "pool.factor"}
    made(x()).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in made.parameters())
