import math

import pytest
import torch

from geo3d import seeds
from geo3d.invariance import Tilt
from geo3d.testing import tiny_batch


@pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])
def test_a_tilt_is_a_rotation_about_a_horizontal_axis_by_a_small_angle(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    matrix, out = Tilt(20.0).draw(batch, seeds.generator(0))
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.mT, eye.expand_as(matrix))
    assert bool((torch.linalg.det(matrix) > 0).all())
    for turn, own in zip(matrix, range(len(matrix)), strict=True):
        rows = batch.batch == own
        torch.testing.assert_close(out.pos[rows], batch.pos[rows] @ turn.T)
        torch.testing.assert_close(out.normal[rows], batch.normal[rows] @ turn.T)
        axis = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
        assert float(axis[2]) == pytest.approx(0, abs=1e-12)  # horizontal


def test_angles_are_uniform_up_to_the_largest():
    batch = tiny_batch(num_points=[1] * 4000, dtype=torch.float64)
    angles = Tilt(20.0).sample(batch, seeds.generator(0))[:, 2, 2].clamp(max=1).acos() * 180 / math.pi
    assert float(angles.max()) <= 20 and float(angles.mean()) == pytest.approx(10, abs=0.4)
    directions = Tilt(20.0).sample(batch, seeds.generator(1))[:, :2, 2].sign().mean(0)
    assert directions.abs().max() < 0.06
    assert torch.equal(Tilt(0.0)(batch, seeds.generator(0)).pos, batch.pos)
