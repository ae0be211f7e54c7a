"""Points of depth pictures, and the cube around a hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.hand_files import slow_points

from geo3d.data.hands.from_depth import Camera, check_camera, cloud_of_depth, cropped, hand_cloud, metres, nearest_mass
from geo3d.errors import CloudError
from geo3d.seeds import generator

CAMERA = Camera(30.0, 25.0, 9.5, 4.0)


def picture(seed=0):
    """(12, 20) float32 metres with holes."""
    depth = torch.rand(12, 20, generator=generator(seed, "depth")) + 0.3
    return (1000 * depth).round() / 1000 * (torch.rand(12, 20, generator=generator(seed, "holes")) > 0.3)


def test_points_are_those_of_a_slow_loop():
    depth = picture()
    pos = cloud_of_depth(depth, CAMERA, "a.png")
    assert pos.dtype == torch.float32 and 120 < len(pos) < 200
    expected = slow_points(1000 * depth.double().numpy(), CAMERA)
    torch.testing.assert_close(pos.double(), expected, rtol=0, atol=1e-6)
    right, below = cloud_of_depth(torch.eye(2), Camera(1.0, 1.0, 0.0, 0.0), "a.png").tolist()
    assert right == [0, 0, 1] and below == [1, 1, 1]  # x right, y down, z forward


@pytest.mark.parametrize(
    ("camera", "numbers"),
    [
        (Camera(float("nan"), 25.0, 9.5, 4.0), "fx nan, fy 25, cx 9.5, cy 4"),
        (Camera(30.0, 0.0, 9.5, 4.0), "fx 30, fy 0, cx"),
        (Camera(30.0, -25.0, 9.5, 4.0), "fy -25"),
        (Camera(30.0, 25.0, 41.0, 4.0), "cx 41"),
        (Camera(30.0, 25.0, 9.5, -13.0), "cy -13"),
        (Camera(30.0, 25.0, 9.5, float("inf")), "cy inf"),
    ],
)
def test_wrong_intrinsics_are_one_line(camera, numbers):
    with pytest.raises(CloudError, match=f"^a.png: wrong intrinsics: .* of 20x12 pixels; found .*{numbers}") as error:
        cloud_of_depth(picture(), camera, "a.png")
    assert "\n" not in str(error.value)


def test_a_principal_point_near_the_picture_is_allowed():
    for camera in (Camera(30.0, 25.0, -20.0, -12.0), Camera(30.0, 25.0, 40.0, 24.0)):
        check_camera(camera, 20, 12, "a.png")


def test_pictures_without_sense_are_one_line():
    with pytest.raises(CloudError, match="^a.png: all 240 depths are 0, so there is no point; remove this frame$"):
        cloud_of_depth(torch.zeros(12, 20), CAMERA, "a.png")
    with pytest.raises(CloudError, match="^a.png: all 0 depths are 0, so there is no point; remove this frame$"):
        cloud_of_depth(torch.zeros(0, 20), Camera(1.0, 1.0, 0.0, 0.0), "a.png")
    for value in (float("nan"), float("inf"), -1.0):
        depth = picture()
        depth[3, 4] = value
        with pytest.raises(CloudError, match="^a.png: expected depths from 0 on, found negative, NaN or infinite ones"):
            cloud_of_depth(depth, CAMERA, "a.png")


def test_a_cube_keeps_what_lies_in_it():
    pos = torch.rand(400, 3, generator=generator("points"))
    center = torch.tensor([0.4, 0.6, 0.5])
    rows = cropped(pos, center, 0.2, "a.png").tolist()
    assert rows == [i for i, p in enumerate(pos) if max(abs(float(p[k] - center[k])) for k in range(3)) <= 0.2]
    assert 10 < len(rows) < 60


def test_an_empty_cube_says_where_it_is_and_where_the_points_are():
    message = (
        r"^a.png: no point within 0.125 m of \(0, 0, 500\), the middle of the cube; the 2 points lie from "
        r"\(-1, 0, 0.5\) to \(0, 2, 0.75\); check units and intrinsics$"
    )
    with pytest.raises(CloudError, match=message):
        cropped(torch.tensor([[-1.0, 0, 0.5], [0.0, 2, 0.75]]), torch.tensor([0.0, 0, 500]), 0.125, "a.png")


def test_the_nearest_mass_is_the_hand_and_not_what_is_behind_or_flies():
    draw = generator("scene")
    hand = torch.tensor([0.1, -0.05, 0.5]) + 0.05 * (2 * torch.rand(2000, 3, generator=draw) - 1)
    body = torch.tensor([0.5, 0.1, 1.0]) + 0.2 * (2 * torch.rand(6000, 3, generator=draw) - 1)
    flying = torch.rand(40, 3, generator=draw) * torch.tensor([1.0, 1.0, 0.2]) + torch.tensor([0.0, 0.0, 0.05])
    middle = nearest_mass(torch.cat([body, flying, hand]))
    torch.testing.assert_close(middle, hand.mean(0), rtol=0, atol=3e-3)
    # what stands at the hand's depth but aside pulls the first mean, not the second one
    aside = torch.tensor([0.6, 0.4, 0.55]) + 0.02 * torch.rand(200, 3, generator=draw)
    torch.testing.assert_close(nearest_mass(torch.cat([body, aside, hand])), hand.mean(0), rtol=0, atol=3e-3)


def test_the_nearest_mass_of_few_points():
    assert nearest_mass(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [1, 2, 3]
    apart = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])  # nothing is in the cube around their mean
    assert nearest_mass(apart).tolist() == [0, 0, 1]


def test_the_cube_is_around_the_joints_or_the_nearest_points():
    depth = torch.full((12, 20), 2.0)
    depth[4:8, 6:12] = 0.5
    joints = torch.tensor([[0.0, 0.0, 0.5], [0.02, 0.01, 0.5]])
    by_joints, by_points = (hand_cloud(depth, CAMERA, joints, 0.05, each, "a.png") for each in ("joints", "points"))
    pos = cloud_of_depth(depth, CAMERA, "a.png")
    for cloud, middle in ((by_joints, joints.mean(0)), (by_points, nearest_mass(pos))):
        assert torch.equal(cloud.pos, pos[((pos - middle).abs() <= 0.05).all(1)]) and torch.equal(cloud.joints, joints)
    assert not torch.equal(by_joints.pos, by_points.pos) and len(by_points.pos) > 10
    joints[1, 2] = float("nan")
    with pytest.raises(CloudError, match="^a.png: 1 of 2 joints are NaN or infinite; mend or remove this frame$"):
        hand_cloud(depth, CAMERA, joints, 0.05, "points", "a.png")


def test_pictures_in_millimetres(tmp_path):
    numbers = np.arange(240, dtype=np.uint16).reshape(12, 20) * 250
    Image.fromarray(numbers).save(tmp_path / "a.png")
    depth = metres(tmp_path / "a.png", 20, 12)
    assert depth.dtype == torch.float32 and float(depth[11, 19]) == pytest.approx(59.75)
    with pytest.raises(CloudError, match="a.png: expected a picture of 12x20 pixels, found 20x12"):
        metres(tmp_path / "a.png", 12, 20)
    Image.fromarray(numbers.astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(CloudError, match="a.png: expected a PNG of one channel of 16 bits, found PNG L"):
        metres(tmp_path / "a.png", 20, 12)
