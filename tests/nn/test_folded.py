import pytest
import torch
from torch import nn

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.compress import quantize
from geo3d.heads import PointClassifier
from geo3d.nn.folded import rows_through
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops import native
from geo3d.seeds import seeded

BUILDS = native.builds()


def network(*kinds):
    """Layers of 5 -> 9 -> 4 channels, with statistics taken from rows."""
    with seeded("folded"):
        made = {
            "linear": lambda: linear(5, 9, bias=True), "last": lambda: linear(9, 4), "norm": lambda: BatchNorm(9),
            "relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.2), "dropout": lambda: nn.Dropout(0.5),
        }  # fmt: skip
        layers = nn.Sequential(*(made[kind]() for kind in kinds))
    for module in layers:
        if isinstance(module, BatchNorm):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, -1.5, 1.5, generator=seeds.generator("weight"))
            nn.init.uniform_(module.bias, -1, 1, generator=seeds.generator("bias"))
    layers.train()(rows(80) * 3 + 1)
    return layers.eval()


def rows(count=50, channels=5):
    return torch.randn(count, channels, generator=seeds.generator("rows", count))


CHAINS = [
    ("linear",),
    ("linear", "relu"),
    ("linear", "norm", "relu"),
    ("linear", "norm", "leaky", "dropout", "last"),
    ("linear", "norm", "last"),
]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("kinds", CHAINS, ids="-".join)
def test_the_layers_one_by_one_give_the_same_rows(kinds, build):
    layers, x = network(*kinds), rows()
    with torch.no_grad(), native.using(build):
        through = rows_through(layers, x)
        torch.testing.assert_close(through, layers.double()(x.double()).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("sizes", [[25, 25], [1, 30, 19]], ids=["uniform", "ragged"])
def test_what_a_cloud_adds_is_added_to_each_of_its_points(sizes, build):
    layers, x, ptr = network("linear", "norm", "leaky", "last"), rows(50, 3), torch.tensor([0, *sizes]).cumsum(0)
    of_cloud = rows(len(sizes), 2)
    weight = layers[0].weight
    with torch.no_grad(), native.using(build):
        through = rows_through(layers, x, weight[:, 2:], of_cloud @ weight[:, :2].T, Layout(ptr))
        joined = torch.cat([of_cloud.repeat_interleave(torch.tensor(sizes), 0), x], 1)
        torch.testing.assert_close(through, layers(joined), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(native.name() is None, reason="without compiled kernels the layers are always taken")
def test_what_needs_the_layers_themselves():
    layers, x = network("linear", "norm", "relu"), rows()
    assert rows_through(layers, x) is None  # gradients
    with torch.no_grad():
        assert rows_through(layers, x) is not None
        assert rows_through(layers, x.double()) is None
        assert rows_through(nn.Sequential(*layers, nn.Sigmoid()), x) is None
        assert rows_through(nn.Sequential(nn.ReLU(), *layers), x) is None
        assert rows_through(nn.Sequential(layers[0], nn.ReLU(), layers[1]), x) is None  # a norm after the activation
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert rows_through(layers, x) is None
        with native.disabled():
            assert rows_through(layers, x) is None
        hook = layers[0].register_forward_hook(lambda *_: None)
        assert rows_through(layers, x) is None
        hook.remove()
        layers[1].train()
        assert rows_through(layers, x) is None
    layers.train()
    with torch.no_grad():
        assert rows_through(layers, x) is None


def test_a_trace_and_vmap_take_the_layers_themselves():
    """A trace sees no compiled kernel: its result would be memory that nothing was written to."""
    layers = network("linear", "norm", "leaky", "last").eval()
    x, other = (torch.randn(6, 5, generator=seeds.generator("traced", name)) for name in ("x", "other"))
    with torch.no_grad():
        assert rows_through(layers, x) is not None or native.name() is None
        head = PointClassifier(5, 3, hidden=(9,), dropout=0.0).eval()
        traced = torch.jit.trace(head, (x,))
        torch.testing.assert_close(traced(other), head(other))
        mapped = torch.func.vmap(head)(torch.stack([x, other]))
        torch.testing.assert_close(mapped, torch.stack([head(x), head(other)]))


@pytest.mark.skipif(native.name() is None, reason="without compiled kernels the layers are always taken")
def test_rounded_inputs_need_the_layers_themselves():
    with seeded(0):
        head = PointClassifier(5, 3, hidden=(9,), dropout=0.0).eval()
    rounded = quantize(head, 8, 8)
    with torch.no_grad():
        assert rows_through(head.layers, rows()) is not None and rows_through(rounded.layers, rows()) is None
