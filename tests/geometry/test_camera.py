import pytest
import torch

from geo3d.errors import CloudError
from geo3d.geometry.camera import (
    backproject,
    check_size,
    is_rigid,
    looking,
    nearest_pixels,
    pinhole,
    project,
    resized,
    rigid,
    to_camera,
    to_world,
)

K = torch.tensor([[577.87, 0, 3.2, 0], [0, 579.1, 2.4, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)


def pose():
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = q * torch.linalg.det(q).sign(), torch.tensor([1.0, -2.0, 3.0])
    return matrix


def test_points_are_those_of_a_loop_over_the_pixels():
    depth = torch.rand(6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    depth[2, 3] = depth[0, 7] = 0
    expected, where = [], []
    for v in range(6):
        for u in range(8):
            if (z := float(depth[v, u])) > 0:
                ray = torch.linalg.solve(K[:3, :3], torch.tensor([u, v, 1.0], dtype=torch.float64))
                expected.append((pose() @ torch.cat([ray * z, ray.new_ones(1)]))[:3])
                where.append([u, v])
    pos, pixels = backproject(depth, K)
    torch.testing.assert_close(to_world(pos, pose()), torch.stack(expected), rtol=0, atol=1e-12)
    assert pixels.tolist() == where and len(pos) == 46
    torch.testing.assert_close(project(pos, K), pixels.double(), rtol=0, atol=1e-9)
    assert backproject(depth.float(), K)[0].dtype == torch.float32


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_depths_that_cannot_be_are_refused(wrong):
    depth = torch.ones(2, 2)
    depth[1, 0] = wrong
    with pytest.raises(CloudError, match="expected depths from 0 on, found negative, NaN or infinite ones"):
        backproject(depth, K)


def test_matrices_that_are_no_camera_are_refused():
    for row, column, value in ((0, 0, 0.0), (1, 1, -5.0), (0, 1, 2.0), (0, 2, torch.nan), (2, 2, 2.0)):
        matrix = K.clone()
        matrix[row, column] = value
        with pytest.raises(CloudError, match="expected a camera matrix"):
            pinhole(matrix)
    with pytest.raises(CloudError, match="expected a camera matrix"):
        pinhole(torch.eye(2))


def test_points_behind_the_camera_have_no_pixel():
    places = project(torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]]), torch.eye(3))
    assert bool(places.isnan().all())
    assert nearest_pixels(places, 4, 4)[1].tolist() == [False, False]


def test_pixels_reach_half_a_pixel_around_their_centre():
    places = torch.tensor([[-0.5, 0.0], [-0.51, 0.0], [0.49, 0.5], [3.49, 2.4], [3.5, 2.4], [1.0, 2.5]])
    pixels, inside = nearest_pixels(places, 4, 3)
    assert inside.tolist() == [True, False, True, True, False, False]
    assert pixels[inside].tolist() == [[0, 0], [0, 1], [3, 2]]


def test_the_matrix_of_another_image_is_refused():
    matrix = torch.tensor([[1170.0, 0, 647.75], [0, 1170.0, 483.75], [0, 0, 1]])
    check_size(matrix, 1296, 968)
    with pytest.raises(CloudError, match="that of an image of about 1296x968 pixels, the image has 640x480"):
        check_size(matrix, 640, 480)
    check_size(resized(matrix, (1296, 968), (640, 480)), 640, 480)
    with pytest.raises(CloudError, match="expected an image of the shape 1296x968, found 640x640"):
        resized(matrix, (1296, 968), (640, 640))


def test_a_resized_image_shows_the_same_points_at_the_same_place():
    matrix = torch.tensor([[8.0, 0, 3.5], [0, 8.0, 2.5], [0, 0, 1]])
    points = torch.tensor([[0.2, -0.1, 2.0], [-0.5, 0.3, 3.0]])
    fine, coarse = project(points, resized(matrix, (8, 6), (16, 12))), project(points, matrix)
    torch.testing.assert_close((fine + 0.5) / 2, coarse + 0.5)


def test_only_rotations_with_a_shift_are_poses():
    rounded = (pose() * 1e4).round() / 1e4
    assert is_rigid(rounded) and is_rigid(pose().float())
    mirrored, scaled, sheared, row = (pose() for _ in range(4))
    mirrored[:3, 0] *= -1
    scaled[:3, :3] *= 1.01
    sheared[0, 1] += 0.1
    row[3, 0] = 1
    nothing = [torch.zeros(4, 4), torch.full((4, 4), -torch.inf), torch.full((4, 4), torch.nan), torch.eye(3)]
    for wrong in (mirrored, scaled, sheared, row, *nothing):
        assert not is_rigid(wrong)
        with pytest.raises(CloudError, match="expected a pose that is a rotation and a shift"):
            rigid(wrong)
    exact = rigid(rounded)
    torch.testing.assert_close(exact[:3, :3] @ exact[:3, :3].T, torch.eye(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(exact, pose(), rtol=0, atol=1e-4)


def test_poses_look_at_their_target_upright():
    draw = torch.Generator().manual_seed(7)
    for _ in range(20):
        eye, target = (torch.randn(3, generator=draw, dtype=torch.float64) for _ in range(2))
        pose = looking(eye, target)
        turn = pose[:3, :3]
        torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
        assert float(torch.linalg.det(turn)) > 0
        ahead = to_camera(target, pose)
        assert float(ahead[:2].abs().max()) < 1e-12 and float(ahead[2]) > 0
        assert abs(float(turn[2, 0])) < 1e-12 and float(turn[2, 1]) < 0  # right is level, down is down
        points = torch.randn(4, 3, generator=draw, dtype=torch.float64)
        torch.testing.assert_close(to_camera(to_world(points, pose), pose), points)
        torch.testing.assert_close(to_world(torch.zeros(1, 3, dtype=torch.float64), pose)[0], eye)
