"""The scene of a cloud: what it says of coordinates, and which way is up."""

import numpy as np
import torch
from torch_geometric.data import Data

from geo3d.show.scenes.cloud import cloud_scene


def cloud(**fields) -> Data:
    return Data(pos=torch.rand(50, 3, generator=torch.Generator().manual_seed(0)), **fields)


def test_a_shift_of_the_coordinates_is_said():
    frame = torch.eye(4, dtype=torch.float64)
    assert not any("shifted" in note for note in cloud_scene(cloud(frame=frame), "a").notes)
    frame[:3, 3] = torch.tensor([637000.25, 849000, 420])
    notes = cloud_scene(cloud(frame=frame), "a").notes
    assert "coordinates are shifted: the origin here is at (637000.25, 849000, 420) in the file" in notes


def test_hands_are_seen_by_their_camera_and_other_clouds_from_above():
    assert cloud_scene(cloud(), "a").camera.up == (0.0, 0.0, 1.0)
    hand = cloud_scene(cloud(joints=torch.zeros(21, 3)), "a")
    assert hand.camera.up == (0.0, -1.0, 0.0) and np.argmin(hand.camera.eye) == 2


def test_values_that_are_not_finite_are_counted():
    normal = torch.ones(50, 3)
    normal[3] = torch.nan
    assert "normal (50, 3), 3 values not finite" in cloud_scene(cloud(normal=normal), "a").notes[-1]
