import torch

from geo3d import seeds
from geo3d.geometry.camera import back_project, looking, neighbor_range, shifted, to_camera, to_world


def test_points_of_pixels_by_a_plain_loop():
    depth = torch.rand(5, 7, generator=seeds.generator("depth"), dtype=torch.float64)
    points = back_project(depth, (3.0, 4.0), (2.5, 1.5))
    for v in range(5):
        for u in range(7):
            z = float(depth[v, u])
            expected = torch.tensor([(u - 2.5) / 3 * z, (v - 1.5) / 4 * z, z], dtype=torch.float64)
            torch.testing.assert_close(points[v, u], expected)


def test_poses_look_at_their_target_upright():
    draw = seeds.generator("poses")
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
        torch.testing.assert_close(to_world(torch.zeros(3, dtype=torch.float64), pose), eye)


def test_neighbors_of_pixels_by_a_plain_loop():
    image = torch.randn(6, 5, generator=seeds.generator("image"))
    low, high = neighbor_range(image)
    for v in range(6):
        for u in range(5):
            around = image[max(0, v - 1) : v + 2, max(0, u - 1) : u + 2]
            assert low[v, u] == around.min() and high[v, u] == around.max()


def test_places_beside_a_pixel_stay_in_the_image():
    offset = torch.zeros(2, 3, 4)
    offset[0], offset[1, 0, 0] = 1.2, 9.0
    place = shifted(offset)
    assert place[1].tolist() == [5, 6, 7, 7] and int(place[0, 0]) == 2 * 4 + 1
