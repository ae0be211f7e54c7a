import pytest
import torch
from scipy.stats import kstest, norm

from geo3d import seeds
from geo3d.invariance import Jitter
from geo3d.testing import tiny_batch


def test_jitter_is_clipped_normal_noise_and_nothing_else():
    batch = tiny_batch(num_points=2000, dtype=torch.float64)
    noise, out = Jitter(std=0.02, clip=0.03).draw(batch, seeds.generator(0))
    assert torch.equal(out.pos, batch.pos + noise) and torch.equal(out.normal, batch.normal)
    assert noise.abs().max() == 0.03
    inside = noise[noise.abs() < 0.03].numpy() / 0.02
    low, high = norm.cdf([-1.5, 1.5])
    assert kstest(inside, lambda x: (norm.cdf(x) - low) / (high - low)).pvalue > 0.01
    assert (noise.abs() == 0.03).double().mean().item() == pytest.approx(2 * low, abs=0.01)
