import math

import pytest
import torch
from scipy.stats import chisquare, kstest

from geo3d import seeds
from geo3d.invariance import SO2, SO3, AnisotropicScale, Permutation, Reflection, Scale, Translation
from geo3d.testing import assert_group, tiny_batch

GROUPS = [
    SO3(),
    SO2(),
    SO2("x"),
    SO2("y"),
    Translation(),
    Scale(),
    AnisotropicScale(0.5, 2.0),
    Reflection(),
    Reflection("z"),
    Permutation(),
]
groups = pytest.mark.parametrize("group", GROUPS, ids=repr)
sizes = pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])


def cloud_slices(batch):
    return [slice(int(a), int(b)) for a, b in zip(batch.ptr[:-1], batch.ptr[1:], strict=True)]


@groups
@sizes
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_laws(group, sizes, dtype):
    batch = tiny_batch(num_points=sizes, dtype=dtype)
    batch.joints = torch.randn(3, 5, 3, generator=seeds.generator("joints"), dtype=dtype)
    assert_group(group, batch, seeds.generator(0))


@pytest.mark.parametrize("group", [g for g in GROUPS if not isinstance(g, Permutation)], ids=repr)
@sizes
def test_each_cloud_alone(group, sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    element, out = group.draw(batch, seeds.generator(0))
    for i, part in enumerate(cloud_slices(batch)):
        alone = tiny_batch(num_points=[part.stop - part.start], dtype=torch.float64)
        alone.pos, alone.normal = batch.pos[part], batch.normal[part]
        moved = group.act(element[i : i + 1], alone)
        assert torch.allclose(moved.pos, out.pos[part], atol=1e-14)
        assert torch.allclose(moved.normal, out.normal[part], atol=1e-14)


@pytest.mark.parametrize("group", [SO3(), SO2(), Reflection("xyz"), Permutation()], ids=repr)
@sizes
def test_isometries_keep_distances_and_norms(group, sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    element, out = group.draw(batch, seeds.generator(0))
    old = element if isinstance(group, Permutation) else torch.arange(len(batch.pos))
    assert torch.allclose(out.pos.norm(dim=1), batch.pos[old].norm(dim=1), atol=1e-14)
    for part in cloud_slices(batch):
        before = batch.pos[old[part]]
        assert torch.allclose(torch.cdist(out.pos[part], out.pos[part]), torch.cdist(before, before), atol=1e-7)
        cosine = (out.normal[part] * out.pos[part]).sum(1)
        assert torch.allclose(cosine, (batch.normal[old[part]] * before).sum(1), atol=1e-14)


@pytest.mark.parametrize("axis", "xyz")
def test_so2_leaves_its_axis(axis):
    batch = tiny_batch(num_clouds=2000, num_points=1)
    out = SO2(axis)(batch, seeds.generator(0))
    i = "xyz".index(axis)
    assert torch.equal(out.pos[:, i], batch.pos[:, i])
    angles = SO2(axis).sample(batch, seeds.generator(0)).numpy()
    assert kstest(angles, "uniform", args=(0, 2 * math.pi)).pvalue > 0.01


def test_normals_stay_normal_to_the_stretched_surface():
    batch = tiny_batch(num_points=[64, 200], dtype=torch.float64)
    helper = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64).expand_as(batch.pos)
    tangent = torch.linalg.cross(batch.normal, helper)
    for group in (AnisotropicScale(0.3, 3.0), Reflection("xyz"), SO3()):
        element, out = group.draw(batch, seeds.generator(0))
        ends = batch.clone()
        ends.pos = tangent
        moved = group.act(element, ends).pos
        assert (out.normal * moved).sum(1).abs().max() < 1e-13
        assert torch.allclose(out.normal.norm(dim=1), torch.ones(264, dtype=torch.float64))
        assert ((out.normal * out.pos).sum(1) > 0).all()  # outwards, as before
        assert ((batch.normal * batch.pos).sum(1) > 0).all()


def test_scale_is_log_uniform_and_alike_in_all_directions():
    batch = tiny_batch(num_clouds=2000, num_points=1)
    factors = Scale(0.5, 2.0).sample(batch, seeds.generator(0))
    assert torch.equal(factors[:, 0], factors[:, 1]) and torch.equal(factors[:, 0], factors[:, 2])
    logs = factors[:, 0].log2().numpy()
    assert kstest(logs, "uniform", args=(-1, 2)).pvalue > 0.01
    out = Scale(0.5, 2.0)(batch, seeds.generator(0))
    assert torch.allclose(out.normal, batch.normal, atol=1e-6)


def test_anisotropic_factors_are_independent():
    batch = tiny_batch(num_clouds=2000, num_points=1)
    factors = AnisotropicScale(0.5, 2.0).sample(batch, seeds.generator(0)).log2()
    assert (torch.corrcoef(factors.T) - torch.eye(3)).abs().max() < 4 / math.sqrt(2000)
    assert factors.min() >= -1 and factors.max() <= 1


def test_translation_fills_its_cube_and_takes_joints_along():
    batch = tiny_batch(num_clouds=2000, num_points=1)
    batch.joints = torch.zeros(2000, 2, 3)
    element, out = Translation(0.5).draw(batch, seeds.generator(0))
    assert kstest(element.flatten().numpy(), "uniform", args=(-0.5, 1)).pvalue > 0.01
    assert torch.equal(out.joints[:, 1], element)
    assert torch.equal(out.normal, batch.normal)


def test_reflection_flips_only_its_axes_half_of_the_time():
    batch = tiny_batch(num_clouds=2000, num_points=1)
    signs = Reflection("xz").sample(batch, seeds.generator(0))
    assert (signs[:, 1] == 1).all()
    counts = [int(((signs[:, 0] == a) & (signs[:, 2] == b)).sum()) for a in (-1, 1) for b in (-1, 1)]
    assert sum(counts) == 2000 and chisquare(counts).pvalue > 0.01


def test_permutations_are_uniform_and_stay_within_their_clouds():
    batch = tiny_batch(num_points=[3] * 3000 + [2] * 1000)
    element = Permutation().sample(batch, seeds.generator(0))
    assert torch.equal(batch.batch[element], batch.batch)
    assert torch.equal(element.sort().values, torch.arange(len(batch.pos)))
    local = element - batch.ptr[batch.batch]
    codes = (local[:9000].view(-1, 3) * torch.tensor([9, 3, 1])).sum(1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 6 and chisquare(counts.numpy()).pvalue > 0.01
    _, counts = local[9000:].view(-1, 2)[:, 0].unique(return_counts=True)
    assert chisquare(counts.numpy()).pvalue > 0.01
