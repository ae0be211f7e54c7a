import pytest
import torch

from geo3d import seeds
from geo3d.geometry.normalize import center_and_scale, normalized, unit_sphere
from geo3d.geometry.rotation import unit_vectors
from geo3d.testing import tiny_batch


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
    unit = unit_vectors(vectors)
    assert torch.allclose(unit, vectors / vectors.norm(dim=1, keepdim=True), rtol=1e-14)
    assert torch.equal(unit_vectors(vectors.T.contiguous().T), unit)
    vectors[7] = 0.0
    vectors.requires_grad_()
    unit_vectors(vectors).sum().backward()
    assert torch.equal(unit_vectors(vectors)[7], torch.zeros(3).double()) and vectors.grad.isfinite().all()
    assert torch.autograd.gradcheck(unit_vectors, drawn[:4].requires_grad_())


@pytest.mark.parametrize("how", ["unit_sphere", "box", "center"])
@pytest.mark.parametrize("sizes", [20, [1, 7, 30]], ids=["uniform", "ragged"])
def test_batches_are_normalised_cloud_by_cloud(how, sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    batch.joints = batch.pos[batch.ptr[:-1]][:, None].clone()
    moved = normalized(batch, how)
    for b, (start, end) in enumerate(zip(batch.ptr[:-1], batch.ptr[1:], strict=True)):
        center, scale = center_and_scale(batch.pos[start:end], how)
        torch.testing.assert_close(moved.pos[start:end], (batch.pos[start:end] - center) / scale)
        torch.testing.assert_close(moved.joints[b], (batch.joints[b] - center) / scale)
    assert normalized(batch, "none") is batch


def test_centred_clouds_keep_their_lengths():
    pos = torch.randn(30, 3, generator=seeds.generator("center")) * 5 + 100
    center, scale = center_and_scale(pos, "center")
    assert float(scale) == 1 and torch.equal(center, pos.mean(0))
