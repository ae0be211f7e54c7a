import torch

from geo3d import seeds
from geo3d.geometry.normalize import unit_sphere, unit_vectors


def test_the_farthest_point_lies_on_the_sphere_around_the_mean():
    pos = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 7 + 100
    center, scale = unit_sphere(pos)
    fitted = (pos - center) / scale
    assert torch.allclose(fitted.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(fitted.norm(dim=1).max(), torch.tensor(1.0))


def test_points_in_one_place_keep_their_scale():
    center, scale = unit_sphere(torch.full((5, 3), 4.0))
    assert center.tolist() == [4.0, 4.0, 4.0] and scale == 1


def test_unit_vectors_are_the_rows_over_their_lengths():
    drawn = torch.randn(50, 3, generator=seeds.generator(0), dtype=torch.float64)
    vectors = drawn * torch.logspace(-11, 11, 50, dtype=torch.float64)[:, None]
    found = unit_vectors(vectors)
    assert torch.allclose(found, vectors / vectors.norm(dim=1, keepdim=True), rtol=1e-14)
    assert torch.equal(unit_vectors(vectors.T.contiguous().T), found)
    vectors[7] = 0.0
    vectors.requires_grad_()
    unit_vectors(vectors).sum().backward()
    assert torch.equal(unit_vectors(vectors)[7], torch.zeros(3).double()) and vectors.grad.isfinite().all()
    assert torch.autograd.gradcheck(unit_vectors, drawn[:4].requires_grad_())
