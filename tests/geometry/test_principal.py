"""Principal axes: they turn with the cloud, and normalised clouds do not turn at all."""

import pytest
import torch
from torch_geometric.data import Data

from geo3d.cloud import make_batch
from geo3d.data.prepared import prepare
from geo3d.geometry.frame import to_source
from geo3d.geometry.normalize import normalized
from geo3d.geometry.principal import principal_axes, sign_choices
from geo3d.geometry.rotation import random_rotations, rotate
from geo3d.seeds import generator

SIZES = ([40, 40, 40], [40, 25, 60])


def clouds(sizes, dtype=torch.float64):
    """Clouds with three different variances that reach farther to one side."""
    draw = generator("principal")
    pos = torch.rand(sum(sizes), 3, generator=draw, dtype=dtype) ** 3 * torch.tensor([3.0, 2.0, 1.0], dtype=dtype)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    normal = torch.nn.functional.normalize(torch.randn(sum(sizes), 3, generator=draw, dtype=dtype), dim=1)
    joints = torch.rand(len(sizes), 5, 3, generator=draw, dtype=dtype)
    layout = {"num_points": sizes[0]} if len(set(sizes)) == 1 else {"ptr": ptr}
    return make_batch(pos, normal=normal, joints=joints, **layout)


@pytest.mark.parametrize("sizes", SIZES)
def test_axes_by_a_plain_loop(sizes):
    batch = clouds(sizes)
    for cloud in range(len(sizes)):
        mine = slice(int(batch.ptr[cloud]), int(batch.ptr[cloud + 1]))
        batch.pos[mine] -= batch.pos[mine].mean(0)
        axes = principal_axes(batch.pos, batch)[cloud]
        torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=axes.dtype))
        assert float(torch.linalg.det(axes)) == pytest.approx(1)
        along = batch.pos[mine] @ axes.T
        moments = along.T @ along
        assert float((moments - moments.diag().diag()).abs().max()) < 1e-9
        assert moments[0, 0] > moments[1, 1] > moments[2, 2]
        assert bool((along[:, :2].pow(3).sum(0) > 0).all())


@pytest.mark.parametrize("sizes", SIZES)
def test_turned_clouds_are_normalised_to_the_same(sizes):
    batch = clouds(sizes)
    turned = rotate(random_rotations(3, generator("turn"), torch.float64), batch)
    turned.pos, turned.joints = 2 * turned.pos + 5, 2 * turned.joints + 5
    first, second = normalized(batch, "oriented_box"), normalized(turned, "oriented_box")
    for name in ("pos", "joints", "normal"):
        torch.testing.assert_close(first[name], second[name])
    for cloud in range(3):
        mine = first.pos[int(first.ptr[cloud]) : int(first.ptr[cloud + 1])]
        low, high = mine.amin(0), mine.amax(0)
        torch.testing.assert_close(low, -high)
        assert float(high.max()) == pytest.approx(1)


def test_prepared_clouds_know_the_way_back():
    batch = clouds([30])
    cloud = Data(pos=batch.pos + 4, joints=batch.joints[0] + 4)
    pose = random_rotations(1, generator("pose"), torch.float64)[0]
    for turn in (None, pose):
        seen = prepare(cloud, "a", None, "oriented_box", torch.Generator(), turn)
        torch.testing.assert_close(to_source(seen.pos, seen.frame), cloud.pos, atol=1e-5, rtol=0)
        torch.testing.assert_close(to_source(seen.joints, seen.frame), cloud.joints, atol=1e-5, rtol=0)
        assert float(seen.pos.abs().max()) == pytest.approx(1, abs=1e-5)


def test_choices_of_signs_are_the_rotations_among_them():
    choices = sign_choices(torch.zeros(1))
    assert len(choices.unique(dim=0)) == 4 and torch.equal(choices[0], torch.eye(3))
    torch.testing.assert_close(torch.linalg.det(choices), torch.ones(4))
