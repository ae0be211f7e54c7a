import pytest
import torch

from geo3d import seeds
from geo3d.geometry.depth_image import bend, grown, neighbor_range, pixel_points, shifted


def test_points_of_pixels_by_a_plain_loop():
    depth = torch.rand(5, 7, generator=seeds.generator("depth"), dtype=torch.float64)
    points = pixel_points(depth, (3.0, 4.0), (2.5, 1.5))
    for v in range(5):
        for u in range(7):
            z = float(depth[v, u])
            expected = torch.tensor([(u - 2.5) / 3 * z, (v - 1.5) / 4 * z, z], dtype=torch.float64)
            torch.testing.assert_close(points[v, u], expected)


def test_neighbors_of_pixels_by_a_plain_loop():
    image = torch.randn(6, 5, generator=seeds.generator("image"))
    low, high = neighbor_range(image)
    for v in range(6):
        for u in range(5):
            around = image[max(0, v - 1) : v + 2, max(0, u - 1) : u + 2]
            assert low[v, u] == around.min() and high[v, u] == around.max()


@pytest.mark.parametrize("reach", [1, 2, 9])
def test_masks_grow_by_squares(reach):
    mask = torch.rand(7, 9, generator=seeds.generator("mask")) < 0.05
    wide = grown(mask, reach)
    for v in range(7):
        for u in range(9):
            around = mask[max(0, v - reach) : v + reach + 1, max(0, u - reach) : u + reach + 1]
            assert bool(wide[v, u]) == bool(around.any())


def test_places_beside_a_pixel_stay_in_the_image():
    offset = torch.zeros(2, 3, 4)
    offset[0], offset[1, 0, 0] = 1.2, 9.0
    place = shifted(offset)
    assert place[1].tolist() == [5, 6, 7, 7] and int(place[0, 0]) == 2 * 4 + 1


def test_bends_by_a_plain_loop_and_on_a_plane():
    image = torch.randn(6, 5, generator=seeds.generator("image"))
    out = bend(image)
    for v in range(6):
        for u in range(5):
            along = abs(image[v, u - 1] + image[v, u + 1] - 2 * image[v, u]) if 0 < u < 4 else 0.0
            down = abs(image[v - 1, u] + image[v + 1, u] - 2 * image[v, u]) if 0 < v < 5 else 0.0
            assert float(out[v, u]) == float(max(along, down))
    u, v = torch.arange(5.0), torch.arange(6.0)[:, None]
    assert float(bend(0.3 + 0.1 * u - 0.2 * v).max()) < 1e-6
