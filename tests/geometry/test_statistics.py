"""Statistics of clouds against plain counts."""

import numpy as np
import pytest

from geo3d.geometry import statistics
from geo3d.geometry.statistics import statistics_of


def cloud(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3)).astype(np.float32)


def test_figures_agree_with_plain_ones():
    pos = np.concatenate([cloud(300), cloud(300)[:40], cloud(300)[:10]]) * [1, 2, 3] - 5
    figures = statistics_of(pos)
    assert figures.size == 350 and figures.duplicates == 50
    np.testing.assert_allclose(figures.low, pos.min(0))
    np.testing.assert_allclose(figures.extent, pos.max(0) - pos.min(0))
    different = np.unique(pos, axis=0)
    apart = np.linalg.norm(different[:, None] - different[None], axis=2) + 1e9 * np.eye(300)
    assert figures.spacing == pytest.approx(np.median(apart.min(1)))
    assert figures.density == pytest.approx(1 / (4 * figures.spacing**2))


def test_both_zeros_are_one_place_and_small_differences_are_not():
    pos = np.array([[0.0, 0, 0], [-0.0, 0, 0], [1e-30, 0, 0], [0, 1e-30, 0]])
    assert statistics_of(pos).duplicates == 1


def test_the_spacing_of_a_large_cloud_is_near_that_of_all_points():
    flat = cloud(60_000) * [1, 1, 0]
    whole = statistics_of(flat).spacing
    original, statistics.SAMPLE = statistics.SAMPLE, 5_000
    try:
        assert statistics_of(flat).spacing == pytest.approx(whole, rel=0.05)
    finally:
        statistics.SAMPLE = original


def test_one_point_and_equal_points():
    for count in (1, 5):
        figures = statistics_of(np.ones((count, 3)))
        assert figures.spacing == 0 and figures.duplicates == count - 1 and figures.up == ""
        assert figures.scale == "all points coincide" and figures.density == float("inf")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_floor_says_which_axis_is_upright(axis, sign):
    pos = cloud(3000)
    pos[:1500, axis] *= 0.01
    assert statistics_of(sign * pos).up == "xyz"[axis]
    assert statistics_of(cloud(3000)).up == ""


@pytest.mark.parametrize(
    ("size", "words"),
    [(1, "metres, or scaled to a box"), (6, "may be metres"), (800, "may be millimetres"), (1e-6, "not clear")],
)
def test_the_size_suggests_a_unit(size, words):
    assert words in statistics_of(size * cloud(50)).scale
    ball = cloud(500) - 0.5
    ball = np.concatenate([ball, -ball])
    assert "unit sphere" in statistics_of(ball / np.linalg.norm(ball, axis=1).max()).scale


def test_huge_coordinates_do_not_overflow():
    with np.errstate(all="raise"):
        assert "not clear" in statistics_of(cloud(50) * np.float32(1e30)).scale
