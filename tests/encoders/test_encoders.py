"""What every encoder keeps to."""

import inspect

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geo3d import encoders
from geo3d.cloud import layout_of, make_batch
from geo3d.decoders import Upcast
from geo3d.decoders.build import decoder_for
from geo3d.encoders.inputs import check_encoder
from geo3d.errors import ConfigError
from geo3d.jobs.common import apply_recipe
from geo3d.nn.describe import graph_of
from geo3d.nn.evaluate import Value, evaluate
from geo3d.nn.keywords import keywords_of

SMALL = {
    "DGCNN": {"k": 5, "channels": (8, 8, 12), "embedding": 16},
    "PointNet": {"embedding": 16, "width": 0.25},
    "SegmentationDGCNN": {"k": 5, "channels": ((8, 8), (12,)), "embedding": 16},
    "PointNet2": {"num_samples": (12, 5), "num_neighbors": (6, 6), "width": 0.125},
}
"""Keywords that make an encoder small; a class that is not named here is made as it is by default."""
each = pytest.mark.parametrize("name", encoders.__all__)


def make(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A small encoder with the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(encoders, name)(**SMALL.get(name, {})).to(dtype)


def clouds(sizes: list[int], dtype: torch.dtype = torch.float32) -> Batch:
    pos = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pos = 0.9 * pos / pos.norm(dim=1).max()
    return make_batch(pos.to(dtype), ptr=torch.tensor([0, *sizes]).cumsum(0))


@each
@pytest.mark.parametrize("sizes", [[40, 40, 40], [40, 7, 33], [40]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes(name: str, sizes: list[int], dtype: torch.dtype) -> None:
    encoder = make(name, dtype).eval()
    point, cloud, _ = encoder(clouds(sizes, dtype))
    assert point.shape == (sum(sizes), encoder.point_channels) and point.dtype == dtype
    assert cloud.shape == (len(sizes), encoder.cloud_channels) and cloud.dtype == dtype
    assert bool(point.isfinite().all()) and bool(cloud.isfinite().all())


@each
def test_foreign_data(name: str) -> None:
    encoder = make(name).eval()
    batch = clouds([40, 7])
    expected = encoder(batch)
    single = [Data(pos=batch.pos[:40]), Data(pos=batch.pos[40:])]
    foreign = encoder(Batch.from_data_list(single))
    torch.testing.assert_close(foreign.cloud, expected.cloud)
    torch.testing.assert_close(foreign.point, expected.point)


@each
def test_what_an_encoder_does_not_read_may_have_any_form(name: str) -> None:
    encoder, pos = make(name).eval(), clouds([20, 20]).pos
    expected = encoder(make_batch(pos, num_points=20)).cloud
    parts = [Data(pos=part, y=torch.zeros(20).long(), category=torch.tensor([1])) for part in pos.view(2, 20, 3)]
    assert torch.equal(encoder(Batch.from_data_list(parts)).cloud, expected)
    strange = Data(pos=pos[:20], edge_index=torch.zeros(2, 3).long(), y=torch.randn(1, 7), x=torch.zeros(20))
    torch.testing.assert_close(encoder(strange).cloud, expected[:1])


@each
@pytest.mark.parametrize("sizes", [[40, 40], [40, 7, 33]])
def test_the_graph_computes_what_the_encoder_computes(name: str, sizes: list[int]) -> None:
    encoder, batch = make(name, torch.float64).train(), clouds(sizes, torch.float64)
    encoder(batch)  # so that statistics are not those of the start
    encoder.eval()
    with torch.no_grad():
        features, layout = encoder(batch), layout_of(batch)
        values = evaluate(encoder, graph_of(encoder, "comparing"), {"pos": Value(batch.pos, layout)})
    torch.testing.assert_close(values["point"].x, features.point)
    torch.testing.assert_close(values["cloud"].x, features.cloud)


@each
@pytest.mark.parametrize("sizes", [[40, 40, 40], [40, 7, 33]])
def test_clouds_do_not_see_each_other(name: str, sizes: list[int]) -> None:
    encoder = make(name, torch.float64).eval()
    batch = clouds(sizes, torch.float64)
    together = encoder(batch)
    for i, part in enumerate(batch.pos.split(sizes)):
        alone = encoder(Data(pos=part))
        torch.testing.assert_close(alone.cloud[0], together.cloud[i], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(alone.point, together.point[batch.batch == i], rtol=1e-9, atol=1e-9)


@each
@pytest.mark.parametrize("sizes", [[40, 40, 40], [40, 7, 33]])
def test_gradients_reach_every_parameter(name: str, sizes: list[int]) -> None:
    encoder = make(name).train()
    point, cloud, _ = encoder(clouds(sizes))
    draw = torch.Generator().manual_seed(2)
    loss = (point * torch.randn(point.shape, generator=draw)).sum()
    (loss + (cloud * torch.randn(cloud.shape, generator=draw)).sum()).backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), key
        cancelled = ".linears." in key and key.endswith("bias")  # by the norm behind it: zero but for rounding
        assert cancelled or bool((parameter.grad != 0).any()), key


@each
def test_same_input_same_output(name: str) -> None:
    batch = clouds([40, 7, 33])
    first, second = make(name).train(), make(name).train()
    for _ in range(2):
        a, b = first(batch), second(batch)
        assert torch.equal(a.cloud, b.cloud) and torch.equal(a.point, b.point)
        (a.cloud.sum() + a.point.square().sum()).backward()
        (b.cloud.sum() + b.point.square().sum()).backward()
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None and torch.equal(p.grad, q.grad)
    for p, q in zip(first.buffers(), second.buffers(), strict=True):
        assert torch.equal(p, q)


@each
@pytest.mark.parametrize("sizes", [[1], [2, 1, 4], [3, 3]])
def test_tiny_clouds(name: str, sizes: list[int]) -> None:
    encoder = make(name).eval()
    point, cloud, _ = encoder(clouds(sizes))
    assert point.shape[0] == sum(sizes) and cloud.shape[0] == len(sizes)
    assert bool(point.isfinite().all()) and bool(cloud.isfinite().all())


@each
def test_batch_is_left_alone(name: str) -> None:
    batch = clouds([20, 20])
    before, keys = batch.pos.clone(), sorted(batch.keys())
    make(name).train()(batch)
    assert torch.equal(batch.pos, before) and sorted(batch.keys()) == keys


@each
def test_keywords_are_plain_and_kept(name: str) -> None:
    encoder = make(name)
    for keyword, parameter in inspect.signature(type(encoder)).parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.default is not inspect.Parameter.empty
        assert getattr(encoder, keyword) == SMALL.get(name, {}).get(keyword, parameter.default)
    again = type(encoder)(**{key: getattr(encoder, key) for key in inspect.signature(type(encoder)).parameters})
    again.load_state_dict(encoder.state_dict())
    assert (again.point_channels, again.cloud_channels) == (encoder.point_channels, encoder.cloud_channels)


@pytest.mark.parametrize("missing", ["in_channels", "point_channels", "cloud_channels"])
def test_what_an_encoder_does_not_say_is_named(missing: str) -> None:
    encoder = make("DGCNN")
    check_encoder(encoder)
    delattr(encoder, missing)
    with pytest.raises(ConfigError, match=f"DGCNN: an encoder needs the attribute {missing}"):
        check_encoder(encoder)
    with pytest.raises(ConfigError, match=f"DGCNN: an encoder needs the attribute {missing}"):
        apply_recipe(encoder, None)


def test_keywords_that_are_not_kept_are_named() -> None:
    encoder = make("DGCNN")
    del encoder.k
    with pytest.raises(ConfigError, match="DGCNN: does not keep its keyword k as an attribute"):
        keywords_of(encoder)
    del encoder.level_channels
    with pytest.raises(ConfigError, match="DGCNN has no level_channels, which this decoder reads"):
        decoder_for(encoder, Upcast)
