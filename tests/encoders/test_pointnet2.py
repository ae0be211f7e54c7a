import copy

import pytest
import torch
from support import reference_pointnet2 as reference
from support.rounding import assert_as_near
from torch_geometric.data import Batch, Data

from geo3d import seeds
from geo3d.cloud import make_batch, select_points
from geo3d.encoders import pointnet2
from geo3d.encoders.pointnet2 import PointNet2, published_state
from geo3d.errors import CloudError, ConfigError

SMALL = {
    "ssg": ([8, 8, 12], [10, 12], [16, 24]),
    "msg": ([[4, 6], [6, 8], [5]], [[6, 8], [4, 4], [8, 6]], [12, 16]),
}
SAMPLES = (24, 8)


def clouds(sizes, dtype=torch.float64, seed=0, channels=3):
    x = torch.randn(sum(sizes), channels, generator=seeds.generator(seed, "clouds"), dtype=dtype)
    x[:, :3] = 0.7 * torch.nn.functional.normalize(x[:, :3], dim=1)
    extra = {"x": x[:, 3:]} if channels > 3 else {}
    return make_batch(x[:, :3].clone(), ptr=torch.tensor([0, *sizes]).cumsum(0), **extra), list(x.split(sizes))


def pair(scales, dtype=torch.float64, in_channels=3):
    """The published network with random statistics and signs of the scales, and ours with its weights."""
    with seeds.seeded(0, "weights"):
        theirs = reference.PublishedPointNet2(scales, 5, in_channels, SAMPLES, SMALL[scales]).to(dtype)
        for name, value in theirs.state_dict().items():
            if "bn" in name and value.is_floating_point():
                value.uniform_(0.5, 1.5)
                if name.endswith(".weight"):
                    value.mul_(torch.where(torch.rand(value.shape) < 0.3, -1.0, 1.0))
    keywords, state = published_state(theirs.state_dict())
    ours = PointNet2(num_samples=SAMPLES, **keywords).to(dtype)
    ours.load_state_dict(state)
    return theirs, ours


@pytest.mark.parametrize("scales", ["ssg", "msg"])
@pytest.mark.parametrize("sizes", [[60, 60, 60], [60, 30, 18]])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_is_the_published_function(scales, sizes, train, dtype, tolerance):
    theirs, ours = pair(scales, dtype)
    batch, parts = clouds(sizes, dtype)
    exactly = copy.deepcopy(theirs).double().train(train)
    cloud, point = theirs.train(train).encode(parts)
    found = ours.train(train)(batch)
    exact = exactly.encode([part.double() for part in parts])
    assert_as_near(found.cloud, cloud, exact[0], tolerance)
    assert_as_near(found.point, point, exact[1], tolerance)

    generator = seeds.generator(0, "ask")
    ask = [torch.randn(x.shape, generator=generator, dtype=dtype) for x in (cloud, point)]
    ((cloud * ask[0]).mean() + (point * ask[1]).mean()).backward()
    ((found.cloud * ask[0]).mean() + (found.point * ask[1]).mean()).backward()
    wanted = {name: value.grad for name, value in theirs.named_parameters() if value.grad is not None}
    wanted |= {name: value for name, value in theirs.named_buffers() if name.startswith("sa")}
    keywords, wanted = published_state(wanted)
    have = {name: value.grad for name, value in ours.named_parameters()} | dict(ours.named_buffers())
    assert wanted.keys() == have.keys()
    for name in have:
        # Gradients are sums over all edges that nearly cancel (those of a bias before a norm wholly): what counts is
        # the error beside the layer's largest gradient, and single precision leaves a digit less of it.
        layer = wanted[name.removesuffix("bias") + "weight"] if "bias" in name else wanted[name]
        atol = 10 * tolerance * (1 + float(layer.abs().max()))
        torch.testing.assert_close(have[name], wanted[name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def test_normals_are_further_channels():
    theirs, ours = pair("msg", in_channels=6)
    batch, parts = clouds([40, 40], channels=6)
    cloud, point = theirs.eval().encode(parts)
    found = ours.eval()(batch)
    torch.testing.assert_close(found.cloud, cloud, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.point, point, rtol=0, atol=1e-10)
    by_normal = make_batch(batch.pos, num_points=40, normal=batch.x)
    assert torch.equal(ours(by_normal).cloud, found.cloud)
    with pytest.raises(CloudError, match="in_channels=3"):
        ours(clouds([40])[0])


@pytest.mark.parametrize("scales, millions", [("ssg", 1.48), ("msg", 1.74)])
def test_number_of_parameters(scales, millions):
    # The layer lists are those of pointnet2_cls_ssg.py and pointnet2_cls_msg.py in Pointnet_Pointnet2_pytorch, with
    # 40 classes and no normals: each layer has a weight, a bias and the two vectors of its norm.
    levels = {
        "ssg": [[[3, 64, 64, 128]], [[131, 128, 128, 256]], [[259, 256, 512, 1024]]],
        "msg": [
            [[3, 32, 32, 64], [3, 64, 64, 128], [3, 64, 96, 128]],
            [[323, 64, 64, 128], [323, 128, 128, 256], [323, 128, 128, 256]],
            [[643, 256, 512, 1024]],
        ],
    }[scales]
    count = sum(a * b + 3 * b for level in levels for m in level for a, b in zip(m[:-1], m[1:], strict=True))
    assert sum(p.numel() for p in PointNet2(scales).parameters()) == count
    head = 1024 * 512 + 3 * 512 + 512 * 256 + 3 * 256 + 256 * 40 + 40
    assert round((count + head) / 1e6, 2) == pytest.approx(millions, abs=0.011)
    full = reference.PublishedPointNet2(scales)
    assert sum(p.numel() for p in full.parameters()) == count + head
    keywords, state = published_state(full.state_dict())
    assert not PointNet2(**keywords).load_state_dict(state).missing_keys


def test_other_layouts_are_refused():
    theirs, _ = pair("ssg")
    state = theirs.state_dict()
    assert published_state({"conv1.weight": torch.zeros(1)}) is None
    assert published_state(state | {"fp1.mlp_convs.0.weight": torch.zeros(1)}) is None
    assert published_state({k: v for k, v in state.items() if not k.startswith("sa3")}) is None


def small(**options):
    with seeds.seeded(0, "small"):
        return PointNet2(**{"num_samples": (24, 8), "width": 0.125, **options})


def test_a_cloud_does_not_see_its_companions():
    batch, parts = clouds([50, 10, 1, 30], torch.float32)
    encoder = small().eval()
    together = encoder(batch)
    for b, part in enumerate(parts):
        alone = encoder(Data(pos=part))
        torch.testing.assert_close(alone.cloud[0], together.cloud[b], rtol=1e-5, atol=1e-6)
        rows = slice(batch.ptr[b], batch.ptr[b + 1])
        torch.testing.assert_close(alone.point, together.point[rows], rtol=1e-5, atol=1e-6)
    plain = Batch.from_data_list([Data(pos=part) for part in parts])
    assert torch.equal(encoder(plain).cloud, together.cloud)


def test_chunks_in_inference_change_nothing(monkeypatch):
    batch, _ = clouds([50, 50], torch.float64)
    encoder = small(scales="msg").double().eval()
    whole = encoder(batch)
    monkeypatch.setattr("geo3d.nn.set_abstraction.CHUNK", 300)
    with torch.no_grad():
        chunked = encoder(batch)
    torch.testing.assert_close(chunked.cloud, whole.cloud, rtol=0, atol=1e-12)
    torch.testing.assert_close(chunked.point, whole.point, rtol=0, atol=1e-12)


def test_order_of_the_points():
    batch, _ = clouds([200, 200], torch.float64)
    generator = seeds.generator(0, "order")
    order = torch.cat([torch.randperm(200, generator=generator), 200 + torch.randperm(200, generator=generator)])
    other = select_points(batch, order, num_points=200)

    def deviation(**options):
        encoder = small(num_samples=(64, 16), **options).double().eval().requires_grad_(False)
        one, two = encoder(batch), encoder(other)
        return float((one.cloud - two.cloud).norm() / one.cloud.norm()), one.point[order] - two.point

    published, _ = deviation(num_neighbors=(4, 8))
    geometric, _ = deviation(num_neighbors=(4, 8), start="farthest")
    # No ball holds more than 200 points, so that nothing depends on the order but rounding.
    exact, point = deviation(start="farthest", num_neighbors=(200, 200))
    assert exact < 1e-12 and float(point.abs().max()) < 1e-12
    assert exact < geometric < published < 1, (geometric, published)


def test_repeated_points_do_not_change_what_the_balls_hold():
    batch, parts = clouds([20], torch.float64)
    twice = make_batch(torch.cat([parts[0], parts[0]]), num_points=40)
    encoder = small(num_neighbors=(64, 64), num_samples=(20, 8)).double().eval()
    torch.testing.assert_close(encoder(twice).cloud, encoder(batch).cloud, rtol=0, atol=1e-12)


def test_one_cloud_of_one_point_cannot_be_trained_on():
    with pytest.raises((CloudError, ValueError), match="single row|more than 1 value"):
        small().train()(Data(pos=torch.zeros(1, 3)))
    features = small().train()(clouds([1, 1, 5], torch.float32)[0])
    assert bool(features.point.isfinite().all()) and bool(features.cloud.isfinite().all())


@pytest.mark.parametrize("train", [True, False])
def test_mixed_precision(train):
    batch, _ = clouds([40, 40], torch.float32)
    encoder = small().train(train)
    exact = encoder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder(batch)
    (mixed.cloud.sum() + mixed.point.sum()).backward()
    assert all(bool(p.grad.isfinite().all()) for p in encoder.parameters())
    assert float((mixed.point - exact.point).detach().norm() / exact.point.detach().norm()) < 0.1


def test_options_are_kept_and_checked():
    options = {"scales": "msg", "num_samples": (9, 3), "start": "farthest", "width": 0.25, "radii": None}
    encoder = PointNet2(**options)
    assert {name: getattr(encoder, name) for name in options} == options
    assert (encoder.point_channels, encoder.cloud_channels) == (160, 256)
    assert pointnet2.DEFAULTS["msg"]["radii"][1] == (0.2, 0.4, 0.8)
    for bad in (
        {"scales": "mrg"},
        {"start": "last"},
        {"num_samples": (4,)},
        {"num_samples": (4, 8)},
        {"radii": (1, 2, 3)},
    ):
        with pytest.raises(ConfigError, match="found|is not"):
            PointNet2(**bad)
    with pytest.raises(ConfigError, match="one entry for each scale"):
        PointNet2(radii=((0.1, 0.2), 0.4))
