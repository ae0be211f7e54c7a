import numpy as np
import pytest
import torch

from geo3d import seeds
from geo3d.cloud import common_size, make_batch
from geo3d.errors import ConfigError
from geo3d.ops.sampling import farthest_points, padded


def plain(pos: np.ndarray, num_samples: int, start: int) -> list[int]:
    """One cloud, one point at a time, in the cloud's own precision."""
    picks, best = [start], [np.inf] * len(pos)
    while len(picks) < min(num_samples, len(pos)):
        for i, p in enumerate(pos):
            dx, dy, dz = (p - pos[picks[-1]]) ** 2
            best[i] = min(best[i], dx + dy + dz)
        left = [i for i in range(len(pos)) if i not in picks]
        picks.append(max(left, key=lambda i: (best[i], -i)))
    return [picks[i % len(pos)] for i in range(num_samples)]


def clouds(sizes: list[int], dtype=torch.float32, seed: int = 0):
    pos = torch.randn(sum(sizes), 3, generator=seeds.generator(seed, "clouds"), dtype=dtype)
    return make_batch(pos, ptr=torch.tensor([0, *sizes]).cumsum(0))


@pytest.mark.parametrize("sizes", [[40, 40, 40], [40, 7, 1, 25]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_indices_as_the_plain_loop(sizes, dtype):
    batch = clouds(sizes, dtype)
    start = torch.tensor([size // 2 for size in sizes])
    for given, firsts in (("first", [0] * len(sizes)), (start, start.tolist())):
        found = farthest_points(batch.pos, batch.ptr, 20, common_size(batch), given).view(len(sizes), 20)
        for b, first in enumerate(firsts):
            cloud = batch.pos[batch.ptr[b] : batch.ptr[b + 1]].numpy()
            assert (found[b] - batch.ptr[b]).tolist() == plain(cloud, 20, first)


def test_ties_go_to_the_lower_index_and_coincident_points_come_last():
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert farthest_points(square, torch.tensor([0, 5]), 7, 5).tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_samples_are_nested():
    batch = clouds([50, 50])
    many = farthest_points(batch.pos, batch.ptr, 30, 50).view(2, 30)
    assert torch.equal(farthest_points(batch.pos, batch.ptr, 9, 50).view(2, 9), many[:, :9])
    again = farthest_points(batch.pos[many.view(-1)], torch.tensor([0, 30, 60]), 9, 30)
    assert torch.equal(many.view(-1)[again].view(2, 9), many[:, :9])


@pytest.mark.parametrize("sizes", [[30, 30], [30, 12, 5]])
def test_geometric_start_does_not_see_the_order(sizes):
    batch = clouds(sizes, torch.float64)
    generator = seeds.generator(0, "order")
    order = torch.cat([torch.randperm(n, generator=generator) + o for n, o in zip(sizes, batch.ptr, strict=False)])
    one = farthest_points(batch.pos, batch.ptr, 5, common_size(batch), "farthest")
    other = farthest_points(batch.pos[order], batch.ptr, 5, common_size(batch), "farthest")
    assert torch.equal(batch.pos[one], batch.pos[order][other])
    for b, size in enumerate(sizes):
        cloud = batch.pos[batch.ptr[b] : batch.ptr[b + 1]]
        assert one.view(-1, 5)[b, 0] - batch.ptr[b] == (cloud - cloud.mean(0)).norm(dim=1).argmax(), size


def test_bad_options():
    batch = clouds([4])
    for options in ({"start": "last"}, {"start": torch.zeros(2)}, {"num_samples": 0}):
        with pytest.raises(ConfigError, match="found"):
            farthest_points(batch.pos, batch.ptr, **{"num_samples": 2, **options})


def test_padded_gives_gradients_back():
    x = torch.randn(6, 2, generator=seeds.generator(0, "x"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: padded(x, torch.tensor([0, 1, 4, 6]), None, 0.0), x)
