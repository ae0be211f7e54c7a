import pytest
import torch

from geo3d import seeds
from geo3d.invariance.selection import keep_smallest, kept_counts
from geo3d.testing import tiny_batch

sizes = pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])


def parts(batch):
    return [slice(int(a), int(b)) for a, b in zip(batch.ptr[:-1], batch.ptr[1:], strict=True)]


@sizes
def test_keep_smallest_is_the_loop(sizes):
    batch = tiny_batch(num_points=sizes)
    keys = torch.randint(0, 9, (len(batch.pos),), generator=seeds.generator(0)).double()
    counts = torch.tensor([1, 5, 30]).minimum(batch.ptr.diff())
    kept = keep_smallest(keys, counts, batch)
    expected = [
        p.start + keys[p].argsort(stable=True)[:n].sort().values
        for p, n in zip(parts(batch), counts.tolist(), strict=True)
    ]
    assert torch.equal(kept.points, torch.cat(expected))
    assert torch.equal(kept.ptr.diff(), counts)


def test_kept_counts_round_up_and_respect_the_least():
    batch = tiny_batch(num_points=[1, 10, 11, 3])
    assert kept_counts(torch.tensor([0.0, 0.5, 0.5, 1.0]), batch).tolist() == [1, 5, 6, 3]
    assert kept_counts(torch.zeros(4), batch, min_points=4).tolist() == [1, 4, 4, 3]
