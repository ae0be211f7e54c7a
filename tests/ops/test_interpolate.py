import pytest
import torch

from geo3d import seeds
from geo3d.ops.interpolate import interpolate, three_nearest


def plain(pos, centers, features):
    rows = []
    for p in pos:
        d2 = (centers - p).square().sum(1)
        near = d2.sort(stable=True).indices[:3]
        w = 1 / (d2[near] + 1e-8)
        rows.append((features[near] * (w / w.sum())[:, None]).sum(0))
    return torch.stack(rows)


@pytest.mark.parametrize("sizes, sizes_c", [([20, 20], [6, 6]), ([20, 5, 1, 9], [6, 3, 1, 2])])
def test_same_as_the_plain_loop(sizes, sizes_c):
    generator = seeds.generator(0, "three")
    pos = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64)
    ptr, ptr_c = torch.tensor([0, *sizes]).cumsum(0), torch.tensor([0, *sizes_c]).cumsum(0)
    centers = torch.cat([pos[a : a + n] for a, n in zip(ptr, sizes_c, strict=False)])  # some points are centres
    features = torch.randn(len(centers), 4, generator=generator, dtype=torch.float64)
    known = (sizes[0], sizes_c[0]) if len(set(sizes)) == 1 else (None, None)
    found = interpolate(features, *three_nearest(pos, ptr, centers, ptr_c, *known))
    for b in range(len(sizes)):
        c = slice(ptr_c[b], ptr_c[b + 1])
        wanted = plain(pos[ptr[b] : ptr[b + 1]], centers[c], features[c])
        torch.testing.assert_close(found[ptr[b] : ptr[b + 1]], wanted, rtol=0, atol=1e-12)


def test_weights_sum_to_one_and_gradients_reach_the_features():
    generator = seeds.generator(1, "three")
    pos = torch.randn(10, 3, generator=generator)
    index, weight = three_nearest(pos, torch.tensor([0, 10]), pos[:4], torch.tensor([0, 4]), 10, 4)
    torch.testing.assert_close(weight.sum(1), torch.ones(10))
    assert torch.equal(index[:4, 0], torch.arange(4)) and bool((weight[:4, 0] > 0.999).all())
    features = torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: interpolate(f, index, weight.double()), features)
