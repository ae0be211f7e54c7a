import copy

import pytest
import torch
from torch import nn

from geo3d.errors import ConfigError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import linear
from geo3d.nn.structured import LowRank, SlidingSum, Structural, composite

SIZES = [(1, 1), (6, 1), (7, 3), (10, 5), (11, 8), (24, 24)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def structural(in_channels, rank, out=5, parts=1, permuted=True, strength=1.0):
    layer = linear(parts * in_channels, out).double()
    module = Structural(layer, rank, parts, strength, permuted)
    if permuted:
        module.order.copy_(torch.randperm(in_channels, generator=generator()))
    return layer, module


@pytest.mark.parametrize(("channels", "rank"), SIZES)
def test_the_composite_matrix_is_a_band_of_independent_columns(channels, rank):
    a = composite(channels, rank)
    assert a.shape == (channels, rank)
    for r in range(rank):
        expected = [1.0 if r <= p <= r + channels - rank else 0.0 for p in range(channels)]
        assert a[:, r].tolist() == expected
    assert torch.linalg.matrix_rank(a) == rank


@pytest.mark.parametrize("rank", [0, 8])
def test_a_rank_that_cannot_be_is_refused(rank):
    for make in (lambda: composite(7, rank), lambda: SlidingSum(7, rank), lambda: Structural(linear(7, 2), rank)):
        with pytest.raises(ConfigError, match="from 1 to"):
            make()


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("channels", "rank"), SIZES)
def test_sums_and_a_small_matrix_are_the_dense_product(channels, rank, scaled):
    pool = SlidingSum(channels, rank, scaled)
    pool.order.copy_(torch.randperm(channels, generator=generator()))
    x = torch.randn(13, channels, generator=generator(1), dtype=torch.float64)
    alpha = torch.randn(4, rank, generator=generator(2), dtype=torch.float64)
    dense = alpha @ pool.basis().t()
    torch.testing.assert_close(pool(x) @ alpha.t(), x @ dense.t())
    torch.testing.assert_close(pool.expanded(alpha), dense)
    torch.testing.assert_close(pool.expanded(alpha.view(2, 2, rank)), dense.view(2, 2, channels))
    assert torch.equal(pool.basis()[pool.order] > 0, composite(channels, rank) > 0)
    factor = (channels - rank + 1) ** -0.5 if scaled else 1.0
    assert pool.basis().max() == factor
    assert pool.multiplies_per_row == 0


def test_scaled_sums_are_as_large_as_what_enters_them():
    x = torch.randn(4000, 64, generator=generator())
    torch.testing.assert_close(SlidingSum(64, 16)(x).std(), torch.tensor(1.0), rtol=0.05, atol=0)


def test_compiles_in_one_graph():
    pool = SlidingSum(12, 5)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    x = torch.randn(7, 12, generator=generator())
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    for module, leaf in zip((pool, compiled), leaves, strict=True):
        module(leaf).square().sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


def test_without_an_order_there_is_none_in_the_state():
    assert not SlidingSum(8, 4, permuted=False).state_dict()
    torch.testing.assert_close(SlidingSum(8, 4, permuted=False).basis(), SlidingSum(8, 4).basis())


def test_low_rank_is_a_product():
    pool = LowRank(6, 2)
    with torch.no_grad():
        pool.weight.normal_(generator=generator())
    x = torch.randn(5, 6, generator=generator(1))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(pool(x).double(), x.double() @ pool.basis(), rtol=1e-5, atol=1e-5)
    alpha = torch.randn(4, 2, generator=generator(2))
    torch.testing.assert_close(pool.expanded(alpha).double(), alpha.double() @ pool.basis().t(), rtol=1e-5, atol=1e-5)
    assert (pool.multiplies_per_row, pool.adds_per_row) == (12, 0)


@pytest.mark.parametrize("permuted", [True, False])
@pytest.mark.parametrize(("channels", "rank"), [(7, 3), (10, 5), (11, 8), (9, 1)])
def test_the_penalty_is_that_of_the_paper(channels, rank, permuted):
    layer, module = structural(channels, rank, permuted=permuted, strength=0.3)
    a = composite(channels, rank)
    outside = torch.eye(channels, dtype=torch.float64) - a @ torch.linalg.pinv(a)
    weight = layer.weight if module.order is None else layer.weight[:, module.order]
    expected = torch.linalg.matrix_norm(weight @ outside) / torch.linalg.matrix_norm(layer.weight)
    torch.testing.assert_close(module.penalty(), 0.3 * expected)
    assert torch.autograd.gradcheck(module.distance, torch.randn_like(layer.weight).requires_grad_())


def test_both_parts_of_a_weight_are_penalised_with_the_same_basis():
    layer, module = structural(8, 3, parts=2)
    wd, wc = layer.weight.chunk(2, 1)
    torch.testing.assert_close(module.penalty(), module.distance(torch.cat([wd, wc])))


def test_coordinates_are_not_penalised():
    layer = linear(3 + 8, 5)
    layer.skip = 3
    module = Structural(layer, 4)
    before = module.penalty()
    with torch.no_grad():
        layer.weight[:, :3] = 100.0
    assert module.in_channels == 8
    torch.testing.assert_close(module.penalty(), before)


@pytest.mark.parametrize(("channels", "rank"), [(7, 3), (10, 5), (11, 8)])
def test_the_penalty_is_zero_for_structured_weights_alone(channels, rank):
    layer, module = structural(channels, rank)
    pool = SlidingSum(channels, rank)
    pool.order.copy_(module.order)
    alpha = torch.randn(5, rank, generator=generator(), dtype=torch.float64)
    assert module.distance(alpha @ pool.basis().t()) < 1e-12
    null = torch.linalg.svd(pool.basis().t()).Vh[rank:]  # orthogonal to all windows
    torch.testing.assert_close(module.distance(null), null.new_tensor(1.0))
    assert module.distance(alpha @ pool.basis().t() + 1e-3 * null[:1]) > 1e-5
    assert layer.weight.shape == (5, channels)


def test_a_weight_of_zeros_has_a_finite_penalty_and_gradient():
    layer, module = structural(6, 3)
    torch.nn.init.zeros_(layer.weight)
    module.penalty().backward()
    assert module.penalty() == 0
    assert layer.weight.grad.isfinite().all()


def test_a_copy_looks_at_the_weight_of_the_copy():
    layer, module = structural(6, 3)
    layer.structural = module
    other = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight.normal_(generator=generator(5))
    assert other.structural.penalty() != module.penalty()
    torch.testing.assert_close(module.distance(other.weight), other.structural.penalty())
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert list(layer.state_dict()) == ["weight", "structural.order"]


@pytest.mark.parametrize("training", [True, False])
def test_an_edge_convolution_with_one_basis_for_both_halves_is_the_dense_one(training):
    dense, small = (EdgeConv(12, 9).double().train(training) for _ in range(2))
    pool = small.linear.pool = SlidingSum(12, 5).double()
    pool.order.copy_(torch.randperm(12, generator=generator()))
    alpha = torch.randn(9, 2, 5, generator=generator(1), dtype=torch.float64)
    small.linear.weight = torch.nn.Parameter(alpha.flatten(1))
    x = torch.randn(40, 12, generator=generator(2), dtype=torch.float64)
    neighbors = torch.randint(40, (40, 6), generator=generator(3))
    grad = torch.randn(40, 9, generator=generator(4), dtype=torch.float64)
    with torch.no_grad():
        dense.linear.weight.copy_((alpha @ pool.basis().t()).flatten(1))
        for module in (dense, small):
            module.norm.weight.copy_(torch.linspace(-1, 2, 9))
            module.norm.running_var.fill_(2.0)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    outs = [module(leaf, neighbors) for module, leaf in zip((dense, small), leaves, strict=True)]
    for out in outs:
        out.backward(grad)
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(leaves[1].grad, leaves[0].grad)
    of_alpha = dense.linear.weight.grad.unflatten(1, (2, 12)) @ pool.basis()
    torch.testing.assert_close(small.linear.weight.grad, of_alpha.flatten(1))


@pytest.mark.parametrize("kind", [SlidingSum, LowRank])
def test_gradients_reach_what_a_pool_takes(kind):
    pool = kind(64, 16)
    for weight in pool.parameters():
        nn.init.normal_(weight, generator=generator(3))
    x = torch.randn(512, 64, generator=generator(4), requires_grad=True)
    incoming = torch.randn(512, 16, generator=generator(5))
    pool(x).backward(incoming)
    torch.testing.assert_close(x.grad.double(), incoming.double() @ pool.basis().t(), rtol=1e-4, atol=1e-4)
    for weight in pool.parameters():
        torch.testing.assert_close(weight.grad.double(), incoming.double().t() @ x.double(), rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(pool(x).double(), x.double() @ pool.basis(), rtol=1e-4, atol=1e-4)
