"""Frames lead back to the source through every function that changes coordinates for good."""

import pytest
import torch
from torch_geometric.data import Data

from geo3d import seeds
from geo3d.errors import CloudError
from geo3d.geometry.frame import frame_of, placed, rescaled, similarity, to_source, turned
from geo3d.geometry.rotation import random_rotations
from geo3d.io.axes import z_up


def cloud() -> Data:
    return Data(
        pos=torch.randn(20, 3, generator=seeds.generator(0), dtype=torch.float64),
        normal=torch.eye(3, dtype=torch.float64).repeat(7, 1)[:20],
        joints=torch.randn(1, 4, 3, generator=seeds.generator(1), dtype=torch.float64),
    )


def test_a_similarity_maps_points():
    rotation = random_rotations(1, seeds.generator(0), torch.float64)[0]
    matrix = similarity(2 * rotation, torch.tensor([1.0, 2, 3]))
    points = cloud().pos
    expected = 2 * points @ rotation.T + torch.tensor([1.0, 2, 3])
    torch.testing.assert_close(to_source(points, matrix), expected)
    assert matrix.dtype == torch.float64 and matrix[3].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("first", ["turned", "rescaled"])
def test_points_and_joints_go_home(first, up):
    source = cloud()
    rotation = random_rotations(1, seeds.generator(5), torch.float64)[0]
    steps = [lambda data: turned(data, rotation), lambda data: rescaled(data, torch.ones(3), torch.tensor(0.3))]
    moved = z_up(source, up)
    for step in steps if first == "turned" else steps[::-1]:
        moved = step(moved)
    assert not torch.allclose(moved.pos, source.pos)
    torch.testing.assert_close(to_source(moved.pos, moved.frame), source.pos)
    torch.testing.assert_close(to_source(moved.joints[0], moved.frame), source.joints[0])
    torch.testing.assert_close(moved.normal @ moved.frame[:3, :3].T / 0.3, source.normal)
    assert "frame" not in source and frame_of(source).equal(torch.eye(4, dtype=torch.float64))


def test_a_cloud_that_was_z_up_is_the_same_one():
    data = cloud()
    assert z_up(data, "z") is data and "frame" not in data


def test_what_is_no_rotation_is_refused():
    cloud = Data(pos=torch.zeros(3, 3))
    rounded = torch.tensor([[0.707, -0.707, 0.0], [0.707, 0.707, 0.0], [0.0, 0.0, 1.0]])
    for matrix in (rounded, 2 * torch.eye(3), torch.full((3, 3), float("nan"))):
        with pytest.raises(CloudError, match="expected a rotation"):
            turned(cloud, matrix)


@pytest.mark.parametrize("up", ["y", "z"])
def test_placed_is_turned_then_rescaled(up):
    source = cloud()
    source.flow = source.pos.flip(0)
    rotation, center, scale = (
        random_rotations(1, seeds.generator(5), torch.float64)[0],
        torch.ones(3),
        torch.tensor(0.3),
    )
    before = z_up(source, up)
    made, expected = placed(before, rotation, center, scale), rescaled(turned(before, rotation), center, scale)
    for name in ("pos", "normal", "joints", "flow"):
        assert torch.equal(made[name], expected[name])
    torch.testing.assert_close(made.frame, expected.frame)
    torch.testing.assert_close(to_source(made.pos, made.frame), source.pos)
