import copy

import pytest
import torch
from support import reference_pointnet as reference
from support.rounding import assert_as_near
from torch_geometric.data import Data

from geo3d import seeds
from geo3d.cloud import make_batch, select_points
from geo3d.encoders.pointnet import PointNet, orthogonality, point_inputs, published_state
from geo3d.errors import CloudError, ConfigError


def clouds(sizes, dtype=torch.float64, channels=3):
    x = torch.randn(sum(sizes), channels, generator=seeds.generator(0, "clouds"), dtype=dtype)
    extra = {"x": x[:, 3:]} if channels > 3 else {}
    return make_batch(x[:, :3].clone(), ptr=torch.tensor([0, *sizes]).cumsum(0), **extra), list(x.split(sizes))


def pair(dtype=torch.float64, in_channels=3, feature_transform=True):
    """The published network with random statistics and signs of the scales, and ours with its weights."""
    with seeds.seeded(0, "weights"):
        theirs = reference.PublishedPointNet(5, in_channels, feature_transform).to(dtype)
        for name, value in theirs.state_dict().items():
            if "bn" in name and value.is_floating_point():
                value.uniform_(0.5, 1.5)
                if name.endswith(".weight"):
                    value.mul_(torch.where(torch.rand(value.shape) < 0.3, -1.0, 1.0))
    keywords, state = published_state(theirs.state_dict())
    ours = PointNet(**keywords).to(dtype)
    ours.load_state_dict(state)
    return theirs, ours


@pytest.mark.parametrize("sizes", [[16, 16, 16, 16], [16, 5, 1, 11]])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("in_channels, feature_transform", [(3, True), (6, False)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_is_the_published_function(sizes, train, in_channels, feature_transform, dtype, tolerance):
    theirs, ours = pair(dtype, in_channels, feature_transform)
    assert ours.feature_transform is feature_transform and ours.in_channels == in_channels
    batch, parts = clouds(sizes, dtype, in_channels)
    exactly = copy.deepcopy(theirs).double().feat.train(train)
    cloud, point = theirs.feat.train(train)(parts)
    found = ours.train(train)(batch)
    # In training the transforms' norms see four rows, which brings rounding forward.
    scale = tolerance * (1 + float(cloud.detach().abs().max())) * (10 if train else 1)
    exact = exactly([part.double() for part in parts])
    assert_as_near(found.cloud, cloud, exact[0], scale)
    assert_as_near(found.point, point, exact[1], scale)

    generator = seeds.generator(0, "ask")
    ask = [torch.randn(x.shape, generator=generator, dtype=dtype) for x in (cloud, point)]
    ((cloud * ask[0]).mean() + (point * ask[1]).mean()).backward()
    ((found.cloud * ask[0]).mean() + (found.point * ask[1]).mean()).backward()
    sum((x * each.double()).mean() for x, each in zip(exact[:2], ask, strict=True)).backward()
    _, exact = published_state({f"feat.{name}": value.grad for name, value in exactly.named_parameters()})
    wanted = {f"feat.{name}": value.grad for name, value in theirs.feat.named_parameters()}
    _, wanted = published_state(wanted | {f"feat.{name}": value for name, value in theirs.feat.named_buffers()})
    have = {name: value.grad for name, value in ours.named_parameters()} | dict(ours.named_buffers())
    assert wanted.keys() == have.keys()
    for name in have:
        layer = wanted[name.removesuffix("bias") + "weight"] if "bias" in name else wanted[name]
        atol = 10 * tolerance * (1 + float(layer.abs().max()))
        if name in exact:  # two sums in float32 may be apart by what each of them is from the exact one, several times
            atol = max(atol, 8 * float((wanted[name] - exact[name]).abs().max()))
        torch.testing.assert_close(have[name], wanted[name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def test_number_of_parameters():
    # The layer lists are those of pointnet_utils.py and pointnet_cls.py in Pointnet_Pointnet2_pytorch, with 40
    # classes and no normals. A layer followed by a norm has a weight, a bias and the two vectors of the norm.
    normed = [[3, 64, 128, 1024]]
    plain = []
    for channels, size in ((3, 3), (64, 64)):
        normed += [[channels, 64, 128, 1024, 512, 256]]
        plain += [(256, size * size)]
    count = sum(a * b + 3 * b for m in normed for a, b in zip(m[:-1], m[1:], strict=True))
    count += sum(a * b + b for a, b in plain)
    assert sum(p.numel() for p in PointNet().parameters()) == count
    head = 1024 * 512 + 3 * 512 + 512 * 256 + 3 * 256 + 256 * 40 + 40
    assert round((count + head) / 1e6, 1) == 3.5
    assert sum(p.numel() for p in reference.PublishedPointNet().parameters()) == count + head


def test_order_and_repetition_of_the_points_do_not_matter():
    with seeds.seeded(0, "encoder"):
        encoder = PointNet(embedding=64, width=0.25).double().eval()
    batch, _ = clouds([20, 9])
    generator = seeds.generator(0, "order")
    order = torch.cat([torch.randperm(20, generator=generator), 20 + torch.randperm(9, generator=generator)])
    other = encoder(select_points(batch, order, ptr=batch.ptr))
    same = encoder(batch)
    torch.testing.assert_close(other.cloud, same.cloud, rtol=0, atol=1e-12)
    torch.testing.assert_close(other.point, same.point[order], rtol=0, atol=1e-12)
    again = torch.arange(29).repeat_interleave(2)
    torch.testing.assert_close(encoder(select_points(batch, again, ptr=2 * batch.ptr)).cloud, same.cloud)


def test_a_single_cloud_and_a_single_point():
    with seeds.seeded(0, "encoder"):
        encoder = PointNet(embedding=64, width=0.25).eval()
    batch, parts = clouds([20, 1], torch.float32)
    together = encoder(batch)
    for b, part in enumerate(parts):
        torch.testing.assert_close(encoder(Data(pos=part)).cloud[0], together.cloud[b], rtol=1e-5, atol=1e-6)


def test_transforms_can_be_switched_off():
    bare = PointNet(input_transform=False, feature_transform=False, width=0.5, embedding=7)
    assert (bare.point_channels, bare.cloud_channels) == (32, 7)
    assert sum(p.numel() for p in bare.parameters()) == 3 * 32 + 32 * 64 + 64 * 7 + 3 * (32 + 64 + 7)
    features, matrix = bare(clouds([4, 4], torch.float32)[0]), bare.with_matrix(clouds([4, 4], torch.float32)[0])[1]
    assert matrix is None and features.cloud.shape == (2, 7)


def test_orthogonality():
    turn = torch.linalg.qr(torch.randn(3, 5, 5, generator=seeds.generator(0, "turn"), dtype=torch.float64)).Q
    assert float(orthogonality(turn)) < 1e-12
    assert float(orthogonality(2 * turn)) == pytest.approx(3 * 5**0.5)
    with seeds.seeded(0, "encoder"):
        features, matrix = PointNet(width=0.25).with_matrix(clouds([8, 8], torch.float32)[0])
    assert matrix.shape == (2, 16, 16) and orthogonality(matrix).requires_grad


def test_bad_options_and_missing_channels():
    for bad in ({"embedding": 0}, {"in_channels": 2}, {"width": 0.0}):
        with pytest.raises(ConfigError, match=r"^PointNet\.\w+: .* is not an? "):
            PointNet(**bad)
    with pytest.raises(CloudError, match="in_channels=3 "):
        PointNet(in_channels=6, width=0.25)(clouds([4, 4], torch.float32)[0])
    assert published_state({"sa1.mlp_convs.0.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("name", ["x", "normal"])
def test_channels_that_are_nan_are_refused_by_name(name: str):
    extra = torch.zeros(6, 3)
    extra[2:4, 1] = torch.nan
    batch = make_batch(torch.randn(6, 3), num_points=3, **{name: extra})
    assert point_inputs(batch, 3).equal(batch.pos)  # nobody reads them
    with pytest.raises(CloudError, match=f"2 of 6 points have NaN or infinite '{name}', which in_channels=6 reads"):
        point_inputs(batch, 6)
