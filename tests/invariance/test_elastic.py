import math

import pytest
import torch

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.invariance import Elastic
from geo3d.testing import tiny_batch


@pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])
def test_each_point_is_shifted_by_the_sum_of_its_clouds_waves(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    waves, out = Elastic(std=0.1, wavelength=0.5, waves=3).draw(batch, seeds.generator(0))
    for row in range(len(batch.pos)):
        cloud, shift = int(batch.batch[row]), torch.zeros(3, dtype=torch.float64)
        for w in range(3):
            at = float(batch.pos[row] @ waves.vector[cloud, w] + waves.phase[cloud, w])
            shift += math.sin(at) * waves.shift[cloud, w]
        torch.testing.assert_close(out.pos[row], batch.pos[row] + shift)


def test_the_std_over_space_and_the_wavelengths_are_as_told():
    pos = torch.rand(400, 3, generator=seeds.generator("pos"), dtype=torch.float64) * 30
    batch = make_batch(pos.repeat(40, 1), num_points=400)
    elastic = Elastic(std=0.2, wavelength=1.5)
    waves, out = elastic.draw(batch, seeds.generator(0))
    shift = out.pos - batch.pos
    assert shift.mean().abs() < 0.01
    assert (shift.std(0) - 0.2).abs().max() < 0.02
    length = 2 * math.pi / waves.vector.norm(dim=2)
    assert float(length.min()) >= 1.5 and float(length.max()) <= 3.0


def test_neighbors_move_together():
    near = torch.tensor([[0.0, 0, 0], [0.01, 0, 0]], dtype=torch.float64)
    batch = make_batch(near.repeat(50, 1), num_points=2)
    shift = (Elastic(std=0.1, wavelength=1.0)(batch, seeds.generator(0)).pos - batch.pos).view(50, 2, 3)
    assert (shift[:, 0] - shift[:, 1]).norm(dim=1).max() < 0.02 < shift.norm(dim=2).mean()
