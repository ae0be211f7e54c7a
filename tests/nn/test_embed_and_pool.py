"""The fused last layer and pooling against the same computed in separate steps."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import leaky_relu

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.pooling import embed_and_pool
from geo3d.ops import native

PTR = torch.tensor([0, 30, 37, 60])


@pytest.mark.parametrize("build", [*native.builds(), None], ids=str)
@pytest.mark.parametrize("tracked", [True, False], ids=["running statistics", "none"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("grad", [True, False], ids=["gradient", "no gradient"])
def test_equals_its_parts(build, tracked, training, grad):
    draw = seeds.generator(0, "pool")
    x = torch.randn(60, 8, generator=draw)
    layer, norm = linear(8, 32), BatchNorm(32)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(32, generator=draw))
        norm.bias.copy_(torch.randn(32, generator=draw))
        norm.running_mean.copy_(torch.randn(32, generator=draw))
        norm.running_var.copy_(torch.rand(32, generator=draw) + 0.5)
    if not tracked:
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        norm.track_running_stats = False
    norm.train(training)
    other = deepcopy(norm).double()
    rows = leaky_relu(
        torch.nn.functional.batch_norm(
            x.double() @ layer.weight.double().t(),
            other.running_mean,
            other.running_var,
            other.weight,
            other.bias,
            training or not tracked,
            other.momentum,
            other.eps,
        ),
        0.2,
    )
    clouds = rows.split(PTR.diff().tolist())
    expected = torch.stack([torch.cat([cloud.max(0).values, cloud.mean(0)]) for cloud in clouds])
    with native.using(build) if build else native.disabled(), torch.set_grad_enabled(grad):
        found = embed_and_pool(layer, norm, 0.2, x, Layout(PTR))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    if tracked:
        torch.testing.assert_close(norm.running_mean.double(), other.running_mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(norm.running_var.double(), other.running_var, rtol=1e-4, atol=1e-4)
