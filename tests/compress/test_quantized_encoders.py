"""Which layers are rounded to how many bits, and what is never rounded."""

import copy

import pytest
import torch
from torch import nn

from geo3d.compress import calibrate, finalize, prune, quantize, records, structure
from geo3d.decoders import FeaturePropagation
from geo3d.encoders import DGCNN, PointNet, PointNet2, SegmentationDGCNN
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.quantizer import Quantizer
from geo3d.ops import native
from geo3d.seeds import seeded
from geo3d.testing import tiny_batch

ENCODERS = {
    "dgcnn": lambda **k: DGCNN(k=4, channels=(8, 16), embedding=16, **k),
    "segmentation": lambda **k: SegmentationDGCNN(k=4, channels=((8, 16), (16,)), embedding=16, **k),
    "ssg": lambda **k: PointNet2(
        num_samples=(8, 4), radii=(0.4, 0.8), num_neighbors=(4, 6), channels=((8, 16), (16, 24), (24, 32)), **k
    ),
    "msg": lambda **k: PointNet2(
        "msg",
        num_samples=(8, 4),
        radii=((0.3, 0.6), (0.4, 0.8)),
        num_neighbors=((4, 6), (4, 6)),
        channels=(((8, 16), (8, 16)), ((16, 24), (16, 24)), (24, 32)),
        **k,
    ),
    "pointnet": lambda **k: PointNet(embedding=16, width=0.125, **k),
}


def make(name, **keywords):
    with seeded("encoder"):
        encoder = ENCODERS[name](**keywords)
        for module in encoder.modules():
            if isinstance(module, BatchNorm):
                nn.init.normal_(module.weight)  # both signs
    encoder.train()(tiny_batch())
    return encoder


def bits(encoder):
    return {
        name: (layer.quantizer.bits, getattr(layer.input_quantizer, "bits", 0))
        for name, layer in encoder.named_modules()
        if isinstance(layer, Linear)
    }


@pytest.mark.parametrize(
    ("name", "coordinates", "behind"),
    [
        ("dgcnn", {"layers.0.linear"}, {"layers.1.linear"}),
        ("ssg", {"levels.0.scales.0.linears.0"}, {"levels.0.scales.0.linears.1"}),
        (
            "msg",
            {"levels.0.scales.0.linears.0", "levels.0.scales.1.linears.0"},
            {"levels.0.scales.0.linears.1", "levels.0.scales.1.linears.1"},
        ),
        (
            "pointnet",
            {"local.0", "input_net.pool.linears.0"},
            {"input_net.pool.linears.1", "feature_net.pool.linears.0", "pool.linears.0"},
        ),
    ],
)
def test_layers_that_read_coordinates_keep_them_and_have_the_first_bits(name, coordinates, behind):
    found = bits(quantize(make(name), 4, 3, first=7, last=6))
    ends = {"input_net.head.6", "feature_net.head.6"} if name == "pointnet" else set()
    assert set(found) == {path for path, layer in make(name).named_modules() if isinstance(layer, Linear)}
    for path, pair in found.items():
        wanted = (7, 0) if path in coordinates else (4, 7) if path in behind else (6, 6) if path in ends else (4, 3)
        assert pair == wanted, path


def test_normals_beside_coordinates_are_rounded_and_coordinates_are_not():
    encoder = quantize(make("ssg", in_channels=6), 4, 4)
    layer = encoder.levels[0].scales[0].first
    calibrate(encoder, [tiny_batch()])
    rows = torch.rand(5, 6)
    entered = layer.inputs(rows)
    assert torch.equal(entered[:, :3], rows[:, :3])
    assert torch.equal(entered[:, 3:], layer.input_quantizer(rows[:, 3:])) and not torch.equal(entered, rows)


def test_coordinates_that_are_features_too_are_not_rounded():
    encoder = quantize(make("ssg", in_channels=6, absolute=True), 4, 4)
    level, draws = encoder.levels[0], torch.Generator().manual_seed(0)
    calibrate(encoder, [tiny_batch()])
    features = torch.rand(5, 6, generator=draws)
    entered = level.scales[0].first.inputs(features, skip=level.exact)
    assert torch.equal(entered[:, :3], features[:, :3]) and not torch.equal(entered, features)
    assert level.scales[0].first.skip == 6 and encoder.levels[1].exact == 0


@pytest.mark.parametrize("scales", ["ssg", "msg"])
def test_a_level_that_reads_coordinates_alone_rounds_its_weights_alone(scales):
    encoder = quantize(make(scales, absolute=True), 4, 4)
    first, second = (level.scales[0].first for level in encoder.levels)
    assert first.quantizer is not None and first.input_quantizer is None and second.input_quantizer is not None
    features = calibrate(encoder, [tiny_batch()]).eval()(tiny_batch())
    assert bool(features.cloud.isfinite().all()) and bool(features.cloud.any())


@pytest.mark.parametrize("channels", [3, 6])
def test_a_decoder_rounds_all_but_the_coordinates_that_its_last_step_joins(channels):
    encoder = make("ssg", in_channels=channels)
    decoder = FeaturePropagation(encoder.level_channels, encoder.cloud_channels, ((8, 8), (8, 6), (5,)))
    rounded = quantize(decoder, 4, 3)
    assert set(bits(rounded).values()) == {(4, 3)}
    calibrate(rounded, [encoder.eval()(tiny_batch())])
    layer, rows = rounded.steps[-1][0], torch.rand(5, channels + 6)
    entered = layer.inputs(rows)
    assert torch.equal(entered[:, :3], rows[:, :3]) and bool((entered[:, 3:] != rows[:, 3:]).any(0).all())
    assert [step[0].skip for step in rounded.steps] == [0, 0, 3]
    without = FeaturePropagation(encoder.level_channels, encoder.cloud_channels, ((8, 8), (8, 6), (5,)), input=False)
    assert [step[0].skip for step in without.steps] == [0, 0, 0]


@pytest.mark.parametrize("hidden", [(12, 8), ()])
def test_the_last_layer_of_a_head_has_its_own_bits(hidden):
    head = Classifier(10, 3, hidden=hidden)
    assert list(bits(quantize(head, 3, 4, last=8)).values()) == [(3, 4)] * len(hidden) + [(8, 8)]


def test_single_layers_by_name():
    encoder = make("dgcnn")
    found = bits(quantize(encoder, 4, 4, layers={"embed": [2, 5], "layers.0.linear": [3, 8]}))
    assert found == {"layers.0.linear": (3, 0), "layers.1.linear": (4, 8), "embed": (2, 5)}


@pytest.mark.parametrize("keywords", [{"weights": 1}, {"weights": 9}, {"activations": 1}, {"activations": 9}])
@pytest.mark.parametrize("name", ["dgcnn", "pointnet"])
def test_bits_out_of_range(name, keywords):
    with pytest.raises(ConfigError, match="is not an int from 2 to 8"):
        quantize(make(name), **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"first": 0}, "int from 2 to 8"),
        ({"weights": 4.0}, "int from 2 to 8"),
        ({"weights": True}, "int from 2 to 8"),
        ({"weights": "4"}, "int from 2 to 8"),
        ({"layers": {"embd": [4, 4]}}, "one of layers.0.linear, layers.1.linear, embed; found embd"),
        ({"layers": {"embed": 4}}, r"layers: {'embed': 4} is not a mapping to lists of int from 0 to 8 of length 2"),
        (
            {"layers": {"embed": [4]}},
            r"layers: {'embed': \[4\]} is not a mapping to lists of int from 0 to 8 of length 2",
        ),
        (
            {"layers": {"embed": [4, 1]}},
            r"layers.embed: expected 2 to 8 bits of weights and of activations; found \[4, 1\]",
        ),
        ({"layers": {"embed": [0, 4]}}, r"layers.embed: expected 2 to 8 bits .* found \[0, 4\]"),
        ({"layers": {"embed": [4, 0]}}, r"layers.embed: expected 2 to 8 bits .* found \[4, 0\]"),
        ({"layers": {"embed": [2.5, 4]}}, "int from 0 to 8"),
        ({"layers": {"embed": ["a", 4]}}, "int from 0 to 8"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(keywords, message):
    with pytest.raises(ConfigError, match=message) as raised:
        quantize(make("dgcnn"), **keywords)
    assert "\n" not in str(raised.value)


def test_shapes_that_are_still_to_change_are_refused_and_finished_ones_taken():
    regular = structure(make("dgcnn"), min_channels=8, regularize=0.1)
    soft = prune(make("dgcnn"), 0.7)
    for encoder in (regular, soft):
        with pytest.raises(ConfigError, match="is not finalized"):
            quantize(encoder)
        assert records(quantize(finalize(encoder)))[-1]["step"] == "quantize"
    assert len(records(quantize(prune(make("dgcnn"), 0.7, group="weight")))) == 2  # zeros change no shape


def test_the_original_is_left_as_it_was():
    encoder = make("dgcnn")
    before = copy.deepcopy(encoder.state_dict())
    calibrate(quantize(encoder, 2, 2), [tiny_batch()])
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    assert records(encoder) == [] and not any(isinstance(m, Quantizer) for m in encoder.modules())


@pytest.mark.parametrize("per_channel", [True, False])
def test_steps_of_an_edge_convolution_are_of_the_two_halves_and_the_table(per_channel):
    encoder = quantize(make("dgcnn"), 4, 3, first=5, per_channel=per_channel)
    for edge in (module for module in encoder.modules() if isinstance(module, EdgeConv)):
        assert edge.linear.quantizer.granularity.groups == (2 * edge.out_channels if per_channel else 2)
        assert edge.neighbor_quantizer.granularity.groups == edge.out_channels
    # coordinates are not rounded, but the features computed from them are
    assert [edge.neighbor_quantizer.bits for edge in encoder.layers] == [8, 5]
    assert encoder.embed.quantizer.granularity.groups == (16 if per_channel else 1)


@pytest.mark.parametrize("name", ENCODERS)
def test_calibration_sets_every_step_and_leaves_norms_and_mode(name):
    encoder = quantize(make(name), 4, 4)
    with pytest.raises(ConfigError, match="no step yet"):
        copy.deepcopy(encoder).eval()(tiny_batch())
    norms = {
        key: value.clone() for key, value in encoder.state_dict().items() if "running" in key or "num_batches" in key
    }
    assert calibrate(encoder, [tiny_batch(), tiny_batch(seed=1)]) is encoder and encoder.training
    quantizers = [module for module in encoder.modules() if isinstance(module, Quantizer)]
    assert quantizers and all(bool(each.initialized) and each.training for each in quantizers)
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in norms.items())
    state = copy.deepcopy(encoder.state_dict())
    calibrate(encoder.eval(), [tiny_batch(seed=2)])
    assert not encoder.training and all(torch.equal(state[key], value) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("sizes", [32, [20, 32, 27]])
def test_at_eight_bits_the_features_hardly_change_and_at_two_they_do(name, sizes):
    batch = tiny_batch(num_points=sizes)
    encoder = make(name).eval()
    with torch.no_grad():
        plain = encoder(batch).cloud
        error = [
            float((calibrate(quantize(encoder, b, b, first=b, last=b), [batch]).eval()(batch).cloud - plain).norm())
            for b in (8, 4, 2)
        ]
    assert error[0] < 0.06 * float(plain.norm()) and error[0] < error[1] < error[2]


@pytest.mark.parametrize("name", ["ssg", "msg"])
@pytest.mark.parametrize("training", [True, False])
def test_set_abstraction_is_the_same_with_and_without_kernels(name, training):
    batch = tiny_batch(num_points=[20, 32, 27])
    once = calibrate(quantize(make(name), 4, 4), [batch]).train(training)
    again = copy.deepcopy(once)
    with torch.set_grad_enabled(training):
        first = once(batch).cloud
        with native.disabled():
            second = again(batch).cloud
    # a value halfway between two levels may be rounded either way
    assert float(((first - second).abs() > 1e-3).float().mean()) < 0.05
    if training:
        for (key, a), b in zip(once.state_dict().items(), again.state_dict().values(), strict=True):
            if "running" in key:
                torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["ssg", "msg"])
@pytest.mark.parametrize("training", [True, False])
def test_rounded_first_layers_go_through_the_kernels_as_without(name, training):
    """Later layers do not round, so the compiled operator runs, on rounded features and exact coordinates."""
    batch = tiny_batch()
    encoder = calibrate(quantize(make(name), 4, 4), [batch])
    for path, layer in [each for each in encoder.named_modules() if isinstance(each[1], Linear)]:
        if not path.endswith("linears.0"):
            layer.input_quantizer = None
    first = encoder.levels[1].scales[0]
    assert first.first.input_quantizer is not None
    encoder.train(training)
    again = copy.deepcopy(encoder)
    with torch.set_grad_enabled(training):
        compiled = encoder(batch).cloud
        with native.disabled():
            plain = again(batch).cloud
    assert float(((compiled - plain).abs() > 1e-3).float().mean()) < 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_every_weight_and_step_gets_a_gradient(name):
    encoder = calibrate(quantize(make(name), 3, 3), [tiny_batch()]).train()
    features = encoder(tiny_batch())
    (features.cloud.square().mean() + features.point.square().mean()).backward()
    missing = [path for path, p in encoder.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
    assert missing == []


def test_neighbours_are_searched_among_the_features_before_rounding(monkeypatch):
    from geo3d.encoders import dgcnn

    seen = []
    real = dgcnn.knn
    monkeypatch.setattr(dgcnn, "knn", lambda x, *rest, **more: seen.append(x.clone()) or real(x, *rest, **more))
    batch = tiny_batch()
    encoder = calibrate(quantize(make("dgcnn"), 2, 2), [batch]).eval()
    seen.clear()
    entered = []
    for edge in encoder.layers:
        edge.register_forward_pre_hook(lambda module, args: entered.append(args[0].clone()))
    with torch.no_grad():
        encoder(batch)
    assert torch.equal(seen[0], batch.pos)
    assert len(entered) == 2 and torch.equal(entered[1], seen[1])
    assert entered[1].unique().numel() > 2**2 * entered[1].shape[1]  # not one of the few levels


def test_pointnet_and_heads_learn_in_this_form():
    encoder = quantize(make("pointnet"), 4, 4)
    with seeded("head"):
        head = quantize(Classifier(16, 3, hidden=(8,), dropout=0.0), 4, 4)
    batch = tiny_batch()
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head.train()(encoder.train()(batch).cloud), batch.y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
