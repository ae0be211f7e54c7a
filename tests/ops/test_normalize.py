import torch

from geo3d.ops.normalize import unit_sphere


def test_the_farthest_point_lies_on_the_sphere_around_the_mean():
    pos = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 7 + 100
    center, scale = unit_sphere(pos)
    fitted = (pos - center) / scale
    assert torch.allclose(fitted.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(fitted.norm(dim=1).max(), torch.tensor(1.0))


def test_points_in_one_place_keep_their_scale():
    center, scale = unit_sphere(torch.full((5, 3), 4.0))
    assert center.tolist() == [4.0, 4.0, 4.0] and scale == 1
