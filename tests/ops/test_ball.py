import pytest
import torch

from geo3d import seeds
from geo3d.errors import ConfigError
from geo3d.ops import ball
from geo3d.ops.ball import ball_query


def plain(pos, centers, radius, k):
    rows = []
    for c in centers.tolist():
        d2 = [sum((a - b) ** 2 for a, b in zip(p, c, strict=True)) for p in pos.tolist()]
        inside = [i for i, d in enumerate(d2) if d <= radius**2][:k] or [d2.index(min(d2))]
        rows.append(inside + inside[:1] * (k - len(inside)))
    return torch.tensor(rows)


@pytest.mark.parametrize("sizes, sizes_c", [([30, 30, 30], [8, 8, 8]), ([30, 3, 1, 17], [8, 2, 1, 5])])
@pytest.mark.parametrize("k", [1, 4, 40])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_same_table_as_the_plain_loop(sizes, sizes_c, k, chunk, monkeypatch):
    monkeypatch.setattr(ball, "CHUNK", chunk)
    generator = seeds.generator(0, "ball")
    pos = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64)
    centers = torch.randn(sum(sizes_c), 3, generator=generator, dtype=torch.float64)
    ptr, ptr_c = torch.tensor([0, *sizes]).cumsum(0), torch.tensor([0, *sizes_c]).cumsum(0)
    known = (sizes[0], sizes_c[0]) if len(set(sizes)) == 1 else (None, None)
    for radius in (0.05, 1.0, 9.0):  # nothing, some, everything inside
        found = ball_query(pos, ptr, centers, ptr_c, radius, k, *known)
        for b in range(len(sizes)):
            wanted = plain(pos[ptr[b] : ptr[b + 1]], centers[ptr_c[b] : ptr_c[b + 1]], radius, k) + ptr[b]
            assert torch.equal(found[ptr_c[b] : ptr_c[b + 1]], wanted)


def test_border_belongs_to_the_ball():
    pos = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.5, 0, 1e-3]])
    ptr = torch.tensor([0, 3])
    assert ball_query(pos, ptr, pos[:1], torch.tensor([0, 1]), 0.5, 3).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("radius, k", [(0.0, 1), (1.0, 0)])
def test_bad_options(radius, k):
    with pytest.raises(ConfigError, match="found radius"):
        ball_query(torch.zeros(1, 3), torch.tensor([0, 1]), torch.zeros(1, 3), torch.tensor([0, 1]), radius, k)
