import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import kstest

from geo3d import seeds
from geo3d.geometry.rotation import (
    apply_linear,
    axis_angle_to_matrix,
    quaternion_to_matrix,
    random_rotations,
    rotate,
    rotation_about_axis,
    rotation_about_z,
    rotation_angle,
)
from geo3d.testing import tiny_batch

SIZES = [32, [1, 7, 40]]


def haar(n=20000):
    return random_rotations(n, seeds.generator("haar"), torch.float64)


def test_random_rotations_are_rotations():
    r = haar(100)
    assert torch.allclose(r @ r.mT, torch.eye(3, dtype=r.dtype).expand(100, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(r), torch.ones(100, dtype=r.dtype), atol=1e-12)


def test_random_rotations_have_the_moments_of_haar_measure():
    r = haar()
    four_sigma = 4 * math.sqrt(1 / 3 / len(r))
    assert r.mean(0).abs().max() < four_sigma
    assert (r.square().mean(0) - 1 / 3).abs().max() < 4 * math.sqrt(4 / 45 / len(r))
    trace = r.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(trace.mean()) < 4 / math.sqrt(len(r))  # E[tr] = 0 and E[tr^2] = 1: irreducible characters
    assert abs(trace.square().mean() - 1) < 4 * math.sqrt(2 / len(r))


def test_random_rotation_angles_have_density_one_minus_cosine():
    angles = rotation_angle(haar()).numpy()
    assert kstest(angles, lambda t: (t - np.sin(t)) / np.pi).pvalue > 0.01


def test_random_rotations_send_a_point_anywhere_alike():
    heights = haar()[:, 2, 0].numpy()  # Archimedes: uniform in [-1, 1]
    assert kstest(heights, "uniform", args=(-1, 2)).pvalue > 0.01


def test_same_generator_same_rotations_in_any_dtype():
    a = random_rotations(5, seeds.generator(1), torch.float64)
    b = random_rotations(5, seeds.generator(1), torch.float32)
    assert b.dtype == torch.float32
    assert torch.equal(a.float(), b)


def test_conversions_agree_with_scipy():
    generator = seeds.generator("conversions")
    quaternion = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    expected = Rotation.from_quat(quaternion[:, [1, 2, 3, 0]].numpy()).as_matrix()
    assert torch.allclose(quaternion_to_matrix(quaternion), torch.from_numpy(expected), atol=1e-12)
    axis_angle = torch.randn(50, 3, generator=generator, dtype=torch.float64) * 2
    expected = Rotation.from_rotvec(axis_angle.numpy()).as_matrix()
    assert torch.allclose(axis_angle_to_matrix(axis_angle), torch.from_numpy(expected), atol=1e-12)
    for axis in "xyz":
        angles = torch.randn(20, generator=generator, dtype=torch.float64)
        expected = Rotation.from_euler(axis, angles[:, None].numpy()).as_matrix()
        assert torch.allclose(rotation_about_axis(angles, axis), torch.from_numpy(expected), atol=1e-12)


def test_axis_angle_is_differentiable_at_no_rotation():
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(axis_angle_to_matrix(zero), torch.eye(3, dtype=torch.float64))
    jacobian = torch.autograd.functional.jacobian(axis_angle_to_matrix, zero)
    for i in range(3):  # the derivative of the exponential map at 0: the cross product matrices
        e = torch.eye(3, dtype=torch.float64)
        cross = torch.stack([torch.linalg.cross(e[i], column) for column in e], 1)
        assert torch.allclose(jacobian[:, :, i], cross, atol=1e-12)


def test_rotation_about_z_turns_x_towards_y():
    quarter = rotation_about_z(torch.tensor(math.pi / 2, dtype=torch.float64))
    x = torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64)
    assert torch.allclose(quarter @ x, torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64), atol=1e-15)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.3, math.pi - 1e-9, math.pi])
def test_rotation_angle_keeps_its_digits(angle):
    axis = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3
    base = haar(1)[0]
    turned = base @ axis_angle_to_matrix(angle * axis)
    assert rotation_angle(base, turned).item() == pytest.approx(angle, abs=1e-14)


@pytest.mark.parametrize("sizes", [*SIZES, 1, 6, 7])
def test_apply_linear_is_the_loop_over_clouds(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    batch.joints = torch.randn(3, 4, 3, generator=seeds.generator("joints"), dtype=torch.float64)
    matrices = torch.randn(3, 3, 3, generator=seeds.generator("matrices"), dtype=torch.float64)
    assert torch.linalg.det(matrices).min() < 0 < torch.linalg.det(matrices).max()
    out = apply_linear(matrices, batch)
    for i, (start, end) in enumerate(zip(batch.ptr[:-1], batch.ptr[1:], strict=True)):
        normals = batch.normal[start:end] @ torch.linalg.inv(matrices[i])
        assert torch.allclose(out.pos[start:end], batch.pos[start:end] @ matrices[i].T)
        assert torch.allclose(out.normal[start:end], normals / normals.norm(dim=1, keepdim=True))
        assert torch.allclose(out.joints[i], batch.joints[i] @ matrices[i].T)
    assert torch.equal(out.rgb, batch.rgb)


@pytest.mark.parametrize("sizes", [*SIZES, 1, 6, 7])
def test_rotate_is_the_loop_over_clouds_and_keeps_lengths(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    batch.joints = torch.randn(3, 4, 3, generator=seeds.generator("joints"), dtype=torch.float64)
    matrices = haar(3)
    linear = apply_linear(matrices, batch)
    batch.normal = 2 * batch.normal
    out = rotate(matrices, batch)
    for i, (start, end) in enumerate(zip(batch.ptr[:-1], batch.ptr[1:], strict=True)):
        for key in ("pos", "normal"):
            assert torch.allclose(out[key][start:end], batch[key][start:end] @ matrices[i].T)
        assert torch.allclose(out.joints[i], batch.joints[i] @ matrices[i].T)
    assert torch.allclose(out.normal, 2 * linear.normal) and torch.equal(out.pos, linear.pos)
    assert torch.equal(out.rgb, batch.rgb) and torch.equal(out.point_id, batch.point_id)


def test_apply_linear_leaves_missing_normals_zero_and_takes_views_of_memory():
    batch = tiny_batch()
    batch.normal = torch.zeros_like(batch.normal)
    batch.pos = torch.empty(3, 96).normal_(generator=seeds.generator(0)).T
    out = apply_linear(2 * torch.eye(3).expand(3, 3, 3), batch)
    assert torch.equal(out.normal, batch.normal)
    assert torch.equal(out.pos, 2 * batch.pos)


@pytest.mark.parametrize("sizes", SIZES)
def test_apply_linear_has_right_gradients(sizes):
    batch = tiny_batch(num_points=[2, 2, 2] if sizes == 32 else [1, 3, 2], dtype=torch.float64)
    matrices = torch.randn(3, 3, 3, generator=seeds.generator("matrices"), dtype=torch.float64)

    def function(matrices, pos, normal):
        moved = batch.clone()
        moved.pos, moved.normal = pos, normal
        out = apply_linear(matrices, moved)
        return out.pos, out.normal

    inputs = [t.clone().requires_grad_() for t in (matrices, batch.pos, batch.normal)]
    assert torch.autograd.gradcheck(function, inputs)
