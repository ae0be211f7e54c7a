import copy
import inspect
import json

import pytest
import torch

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.compress.shrink import multiplications, prunable, shrink
from geo3d.compress.structure import structure
from geo3d.encoders import DGCNN, PointNet, PointNet2, SegmentationDGCNN
from geo3d.errors import ConfigError
from geo3d.nn.graph import layers_of
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm


def clouds(num_points=40, count=3, seed=0, dtype=torch.float32):
    pos = torch.randn(count * num_points, 3, generator=seeds.generator(seed, "clouds"), dtype=dtype)
    return make_batch(pos, num_points=num_points)


def ragged(dtype=torch.float32):
    pos = torch.randn(75, 3, generator=seeds.generator(5, "clouds"), dtype=dtype)
    return make_batch(pos, ptr=torch.tensor([0, 40, 75]))


def made(kind, dtype=torch.float32):
    """An encoder whose norms have statistics, scales of both signs and shifts."""
    with seeds.seeded(0, "encoder"):
        encoder = {
            "static": lambda: DGCNN(k=4, channels=(8, 16, 24), embedding=32, dynamic=False),
            "dynamic": lambda: DGCNN(k=4, channels=(8, 16, 24), embedding=32),
            "segmentation": lambda: SegmentationDGCNN(k=4, channels=((8, 16), (24,), (16, 16)), embedding=32),
            "ssg": lambda: PointNet2(
                num_samples=(16, 4), num_neighbors=(8, 4), radii=(0.8, 1.6), width=0.5,
                channels=((16, 16, 32), (32, 64), (64, 64, 128)),
            ),
            "msg": lambda: PointNet2("msg", num_samples=(16, 4), width=0.125),
        }[kind]().to(dtype)  # fmt: skip
        for norm in (module for module in encoder.modules() if isinstance(module, BatchNorm)):
            norm.weight.data.uniform_(-1.5, 1.5)
            norm.bias.data.normal_()
    encoder.train()
    for seed in range(3):
        encoder(clouds(seed=seed, dtype=dtype))
    return encoder.eval()


def half(encoder, names=None):
    """For each layer that may lose channels, a random half of them."""
    names = prunable(encoder, layers_of(encoder.layer_graph()), output=True) if names is None else names
    kept = {}
    for name in names:
        order = torch.randperm(len(encoder.get_submodule(name).weight), generator=seeds.generator(1, name))
        kept[name] = order < (len(order) + 1) // 2
    return kept


def masked(encoder, kept):
    other = copy.deepcopy(encoder)
    for name, keep in kept.items():
        other.get_submodule(name).weight.data[~keep] = 0
    return other


def selected(encoder, kept, features):
    """The features of the full encoder that the smaller one still has."""
    layers = layers_of(encoder.layer_graph())
    every = {name: torch.ones(len(encoder.get_submodule(name).weight), dtype=torch.bool) for name, *_ in layers} | kept
    dgcnn = isinstance(encoder, DGCNN)
    names = [layer.name for layer in layers[:-1]]
    if isinstance(encoder, SegmentationDGCNN):  # the last layer of each convolution
        names = [source.of for source in layers[-1].sources]
    elif not dgcnn:
        names = [s.of for s in next(layer for layer in layers if layer.name == "last.linears.0").sources[1:]]
    cloud = every[layers[-1].name].repeat(2 if dgcnn else 1)
    return features.point[:, torch.cat([every[name] for name in names])], features.cloud[:, cloud]


@pytest.mark.parametrize("kind", ["static", "segmentation", "ssg", "msg"])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("batch", [clouds, ragged])
def test_fewer_channels_compute_what_rows_at_zero_compute(kind, train, batch):
    encoder = made(kind, torch.float64)
    kept = half(encoder)
    large, small = masked(encoder, kept).train(train), shrink(encoder, kept).train(train)
    data = batch(dtype=torch.float64)
    point, cloud = selected(encoder, kept, large(data))
    found = small(data)
    assert found.point.shape[1] == small.point_channels < encoder.point_channels
    assert found.cloud.shape[1] == small.cloud_channels < encoder.cloud_channels
    torch.testing.assert_close(found.point, point, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.cloud, cloud, rtol=0, atol=1e-9)


def test_dynamic_neighbors_do_not_see_the_difference():
    encoder = made("dynamic")
    kept = half(encoder)
    large, small = masked(encoder, kept), shrink(encoder, kept)
    with torch.no_grad():
        (point, cloud), found = selected(encoder, kept, large(clouds())), small(clouds())
    close = (found.point - point).abs().amax(1) < 1e-5
    assert close.double().mean() > 0.98  # a tie between neighbours may be broken the other way
    assert not close.all() or torch.allclose(found.cloud, cloud, atol=1e-5)


@pytest.mark.parametrize("kind", ["static", "segmentation", "ssg"])
def test_training_goes_on_alike(kind):
    encoder = made(kind, torch.float64)
    kept = half(encoder)
    large, small = masked(encoder, kept), shrink(encoder, kept)
    for one in (large, small):
        for norm in (module for module in one.modules() if isinstance(module, BatchNorm)):
            norm.momentum = 1.0
        one.train()
    data = clouds(seed=7, dtype=torch.float64)
    (_, cloud), found = selected(encoder, kept, large(data)), small(data)
    ask = torch.randn(cloud.shape, generator=seeds.generator(2), dtype=torch.float64)
    (cloud * ask).sum().backward()
    (found.cloud * ask).sum().backward()
    last = layers_of(encoder.layer_graph())[-1].name
    inner = layers_of(encoder.layer_graph())[-1].sources[-1].of
    wanted = large.get_submodule(last).weight.grad[kept[last]][:, -len(kept[inner]) :][:, kept[inner]]
    torch.testing.assert_close(small.get_submodule(last).weight.grad[:, -int(kept[inner].sum()) :], wanted)
    # The running statistics differ now, since the large encoder's include the constants; the outputs do not differ.
    data = clouds(seed=8, dtype=torch.float64)
    (_, cloud), found = selected(encoder, kept, large.eval()(data)), small.eval()(data)
    torch.testing.assert_close(found.cloud, cloud, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["static", "msg"])
def test_the_smaller_encoder_is_a_plain_one(kind):
    encoder = made(kind)
    before, state = torch.get_rng_state(), copy.deepcopy(encoder.state_dict())
    small = shrink(encoder, half(encoder))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    keywords = {name: getattr(small, name) for name in inspect.signature(type(small)).parameters}
    other = type(small)(**json.loads(json.dumps(keywords)))
    other.load_state_dict(small.state_dict())
    assert torch.equal(other.eval()(clouds()).cloud, small(clouds()).cloud)
    assert not small.training and shrink(encoder.train(), {}).training
    if kind == "static":
        assert small.channels == (4, 8, 12) and small.embedding == 16


def test_without_statistics_in_the_norms():
    encoder = made("static", torch.float64)
    for norm in (module for module in encoder.modules() if isinstance(module, BatchNorm)):
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        norm.track_running_stats = False
    kept = half(encoder)
    small = shrink(encoder, kept)
    _, cloud = selected(encoder, kept, masked(encoder, kept)(clouds(dtype=torch.float64)))
    torch.testing.assert_close(small(clouds(dtype=torch.float64)).cloud, cloud, rtol=0, atol=1e-9)


def test_what_a_structured_layer_reads_stays():
    encoder = structure(made("static", torch.float64), ranks={"layers.1.linear": 4}, min_channels=10**6)
    layers = layers_of(encoder.layer_graph())
    assert prunable(encoder, layers) == ["layers.1.linear", "layers.2.linear"]
    kept = half(encoder)
    assert "layers.0.linear" not in kept and "embed" in kept
    data = clouds(dtype=torch.float64)
    point, cloud = selected(encoder, kept, masked(encoder, kept)(data))
    small = shrink(encoder, kept)
    assert small.channels == (8, 8, 12) and small.get_submodule("layers.1.linear").weight.shape == (8, 2 * 4)
    torch.testing.assert_close(small(data).cloud, cloud, rtol=0, atol=1e-9)
    torch.testing.assert_close(small(data).point, point, rtol=0, atol=1e-9)
    with pytest.raises(ConfigError, match=r"layers.0.linear feeds a structured layer"):
        shrink(encoder, {"layers.0.linear": torch.arange(8) < 4})


@pytest.mark.parametrize("kind", ["static", "segmentation", "ssg"])
def test_low_rank_layers_are_dense(kind):
    plain = made(kind, torch.float64)
    encoder = structure(plain, 2.0, min_channels=8, low_rank=True).double()
    assert sum(module.pool is not None for module in encoder.modules() if isinstance(module, Linear)) >= 2
    kept = half(encoder)
    assert len(kept) == len(layers_of(encoder.layer_graph()))
    data = clouds(dtype=torch.float64)
    point, cloud = selected(encoder, kept, masked(encoder, kept)(data))
    small = shrink(encoder, kept)
    torch.testing.assert_close(small(data).cloud, cloud, rtol=0, atol=1e-9)
    torch.testing.assert_close(small(data).point, point, rtol=0, atol=1e-9)
    assert small.compression == encoder.compression


def test_multiplications_of_dgcnn():
    encoder = DGCNN()
    layers = layers_of(encoder.layer_graph())
    linears = {layer.name: encoder.get_submodule(layer.name) for layer in layers}
    whole = 2 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 256) + 512 * 1024
    assert multiplications(layers, linears, {}, {}) == whole
    fewer = 2 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 480 * 1024
    assert multiplications(layers, linears, {"layers.0.linear": 32}, {}) == fewer
    assert multiplications(layers, linears, {}, {"embed": 0.5}) == whole - 256 * 1024


def test_multiplications_of_pointnet2():
    encoder = PointNet2(num_samples=(16, 4), num_neighbors=(8, 6), channels=((5, 6), (7, 8), (9, 10)))
    layers = layers_of(encoder.layer_graph())
    linears = {layer.name: encoder.get_submodule(layer.name) for layer in layers}
    first = 16 * 8 * (3 * 5 + 5 * 6)
    second = (4 * 6 * 3 + 16 * 6) * 7 + 4 * 6 * 7 * 8
    assert multiplications(layers, linears, {}, {}) == first + second + 4 * ((3 + 8) * 9 + 9 * 10)


def test_what_does_not_fit_is_refused():
    encoder = made("static")
    with pytest.raises(ConfigError, match="no layer 'layers.7.linear'"):
        shrink(encoder, {"layers.7.linear": torch.ones(8)})
    with pytest.raises(ConfigError, match="expected 8 entries, one per output; found 9"):
        shrink(encoder, {"layers.0.linear": torch.ones(9)})
    with pytest.raises(ConfigError, match="lose all its 8 channels"):
        shrink(encoder, {"layers.0.linear": torch.zeros(8)})
    with pytest.raises(ConfigError, match="channels of a PointNet cannot be taken out"):
        shrink(PointNet(embedding=16, width=0.1), {})
    encoder.embed.quantizer = torch.nn.Identity()
    with pytest.raises(ConfigError, match="embed is quantised"):
        shrink(encoder, {})
