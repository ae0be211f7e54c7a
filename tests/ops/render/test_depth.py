import math

import pytest
import torch

from geo3d import seeds
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.render.depth import depth_image

BUILDS = [*native.builds(), None]
CAMERA = {"focal": (30.0, 33.0), "center": (19.5, 13.25)}


def switched(build):
    return native.using(build) if build else native.disabled()


def triangles(number=60, spread=1.0):
    """Around the camera: in front of it, behind it, and across."""
    draw = seeds.generator(0, "depth")
    middle = torch.randn(number, 1, 3, generator=draw) * spread + torch.tensor([0, 0, 1.0])
    return middle + torch.randn(number, 3, 3, generator=draw) * 0.5


def met(p, ray):
    """Depth at which a ray meets one triangle, by solving p0 + s (p1 - p0) + t (p2 - p0) = z ray."""
    p = p.double()
    columns = torch.stack([p[1] - p[0], p[2] - p[0], -ray], 1)
    if abs(float(torch.linalg.det(columns))) < 1e-12:
        return math.inf
    s, t, z = torch.linalg.solve(columns, -p[0]).tolist()
    return z if s >= 0 and t >= 0 and s + t <= 1 and z > 0 else math.inf


@pytest.mark.parametrize("build", BUILDS)
def test_depths_of_rays_that_meet_triangles_one_by_one(build):
    corner, (fx, fy), (cx, cy) = triangles(), *CAMERA.values()
    with switched(build):
        depth, face = depth_image(corner, 28, 40, **CAMERA)
    seen = 0
    for v in range(0, 28, 3):
        for u in range(0, 40, 3):
            ray = torch.tensor([(u - cx) / fx, (v - cy) / fy, 1.0], dtype=torch.float64)
            each = [met(p, ray) for p in corner]
            nearest = min(each)
            assert (face[v, u] < 0) == math.isinf(nearest)
            if nearest < math.inf:
                seen += 1
                assert float(depth[v, u]) == pytest.approx(nearest, rel=1e-5)
                assert int(face[v, u]) == each.index(nearest)
            else:
                assert depth[v, u] == 0
    assert 50 < seen < 140


@pytest.mark.parametrize("build", native.builds())
@pytest.mark.parametrize("spread", [0.3, 4.0])
def test_the_kernel_gives_the_bits_of_the_reference(build, spread):
    corner = triangles(300, spread)
    with native.disabled():
        expected = depth_image(corner, 53, 37, **CAMERA)
    with native.using(build):
        depth, face = depth_image(corner, 53, 37, **CAMERA)
    assert torch.equal(depth, expected[0]) and torch.equal(face, expected[1])


@pytest.mark.parametrize("build", native.builds())
def test_same_picture_on_any_number_of_threads(build):
    corner, threads, pictures = triangles(), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with native.using(build):
                pictures.append(depth_image(corner, 50, 40, **CAMERA)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[0], pictures[2])


@pytest.mark.parametrize("build", BUILDS)
def test_neighboring_triangles_leave_no_gap(build):
    """A plane of 800 triangles through the whole image: every pixel is seen, at the plane's depth."""
    line = torch.linspace(-3, 3, 21)
    x, y = torch.meshgrid(line, line, indexing="xy")
    grid = torch.stack([x, y, 2 + 0.2 * x - 0.1 * y], 2)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    corner = torch.cat([torch.stack([a, b, c], 2), torch.stack([a, c, d], 2)]).reshape(-1, 3, 3)
    with switched(build):
        depth, face = depth_image(corner, 60, 60, focal=(60.0, 60.0), center=(29.0, 31.0))
    u = (torch.arange(60.0) - 29) / 60
    v = ((torch.arange(60.0) - 31) / 60)[:, None]
    assert bool((face >= 0).all())
    torch.testing.assert_close(depth, 2 / (1 - 0.2 * u + 0.1 * v), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", BUILDS)
def test_of_equal_depths_the_first_triangle_counts_and_flat_ones_are_not_seen(build):
    big = torch.tensor([[-9.0, -9.0, 2.0], [9.0, -9.0, 2.0], [0.0, 9.0, 2.0]])
    flat = torch.tensor([[-9.0, 0.0, 1.0], [9.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    with switched(build):
        depth, face = depth_image(torch.stack([flat, big, big]), 3, 3, focal=(3.0, 3.0), center=(1.0, 1.0))
        nothing = depth_image(torch.zeros(0, 3, 3), 3, 3, focal=(3.0, 3.0), center=(1.0, 1.0))
    assert face.unique().tolist() == [1] and depth.unique().tolist() == [2.0]
    assert nothing[0].unique().tolist() == [0.0] and nothing[1].unique().tolist() == [-1]


@pytest.mark.parametrize(
    ("corner", "options"),
    [
        (torch.zeros(2, 3), {}),
        (torch.zeros(2, 3, 3, dtype=torch.int64), {}),
        (torch.zeros(2, 3, 3), {"height": 0}),
        (torch.zeros(2, 3, 3), {"focal": (0.0, 1.0)}),
        (torch.zeros(2, 3, 3), {"center": (math.nan, 1.0)}),
    ],
)
def test_what_makes_no_picture_is_refused(corner, options):
    with pytest.raises(CloudError, match="depth_image"):
        depth_image(corner, **{"height": 3, "width": 3, **CAMERA, **options})
