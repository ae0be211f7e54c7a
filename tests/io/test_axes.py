import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.io.axes import to_z_up


def test_y_up_is_turned_and_not_mirrored():
    axes = torch.eye(3)
    turned = to_z_up(axes, "y")
    assert turned.tolist() == [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    assert torch.linalg.det(turned) == 1
    assert axes.equal(torch.eye(3))


def test_z_up_stays():
    points = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert to_z_up(points, "z").equal(points)


def test_other_axes_are_refused():
    with pytest.raises(ConfigError, match="'y' or 'z'"):
        to_z_up(torch.eye(3), "x")
