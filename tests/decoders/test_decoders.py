"""Decoders against plain loops, published sizes and their own graphs; uniform and ragged."""

import pytest
import torch

from geo3d.decoders import FeaturePropagation, GlobalConcat, Upcast
from geo3d.decoders.build import decoder_for
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.errors import ConfigError
from geo3d.nn.evaluate import Value, evaluate
from geo3d.seeds import seeded
from geo3d.testing import tiny_batch

SIZES = pytest.mark.parametrize("sizes", [24, [30, 5, 17]], ids=["uniform", "ragged"])
ENCODERS = {
    "dgcnn": lambda: DGCNN(k=4, channels=(8, 8), embedding=16),
    "pointnet": lambda: PointNet(embedding=16, width=0.2),
    "ssg": lambda: PointNet2(num_samples=(12, 6), width=0.1),
    "msg": lambda: PointNet2("msg", num_samples=(12, 6), width=0.1, in_channels=6),
}
SMALL = ((8, 8), (8, 6), (5,))


def made(name):
    with seeded(0, name):
        return ENCODERS[name]().double().eval()


def propagation(encoder, **keywords):
    with seeded(1, "decoder"):
        return decoder_for(encoder, FeaturePropagation, **({"channels": SMALL} | keywords)).double().eval()


def nearest(points, centers, x):
    """Three nearest by hand."""
    rows = []
    for p in points:
        d2 = (centers - p).square().sum(1)
        near = d2.sort(stable=True).indices[:3]
        w = 1 / (d2[near] + 1e-8)
        rows.append((x[near] * (w / w.sum())[:, None]).sum(0))
    return torch.stack(rows)


def clouds_of(level):
    ends = level.layout.ptr.tolist()
    return [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def lifted(x, coarse, fine):
    parts = zip(clouds_of(coarse), clouds_of(fine), strict=True)
    return torch.cat([nearest(fine.pos[f], coarse.pos[c], x[c]) for c, f in parts])


@SIZES
@pytest.mark.parametrize("name", ENCODERS)
def test_levels_go_from_fine_to_coarse(name, sizes):
    encoder, batch = made(name), tiny_batch(num_points=sizes, dtype=torch.float64)
    levels = encoder(batch).levels
    assert torch.equal(levels[0].pos, batch.pos) and levels[0].rows is None
    assert tuple(level.x.shape[1] for level in levels) == encoder.level_channels
    for fine, coarse in zip(levels[:-1], levels[1:], strict=True):
        assert torch.equal(fine.pos[coarse.rows], coarse.pos)
        for own, other in zip(clouds_of(coarse), clouds_of(fine), strict=True):
            assert bool(((coarse.rows[own] >= other.start) & (coarse.rows[own] < other.stop)).all())
        assert coarse.layout.ptr[-1] == len(coarse.pos) == len(coarse.x)
        same = set(coarse.layout.ptr.diff().tolist())
        assert coarse.layout.size is None or same == {coarse.layout.size}


@SIZES
@pytest.mark.parametrize("name", ENCODERS)
def test_upcast_is_every_level_by_hand(name, sizes):
    encoder = made(name)
    features = encoder(tiny_batch(num_points=sizes, dtype=torch.float64))
    decoder = decoder_for(encoder, Upcast)
    fine, *coarser = features.levels
    expected = torch.cat([lifted(each.x, each, fine) for each in coarser], 1) if coarser else features.point
    torch.testing.assert_close(decoder(features), expected)
    assert decoder(features).shape[1] == decoder.out_channels and not list(decoder.parameters())


@SIZES
@pytest.mark.parametrize("name", ENCODERS)
def test_global_concat_is_the_cloud_beside_each_point(name, sizes):
    encoder, batch = made(name), tiny_batch(num_points=sizes, dtype=torch.float64)
    features, decoder = encoder(batch), decoder_for(encoder, GlobalConcat)
    assert torch.equal(decoder(features), torch.cat([features.cloud[batch.batch], features.point], 1))
    assert decoder(features).shape[1] == decoder.out_channels


@SIZES
@pytest.mark.parametrize("name", ["ssg", "msg"])
@pytest.mark.parametrize("cloud", [True, False])
@pytest.mark.parametrize("input", [True, False])
def test_feature_propagation_is_the_published_one_by_hand(name, sizes, cloud, input):
    encoder, batch = made(name), tiny_batch(num_points=sizes, dtype=torch.float64)
    decoder = propagation(encoder, cloud=cloud, input=input, channels=SMALL if cloud else SMALL[1:])
    features = encoder(batch)
    fine, middle, coarse = features.levels
    steps, x = list(decoder.steps), coarse.x
    if cloud:
        which = torch.cat([torch.full((each.stop - each.start,), i) for i, each in enumerate(clouds_of(coarse))])
        x = steps.pop(0)(torch.cat([x, features.cloud[which]], 1))
    x = steps[0](torch.cat([middle.x, lifted(x, coarse, middle)], 1))
    x = lifted(x, middle, fine)
    torch.testing.assert_close(decoder(features), steps[1](torch.cat([fine.x, x], 1) if input else x))


def test_the_published_part_segmentation_has_its_number_of_parameters():
    """1,411,250 in all: with the class of the object (16 channels) at the last step, and a head of two layers.

    Level 0 of that network holds the coordinates as features, which its first level and its last step read once more.
    """
    encoder = PointNet2()
    decoder = decoder_for(encoder, FeaturePropagation)
    count = sum(p.numel() for module in (encoder, decoder) for p in module.parameters())
    more = 3 * 64 + 3 * 128 + 16 * 128
    head = 128 * 128 + 128 + 2 * 128 + 128 * 50 + 50
    assert count + more + head == 1_411_250


@SIZES
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", [Upcast, GlobalConcat, FeaturePropagation])
def test_the_graph_computes_what_the_decoder_computes(name, kind, sizes):
    encoder = made(name)
    if kind is FeaturePropagation and len(encoder.level_channels) < 2:
        with pytest.raises(ConfigError, match="needs an encoder with levels"):
            propagation(encoder)
        return
    decoder = propagation(encoder) if kind is FeaturePropagation else decoder_for(encoder, kind)
    features = encoder(tiny_batch(num_points=sizes, dtype=torch.float64))
    inputs = {"cloud": Value(features.cloud, None), "point": Value(features.point, features.levels[0].layout)}
    for i, level in enumerate(features.levels):
        inputs |= {f"levels.{i}.pos": Value(level.pos, level.layout), f"levels.{i}.x": Value(level.x, level.layout)}
    values = evaluate(decoder, decoder.layer_graph(), inputs)
    torch.testing.assert_close(values["rows"].x, decoder(features))


def test_gradients_reach_every_level_and_step():
    encoder = made("ssg").train()
    decoder = propagation(encoder).train()
    decoder(encoder(tiny_batch(num_points=24, dtype=torch.float64))).square().sum().backward()
    assert all(bool(p.grad.any()) for p in decoder.parameters() if p.dim() > 1)
    assert all(bool(p.grad.any()) for p in encoder.levels[0].parameters() if p.dim() > 1)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match="channels: expected .*sizes.* of 3 steps, coarse to fine; found 2"):
        propagation(made("ssg"), channels=SMALL[1:])
    with pytest.raises(ConfigError, match="channels: expected .*sizes.* of 2 steps"):
        propagation(made("ssg"), cloud=False)
