import pytest
import torch

from geo3d import seeds
from geo3d.invariance import ColorDrop, ColorJitter
from geo3d.testing import tiny_batch

sizes = pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])


@sizes
def test_colors_are_multiplied_shifted_and_kept_between_0_and_1(sizes):
    batch = tiny_batch(num_points=sizes)
    change, out = ColorJitter(brightness=0.5, tint=0.2, noise=0.1).draw(batch, seeds.generator(0))
    expected = torch.stack(
        [
            (batch.rgb[row] * change.gain[cloud] + change.shift[cloud] + change.noise[row]).clamp(0, 1)
            for row, cloud in enumerate(batch.batch.tolist())
        ]
    )
    torch.testing.assert_close(out.rgb, expected)
    assert torch.equal(out.pos, batch.pos) and not torch.equal(out.rgb, batch.rgb)
    assert bool((change.gain == change.gain[:, :1]).all()) and 0.5 <= change.gain.min() <= change.gain.max() <= 1.5
    assert change.shift.abs().max() <= 0.2


def test_amounts_are_those_told():
    batch = tiny_batch(num_points=[1] * 3000)
    change = ColorJitter(brightness=0.5, tint=0.2, noise=0.1).sample(batch, seeds.generator(0))
    assert float(change.noise.std()) == pytest.approx(0.1, rel=0.05)
    assert float(change.gain.std()) == pytest.approx(1 / 12**0.5, rel=0.05)
    assert float(change.shift.std()) == pytest.approx(0.4 / 12**0.5, rel=0.05)
    nothing = ColorJitter(brightness=0, tint=0, noise=0)(batch, seeds.generator(0))
    torch.testing.assert_close(nothing.rgb, batch.rgb.clamp(0, 1))


@sizes
def test_dropped_colors_are_grey_and_others_stay(sizes):
    batch = tiny_batch(num_points=sizes)
    dropped, out = ColorDrop(0.5).draw(batch, seeds.generator(1))
    for row, cloud in enumerate(batch.batch.tolist()):
        assert torch.equal(out.rgb[row], torch.full((3,), 0.5) if dropped[cloud] else batch.rgb[row])


def test_the_probability_is_that_of_a_cloud():
    batch = tiny_batch(num_points=[2] * 3000)
    assert float(ColorDrop(0.3).sample(batch, seeds.generator(0)).float().mean()) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("invariance", [ColorJitter(), ColorDrop(1.0)], ids=repr)
def test_clouds_without_colors_and_generators_are_left_alone(invariance):
    batch = tiny_batch(num_points=[3, 5])
    del batch.rgb
    assert "rgb" not in invariance(batch, seeds.generator(0))
    colored = tiny_batch(num_points=[3, 5], dtype=torch.float64)
    before, state = colored.rgb.clone(), torch.get_rng_state()
    first, second = (invariance(colored, seeds.generator(5)).rgb for _ in range(2))
    assert torch.equal(first, second) and first.dtype == before.dtype
    assert torch.equal(colored.rgb, before) and torch.equal(state, torch.get_rng_state())
