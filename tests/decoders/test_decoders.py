"""Decoders against plain loops, published sizes and their own graphs; uniform and ragged."""

from functools import partial

import pytest
import torch

from geo3d.decoders import FeaturePropagation, GlobalConcat, Upcast
from geo3d.decoders.build import decoder_for
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.errors import CloudError, ConfigError
from geo3d.nn.describe import check_graph
from geo3d.nn.evaluate import Value, evaluate
from geo3d.nn.graph import rows_of
from geo3d.nn.quantizer import Quantizer
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
def test_upcast_may_leave_fine_levels_out(sizes):
    encoder = made("ssg")
    features = encoder(tiny_batch(num_points=sizes, dtype=torch.float64))
    all_levels, coarse = decoder_for(encoder, Upcast), decoder_for(encoder, partial(Upcast, finest=2))
    assert coarse.out_channels == encoder.level_channels[2] == coarse(features).shape[1]
    assert torch.equal(coarse(features), all_levels(features)[:, encoder.level_channels[1] :])
    with pytest.raises(ConfigError, match="finest=2, but the coarsest level of the encoder is 0"):
        Upcast(8, finest=2)
    assert not any(op.path in ("up.1", "levels.1.x") for op in coarse.layer_graph())
    with pytest.raises(ConfigError, match="finest=3, but the coarsest level of the encoder is 2"):
        decoder_for(encoder, partial(Upcast, finest=3))


def test_feature_propagation_has_the_published_layers_by_default():
    parts = FeaturePropagation((3, 128, 256), 1024)
    assert parts.channels == ((256, 256), (256, 128), (128, 128, 128))
    scenes = FeaturePropagation((9, 64, 128, 256, 512), 512, cloud=False)
    assert scenes.channels == ((256, 256), (256, 256), (256, 128), (128, 128, 128))
    assert FeaturePropagation((3, 8), 16, cloud=False).channels == ((128, 128, 128),)


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


@SIZES
@pytest.mark.parametrize("input", [True, False])
@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_last_step_reads_category_position_and_input_by_hand(sizes, input, positions, compressed):
    encoder, batch = made("msg"), tiny_batch(num_points=sizes, dtype=torch.float64)
    decoder = propagation(encoder, categories=5, positions=positions, input=input)
    if compressed:  # a quantiser of inputs needs all columns side by side
        decoder.steps[2][0].input_quantizer = Quantizer.for_activations(8).double()
    category = torch.arange(len(batch.ptr) - 1) * 2 % 5
    features, seen = encoder(batch), []
    decoder.steps[2][1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    decoder(features, category)
    fine, middle, coarse = features.levels
    x = decoder.steps[0](torch.cat([coarse.x, features.cloud.repeat_interleave(coarse.layout.ptr.diff(), 0)], 1))
    x = decoder.steps[1](torch.cat([middle.x, lifted(x, coarse, middle)], 1))
    one_hot = torch.eye(5, dtype=torch.float64)[category][batch.batch]
    rows = torch.cat([one_hot, *[fine.pos] * positions, *[fine.x] * input, lifted(x, middle, fine)], 1)
    first = decoder.steps[2][0]
    torch.testing.assert_close(seen[0], first.inputs(rows) @ first.matrix().T + first.bias)
    assert torch.equal(first.inputs(rows), rows) != compressed


def test_the_part_of_a_category_has_the_gradient_of_its_columns():
    encoder, batch = made("ssg"), tiny_batch(num_points=[30, 5, 17], dtype=torch.float64)
    decoder, features = propagation(encoder, categories=4), encoder(batch)
    weight, seen = decoder.steps[2][0].weight, []
    decoder.steps[2][1].register_full_backward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    decoder(features, torch.tensor([3, 0, 3])).square().sum().backward()
    of_clouds = torch.stack([seen[0][batch.batch == cloud].sum(0) for cloud in range(3)])
    expected = torch.stack(
        [of_clouds[1], torch.zeros(5).double(), torch.zeros(5).double(), of_clouds[0] + of_clouds[2]]
    )
    assert bool(expected[0].any()) and bool(expected[3].any())
    torch.testing.assert_close(weight.grad[:, :4], expected.T)


def test_a_decoder_with_categories_must_be_told_one_for_each_cloud():
    encoder, batch = made("ssg"), tiny_batch(num_points=24, dtype=torch.float64)
    decoder, features = propagation(encoder, categories=4), encoder(batch)
    clouds = len(batch.ptr) - 1
    with pytest.raises(CloudError, match=r"the decoder has 4 categories; give the clouds y \(B,\)"):
        decoder(features)
    for wrong in (torch.zeros(clouds + 1).long(), torch.zeros(clouds), torch.zeros(clouds, 1).long()):
        with pytest.raises(CloudError, match=rf"y: the decoder reads the category of each cloud, \({clouds},\) int64"):
            decoder(features, wrong)
    with pytest.raises(CloudError, match="y: expected categories from 0 to 3; found "):
        decoder(features, torch.full((clouds,), 4))


@SIZES
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", [Upcast, partial(Upcast, finest=2), GlobalConcat, FeaturePropagation])
def test_the_graph_computes_what_the_decoder_computes(name, kind, sizes):
    encoder = made(name)
    if isinstance(kind, partial) and len(encoder.level_channels) < 3:
        with pytest.raises(ConfigError, match="finest=2, but the coarsest level of the encoder is 0"):
            decoder_for(encoder, kind)
        return
    if kind is FeaturePropagation and len(encoder.level_channels) < 2:
        with pytest.raises(ConfigError, match="needs an encoder with levels"):
            propagation(encoder)
        return
    decoder = propagation(encoder) if kind is FeaturePropagation else decoder_for(encoder, kind)
    features = encoder(tiny_batch(num_points=sizes, dtype=torch.float64))
    check_graph_of(decoder, features)


@SIZES
@pytest.mark.parametrize("keywords", [{"categories": 3}, {"positions": True}, {"categories": 3, "positions": True}])
def test_the_graph_of_a_decoder_of_parts_computes_the_same(keywords, sizes):
    encoder, batch = made("msg"), tiny_batch(num_points=sizes, dtype=torch.float64)
    decoder = propagation(encoder, **keywords)
    check_graph(decoder, decoder.layer_graph())
    assert rows_of(decoder.layer_graph(), 24).get("y", 1) == 1
    check_graph_of(decoder, encoder(batch), torch.arange(len(batch.ptr) - 1) % 3 if decoder.categories else None)


def check_graph_of(decoder, features, category=None):
    """Check that the graph, computed operation by operation, gives what the decoder gives."""
    inputs = {"cloud": Value(features.cloud, None), "point": Value(features.point, features.levels[0].layout)}
    for i, level in enumerate(features.levels):
        inputs |= {f"levels.{i}.pos": Value(level.pos, level.layout), f"levels.{i}.x": Value(level.x, level.layout)}
    if category is not None:
        inputs["y"] = Value(torch.eye(decoder.categories, dtype=torch.float64)[category], None)
    values = evaluate(decoder, decoder.layer_graph(), inputs)
    torch.testing.assert_close(values["rows"].x, decoder(features) if category is None else decoder(features, category))


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
