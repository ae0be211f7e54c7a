import math

import pytest
import torch

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.search.voxel import voxel_groups, voxel_mean

BUILDS = [*native.builds(), None]
SIZES = {"uniform": [40, 40, 40], "ragged": [40, 700, 1, 25]}


def switched(build):
    return native.using(build) if build else native.disabled()


def clouds(sizes, dtype=torch.float32):
    pos = torch.randn(sum(sizes), 3, generator=seeds.generator(0, "voxel"), dtype=dtype)
    return pos, torch.tensor([0, *sizes]).cumsum(0)


def plain(pos, ptr, size):
    group, first, count, group_ptr = [], [], [], [0]
    for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
        cloud = pos[a:b].double().tolist()
        low = [min(column) for column in zip(*cloud, strict=True)]
        seen = {}
        for i, p in enumerate(cloud):
            cell = tuple(math.floor((x - o) / size) for x, o in zip(p, low, strict=True))
            if cell not in seen:
                seen[cell] = len(first)
                first.append(a + i)
                count.append(0)
            group.append(seen[cell])
            count[seen[cell]] += 1
        group_ptr.append(len(first))
    return group, first, count, group_ptr


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-5, 0.3, 1.0, 50.0])
def test_same_groups_as_a_plain_loop(sizes, size, dtype, build):
    pos, ptr = clouds(sizes, dtype)
    known = sizes[0] if len(set(sizes)) == 1 else None
    with switched(build):
        found = voxel_groups(pos, Layout(ptr, known), size)
    assert tuple(part.tolist() for part in found) == plain(pos, ptr, size)


@pytest.mark.parametrize("build", BUILDS)
def test_borders_belong_to_the_next_cell(build):
    pos = torch.tensor([[0.5, 0, 0], [0.0, 0, 0], [0.25, 0, 0], [0.75, 0, 0], [0.25, 0, 0.25]]) - 7
    with switched(build):
        group, first, count, _ = voxel_groups(pos, Layout(torch.tensor([0, 5])), 0.25)
    assert group.tolist() == [0, 1, 2, 3, 4] and first.tolist() == [0, 1, 2, 3, 4] and count.tolist() == [1] * 5


@pytest.mark.parametrize("build", native.builds())
def test_same_groups_on_any_number_of_threads(build):
    (pos, ptr), threads, found = clouds([300, 20, 1000, 3]), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with native.using(build):
                found.append(voxel_groups(pos, Layout(ptr), 0.4))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_means_are_those_of_the_groups_and_differentiable():
    pos, ptr = clouds([40, 13])
    group, _, count, group_ptr = voxel_groups(pos, Layout(ptr), 1.0)
    x = torch.randn(53, 2, dtype=torch.float64, generator=seeds.generator(0, "x"), requires_grad=True)
    means = voxel_mean(x, group, count)
    for g in range(int(group_ptr[-1])):
        torch.testing.assert_close(means[g], x[group == g].mean(0))
    assert torch.autograd.gradcheck(lambda x: voxel_mean(x, group, count), x)


@pytest.mark.parametrize("build", BUILDS)
def test_bad_input(build):
    pos, ptr = clouds([5, 4])
    with switched(build):
        for size in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ConfigError, match="must be positive"):
                voxel_groups(pos, Layout(ptr), size)
        for size in (1e-9, 5e-324):
            with pytest.raises(CloudError, match="too small"):
                voxel_groups(pos, Layout(ptr), size)
        for points, offsets, message in (
            (pos / torch.tensor([1.0, 1, 0]), ptr, "NaN or infinite"),
            (pos, ptr[[0, 2, 2]], "offsets"),
            (pos[:, :2], ptr, "found shapes"),
        ):
            with pytest.raises(CloudError, match=message):
                voxel_groups(points, Layout(offsets), 1.0)


@pytest.mark.parametrize("build", BUILDS)
def test_operator_keeps_the_rules_of_torch(build):
    with switched(build):
        torch.library.opcheck(torch.ops.geo3d.voxel_groups.default, (*clouds([12, 5]), 0.7, None))
