import copy
import json

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geo3d.cloud import make_batch
from geo3d.compress.channel_order import _gains, _positions, _swaps, channel_order
from geo3d.compress.structure import equal_rank, finalize, input_moments, layer_sites, restore, structure
from geo3d.encoders import DGCNN, PointNet, PointNet2, SegmentationDGCNN
from geo3d.errors import ConfigError
from geo3d.nn.structured import LowRank, SlidingSum, Structural

MAKES = {
    "dgcnn": lambda: DGCNN(k=4, channels=(32, 40, 32), embedding=48),
    "segmentation": lambda: SegmentationDGCNN(k=4, channels=((32, 40), (32,)), embedding=48),
    "pointnet2": lambda: PointNet2(num_samples=(24, 8), width=0.25),
    "pointnet": lambda: PointNet(embedding=48, width=0.25),
}
WIDE = {"min_channels": 24}


def made(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = MAKES[name]()
        for module in encoder.modules():
            if hasattr(module, "running_mean"):
                torch.nn.init.uniform_(module.weight, -1.0, 1.0)
                module.running_var.fill_(0.5)
    return encoder.eval()


def clouds(count=3, seed=0):
    ptr = torch.tensor([0, *(40 + 3 * i for i in range(count))]).cumsum(0)
    return make_batch(torch.randn(int(ptr[-1]), 3, generator=torch.Generator().manual_seed(seed)), ptr=ptr)


def dense_equivalent(encoder, small):
    """The dense encoder with the dense equivalents of the structured encoder's weights."""
    other = copy.deepcopy(encoder)
    for wide, narrow in zip(layer_sites(other), layer_sites(small), strict=True):
        skip, pool = wide.layer.skip, narrow.layer.pool
        if pool is not None:
            alpha = narrow.layer.weight[:, skip:].detach().double().unflatten(1, (wide.parts, -1))
            with torch.no_grad():
                wide.layer.weight[:, :skip] = narrow.layer.weight[:, :skip]
                wide.layer.weight[:, skip:] = (alpha @ pool.basis().t()).flatten(1)
    return other


def distances(encoder, small):
    """The relative error of each layer's weight, by path."""
    found = {}
    for wide, same in zip(layer_sites(encoder), layer_sites(dense_equivalent(encoder, small)), strict=True):
        found[wide.path] = float((wide.columns - same.columns).norm() / wide.columns.norm().clamp_min(1e-9))
    return found


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_is_the_dense_encoder_with_the_equivalent_weights(name, low_rank, training):
    encoder = made(name)
    small = structure(encoder, low_rank=low_rank, **WIDE)
    dense = dense_equivalent(encoder, small)
    assert type(small) is type(encoder)
    batch = clouds()
    if name == "dgcnn":  # its neighbour graphs depend on the last digits
        small.dynamic = dense.dynamic = False
    outs = []
    for one in (dense, small):
        one.double().train(training)
        batch.pos = batch.pos.double()
        outs.append(one(batch))
        (outs[-1].cloud.square().sum() + outs[-1].point.square().sum()).backward()
    torch.testing.assert_close(outs[1].cloud, outs[0].cloud, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outs[1].point, outs[0].point, rtol=1e-4, atol=1e-5)
    for wide, narrow in zip(layer_sites(dense), layer_sites(small), strict=True):
        skip, pool = wide.layer.skip, narrow.layer.pool
        expected = wide.layer.weight.grad
        if pool is not None:
            features = expected[:, skip:].unflatten(1, (wide.parts, -1)) @ pool.basis()
            expected = torch.cat([expected[:, :skip], features.flatten(1)], 1)
        torch.testing.assert_close(
            narrow.layer.weight.grad, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
        )


@pytest.mark.parametrize("name", MAKES)
def test_single_precision_by_the_kernels_is_the_dense_encoder_too(name):
    encoder = made(name)
    small = structure(encoder, **WIDE)
    dense = dense_equivalent(encoder, small)
    if name == "dgcnn":
        small.dynamic = dense.dynamic = False
    with torch.no_grad():
        ours, theirs = small(clouds()), dense(clouds())
    torch.testing.assert_close(ours.cloud, theirs.cloud, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.point, theirs.point, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize(
    "options", [{}, {"permute": False}, {"low_rank": True}, {"regularize": 0.1}, {"fresh": True}], ids=str
)
def test_a_record_and_a_state_rebuild_it(name, options):
    encoder = made(name)
    small = structure(encoder, **WIDE, **options)
    (record,) = small.compression
    assert record["step"] == "structure"
    again = restore(MAKES[name](), json.loads(json.dumps(record)))
    again.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(clouds()).cloud, small.eval()(clouds()).cloud)
    assert not hasattr(encoder, "compression")
    assert [module for module in encoder.modules() if isinstance(module, (SlidingSum, LowRank, Structural))] == []


def test_ranks_follow_the_reduction_in_steps_of_eight():
    encoder = DGCNN(channels=(32, 64, 128), embedding=64)
    small = structure(encoder, 3.0)
    # 64 / 3 = 21 -> 24, 224 / 3 = 75 -> 80; layers with fewer than 64 inputs stay as they are
    assert small.compression[0]["ranks"] == {"layers.2.linear": 24, "embed": 80}
    assert small.layers[2].linear.weight.shape == (128, 48)
    assert small.layers[1].linear.pool is None
    small = structure(encoder, 1.0, ranks={"layers.1.linear": 5})
    assert small.compression[0]["ranks"] == {"layers.1.linear": 5}
    small = structure(encoder, 2.0, ranks={"embed": 224})
    assert small.compression[0]["ranks"] == {"layers.2.linear": 32}


def test_coordinates_of_set_abstraction_stay_dense_and_in_front():
    encoder = made("pointnet2")
    small = structure(encoder, **WIDE)
    wide, narrow = encoder.last.linears[0], small.last.linears[0]
    rank = small.compression[0]["ranks"]["last.linears.0"]
    assert narrow.weight.shape == (len(wide.weight), 3 + rank)
    assert torch.equal(narrow.weight[:, :3], wide.weight[:, :3])


@pytest.mark.parametrize("name", MAKES)
def test_low_rank_takes_as_many_multiplications(name):
    encoder = made(name)
    sums, products = structure(encoder, **WIDE), structure(encoder, low_rank=True, **WIDE)
    ranks = sums.compression[0]["ranks"]
    assert set(ranks) == set(products.compression[0]["ranks"])
    for wide, narrow in zip(layer_sites(encoder), layer_sites(products), strict=True):
        if wide.path in ranks:
            rows = wide.parts * len(wide.layer.weight)
            pool = narrow.layer.pool
            cost = pool.multiplies_per_row + rows * pool.rank
            assert cost <= rows * ranks[wide.path] or pool.rank == 1
            assert cost + rows + wide.channels > rows * ranks[wide.path]
            assert pool.rank == equal_rank(wide, ranks[wide.path])


def test_the_fit_is_that_of_least_squares_and_of_singular_values():
    encoder = made("dgcnn")
    small, low = structure(encoder, permute=False, **WIDE), structure(encoder, low_rank=True, **WIDE)
    weight = encoder.embed.weight.detach().double()
    basis = small.embed.pool.basis()
    assert torch.linalg.matrix_norm((weight - small.embed.weight.double() @ basis.t()) @ basis) < 1e-4
    values = torch.linalg.svdvals(weight)[low.embed.pool.rank :]
    expected = float(values.square().sum().sqrt() / weight.detach().norm())
    assert distances(encoder, low)["embed"] == pytest.approx(expected, rel=1e-3)


def mixed_clouds(encoder):
    return [clouds(4, seed) for seed in range(3)]


@pytest.mark.parametrize("low_rank", [False, True])
def test_a_fit_by_moments_changes_outputs_less(low_rank):
    encoder = made("dgcnn")
    moments = input_moments(encoder, mixed_clouds(encoder))
    plain = structure(encoder, low_rank=low_rank, **WIDE)
    fitted = structure(encoder, low_rank=low_rank, moments=moments, **WIDE)
    with torch.no_grad():
        point = encoder(clouds()).point
        target = encoder.embed(point)
        errors = [(one.embed(point) - target).norm() / target.norm() for one in (plain, fitted)]
    assert errors[1] < 0.6 * errors[0]


def test_moments_are_means_of_outer_products():
    encoder = made("dgcnn")
    found = input_moments(encoder, mixed_clouds(encoder))
    assert list(found) == [place.path for place in layer_sites(encoder)]
    with torch.no_grad():
        x = torch.cat([encoder(batch).point for batch in mixed_clouds(encoder)]).double()
        pos = torch.cat([batch.pos for batch in mixed_clouds(encoder)]).double()
    torch.testing.assert_close(found["embed"], x.t() @ x / len(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["layers.0.linear"], pos.t() @ pos / len(pos))
    with pytest.raises(ConfigError, match="at least one batch"):
        input_moments(encoder, [])


def test_moments_fit_is_the_minimum_of_the_output_error():
    encoder = made("dgcnn")
    moments = input_moments(encoder, mixed_clouds(encoder))
    small = structure(encoder, moments=moments, permute=False, **WIDE)
    basis, c = small.embed.pool.basis(), moments["embed"]
    missing = encoder.embed.weight.double() - small.embed.weight.double() @ basis.t()
    gradient = missing @ c @ basis
    assert gradient.abs().max() < 1e-4 * (encoder.embed.weight.double() @ c @ basis).abs().max()


def residual(columns, rank, order):
    pool = SlidingSum(columns.shape[1], rank)
    pool.order.copy_(order)
    basis = pool.basis()
    return float((columns - columns @ torch.linalg.pinv(basis).t() @ basis.t()).norm())


@pytest.mark.parametrize(("channels", "rank"), [(24, 12), (40, 8), (24, 18), (9, 9), (9, 1)])
def test_the_order_never_makes_a_fit_worse(channels, rank):
    generator = torch.Generator().manual_seed(rank)
    columns = torch.randn(30, channels, generator=generator, dtype=torch.float64)
    columns *= torch.rand(channels, generator=generator, dtype=torch.float64)
    order = channel_order(columns, rank)
    assert order.sort().values.tolist() == list(range(channels))
    before, after = residual(columns, rank, torch.arange(channels)), residual(columns, rank, order)
    assert after <= before + 1e-9
    if 1 < rank < channels:
        assert after < 0.95 * before


@pytest.mark.parametrize(("channels", "rank"), [(24, 12), (40, 10), (32, 16)])
def test_a_scrambled_structured_weight_is_found_again(channels, rank):
    generator = torch.Generator().manual_seed(3)
    alpha = torch.randn(30, rank, generator=generator, dtype=torch.float64)
    columns = alpha @ SlidingSum(channels, rank).basis().t()
    scrambled = columns[:, torch.randperm(channels, generator=generator)]
    assert residual(scrambled, rank, torch.arange(channels)) > 0.3 * scrambled.norm()
    assert residual(scrambled, rank, channel_order(scrambled, rank)) < 1e-6 * scrambled.norm()


def output_error(columns, c, rank, order):
    pool = SlidingSum(columns.shape[1], rank)
    pool.order.copy_(order)
    basis = pool.basis()
    alpha = torch.linalg.solve(basis.t() @ c @ basis, basis.t() @ c @ columns.t()).t()
    missing = columns - alpha @ basis.t()
    return float((missing @ c * missing).sum())


def correlated(channels, generator):
    mixed = torch.randn(channels, channels // 2, generator=generator, dtype=torch.float64)
    return mixed @ mixed.t() + 0.1 * torch.eye(channels, dtype=torch.float64)


@pytest.mark.parametrize(("channels", "rank"), [(9, 4), (10, 7), (8, 2)])
def test_an_exchange_gives_what_it_promises(channels, rank):
    generator = torch.Generator().manual_seed(channels)
    columns = torch.randn(6, channels, generator=generator, dtype=torch.float64)
    c, length = correlated(channels, generator), channels - rank + 1
    group = torch.randperm(channels, generator=generator).numpy() % length
    error, gain = _gains((columns.t() @ columns).numpy(), torch.linalg.inv(c).numpy(), group)
    assert error == pytest.approx(output_error(columns, c, rank, torch.from_numpy(_positions(group, length))))
    for a in range(channels):
        for b in range(channels):
            other = group.copy()
            other[a], other[b] = group[b], group[a]
            after = output_error(columns, c, rank, torch.from_numpy(_positions(other, length)))
            assert gain[a, b] == pytest.approx(max(error - after, 0.0), abs=1e-8)


def test_an_order_for_correlated_inputs_suits_them_better():
    generator = torch.Generator().manual_seed(5)
    columns, c = torch.randn(20, 32, generator=generator, dtype=torch.float64), correlated(32, generator)
    plain, suited = channel_order(columns, 12), channel_order(columns, 12, torch.linalg.inv(c))
    assert output_error(columns, c, 12, suited) < 0.9 * output_error(columns, c, 12, plain)


def test_permuting_helps_an_encoder():
    encoder = made("dgcnn")
    free, bound = (distances(encoder, structure(encoder, permute=p, **WIDE)) for p in (True, False))
    for path in ("layers.1.linear", "layers.2.linear", "embed"):
        assert free[path] < bound[path]


def test_regularised_until_structured_then_decomposed_changes_nothing():
    encoder = made("dgcnn")
    soft = structure(encoder, regularize=0.5, **WIDE)
    with torch.no_grad():
        assert torch.equal(soft(clouds()).cloud, encoder(clouds()).cloud)
    terms = [module for module in soft.modules() if isinstance(module, Structural)]
    assert len(terms) == 3
    first = torch.stack([term.penalty() for term in terms]).sum()
    assert first > 0.3
    weights = [place.layer.weight for place in layer_sites(soft)]
    for step in range(400):
        loss = torch.stack([term.penalty() for term in terms]).sum()
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            for weight, grad in zip(weights, grads, strict=True):
                if grad is not None:  # a norm's gradient does not vanish near zero: shorter and shorter steps
                    weight -= 0.5 * 0.97**step * weight.norm() * grad
    assert loss < 1e-3
    hard = finalize(soft)
    with torch.no_grad():
        before, after = soft(clouds()).cloud, hard(clouds()).cloud
        torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-2)
        assert (before - encoder(clouds()).cloud).abs().max() > 0.1
    assert hard.compression[0]["regularize"] == 0.0
    assert soft.compression[0]["regularize"] == 0.5
    assert finalize(hard) is hard
    again = restore(MAKES["dgcnn"](), hard.compression[0])
    again.load_state_dict(hard.state_dict())


@pytest.mark.parametrize("low_rank", [False, True])
def test_fresh_layers_vary_as_much_as_dense_ones(low_rank):
    encoder = made("dgcnn")
    for options, lowest, highest in (({"fresh": True}, 0.9, 1.1), ({}, 0.0, 0.9)):
        small = structure(encoder, low_rank=low_rank, **options, **WIDE)
        other = dense_equivalent(encoder, small)
        for wide, same in zip(layer_sites(encoder), layer_sites(other), strict=True):
            if wide.path in small.compression[0]["ranks"]:
                x = torch.randn(20000, wide.channels, generator=torch.Generator().manual_seed(0))
                for before, after in zip(
                    wide.layer.weight.chunk(wide.parts, 1), same.layer.weight.chunk(wide.parts, 1), strict=True
                ):
                    ratio = (x @ after.t()).var() / (x @ before.t()).var()
                    assert lowest < ratio < highest


def test_what_does_not_fit_is_refused():
    encoder = made("dgcnn")
    for options in ({"reduction": 0.5}, {"regularize": -1.0}, {"regularize": 1.0, "low_rank": True}):
        with pytest.raises(ConfigError, match=r"^structure(\.\w+: .* is not a float| takes neither)"):
            structure(encoder, **options)
    with pytest.raises(ConfigError, match="no layer to rewrite"):
        structure(encoder, min_channels=500)
    with pytest.raises(ConfigError, match="no linear layer 'embedding'"):
        structure(encoder, ranks={"embedding": 8})
    with pytest.raises(ConfigError, match="embed takes a rank from 1 to 104; found 105"):
        structure(encoder, ranks={"embed": 105})
    with pytest.raises(ConfigError, match=r"moments: embed needs a 104 x 104 matrix; found None"):
        structure(encoder, moments={})
    with pytest.raises(ConfigError, match="each once"):
        structure(structure(encoder, **WIDE), **WIDE)
    quantised = structure(encoder, regularize=0.1, **WIDE)
    quantised.embed.quantizer = torch.nn.Identity()
    with pytest.raises(ConfigError, match="embed is quantised"):
        finalize(quantised)


def test_any_data_goes_through():
    small = structure(made("dgcnn"), **WIDE)
    assert small(Data(pos=torch.randn(30, 3, generator=torch.Generator().manual_seed(0)))).cloud.shape == (1, 96)


@pytest.mark.parametrize(
    "keywords", [{"reduction": float("nan")}, {"reduction": float("inf")}, {"regularize": float("nan")}]
)
def test_numbers_that_are_none_are_refused(keywords):
    with pytest.raises(ConfigError, match=r"^structure\.\w+: (nan|inf) is not a float from"):
        structure(DGCNN(k=2, channels=(64, 64), embedding=64), **keywords)


def test_the_best_exchange_comes_first_and_takes_its_classes() -> None:
    gain = np.zeros((4, 4))
    gain[0, 1] = gain[1, 0] = 5.0
    gain[1, 2] = gain[2, 1] = 3.0
    gain[3, 0] = gain[0, 3] = 4.0
    assert _swaps(gain, np.array([0, 1, 2, 3])) == [(0, 1)]
    gain[2, 3] = gain[3, 2] = 4.5
    assert _swaps(gain, np.array([0, 1, 2, 3])) == [(0, 1), (2, 3)]
