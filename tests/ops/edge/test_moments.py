"""Edge reductions against tensors of all edges."""

import pytest
import torch
from torch import Tensor

from geo3d.ops.edge import gather
from geo3d.ops.edge.gather import gather_max, gather_sum, sum_to_neighbors
from geo3d.ops.edge.moments import edge_moments


def case(rows: int = 30, channels: int = 5, k: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, rows, channels, generator=draw, dtype=torch.float64)
    neighbors = torch.randint(0, rows, (rows, k), generator=draw)
    return a.requires_grad_(), b.requires_grad_(), neighbors


@pytest.mark.parametrize("block", [1, 35, 1 << 16])
def test_maximum_and_sum(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "BLOCK", block)
    _, b, neighbors = case()
    weight = torch.randn(30, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = b[neighbors]
    for ours, theirs in ((gather_max(b, neighbors), plain.max(1).values), (gather_sum(b, neighbors), plain.sum(1))):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
        (got,) = torch.autograd.grad((ours * weight).sum(), b)
        (expected,) = torch.autograd.grad((theirs * weight).sum(), b, retain_graph=True)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(gather_max(b, neighbors), plain.max(1).values)


def test_gradients_numerically() -> None:
    a, b, neighbors = case(rows=7, channels=2, k=3)
    assert torch.autograd.gradcheck(lambda b: gather_max(b, neighbors), b)
    assert torch.autograd.gradcheck(lambda b: gather_sum(b, neighbors), b)
    assert torch.autograd.gradcheck(lambda a, b: edge_moments(a, b, neighbors)[:2], (a, b))


def test_first_of_equal_neighbours_gets_the_gradient() -> None:
    b = torch.tensor([[2.0], [2.0], [1.0]], requires_grad=True)
    neighbors = torch.tensor([[2, 1, 0], [0, 1, 2], [2, 2, 1]])
    gather_max(b, neighbors).backward(torch.tensor([[1.0], [10.0], [100.0]]))
    assert b.grad is not None and b.grad.flatten().tolist() == [10.0, 101.0, 0.0]


def test_many_neighbours_keep_their_slot() -> None:
    rows = 700
    b = torch.arange(rows, dtype=torch.float32)[:, None].requires_grad_()
    neighbors = torch.arange(rows)[None].repeat(2, 1)
    neighbors[1] = neighbors[1].flip(0)
    gather_max(b, neighbors).sum().backward()
    assert b.grad is not None and b.grad[-1] == 2 and b.grad.sum() == 2


def test_sum_to_neighbors() -> None:
    a, b, neighbors = case()
    expected = torch.zeros_like(b)
    for i in range(30):
        for j in neighbors[i]:
            expected[j] += a[i]
    torch.testing.assert_close(sum_to_neighbors(a, neighbors, 30), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("block", [40, 1 << 16])
def test_moments_are_those_of_all_edges(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "BLOCK", block)
    a, b, neighbors = case()
    y = (a[:, None] + b[neighbors]).flatten(0, 1)
    mean, var, count = edge_moments(a, b, neighbors)
    assert count == y.shape[0]
    torch.testing.assert_close(mean, y.mean(0), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(var, y.var(0, correction=0), rtol=1e-13, atol=1e-13)
    weight = torch.linspace(-1, 2, 5, dtype=torch.float64)
    ours = torch.autograd.grad((weight * (mean.sin() + var.log())).sum(), (a, b))
    theirs = torch.autograd.grad((weight * (y.mean(0).sin() + y.var(0, correction=0).log())).sum(), (a, b))
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13)


def test_nothing_cancels_far_from_the_origin() -> None:
    a, b, neighbors = (t.detach() for t in case(rows=3000, k=8))
    a, b = a + 1000, b - 1000
    y = (a[:, None] + b[neighbors]).flatten(0, 1)
    mean, var, _ = edge_moments(a.float(), b.float(), neighbors)
    torch.testing.assert_close(var.double(), y.var(0, correction=0), rtol=2e-4, atol=0)
    torch.testing.assert_close(mean.double(), y.mean(0), rtol=0, atol=2e-3)


def test_joined_halves_are_the_whole() -> None:
    """Two processes, each with half of the clouds, played by two threads' worth of sums."""
    a, b, neighbors = case(rows=20)
    c, d, _ = case(rows=20, seed=1)
    d = d.detach() + 5  # halves that differ
    y = torch.cat([(a[:, None] + b[neighbors]).flatten(0, 1), (c[:, None] + d[neighbors]).flatten(0, 1)])
    first: list[tuple[Tensor, ...]] = []
    edge_moments(c, d, neighbors, lambda *sums: first.append(sums) or sums)
    centre: list[Tensor] = []

    def join_other(*sums: Tensor) -> tuple[Tensor, ...]:
        if len(sums) == 2:
            return tuple(mine + theirs for mine, theirs in zip(sums, case_sums, strict=True))
        centre.append(sums[0])
        return sums

    case_sums = (torch.tensor(80.0, dtype=torch.float64), (a[:, None] + b[neighbors]).flatten(0, 1).sum(0))
    edge_moments(c, d, neighbors, join_other)

    def join(*sums: Tensor) -> tuple[Tensor, ...]:
        other = first[0] if len(sums) == 2 else (centre[0],)
        return tuple(mine + theirs for mine, theirs in zip(sums, other, strict=True))

    mean, var, count = edge_moments(a, b, neighbors, join)
    assert count == 160
    torch.testing.assert_close(mean, y.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(var, y.var(0, correction=0), rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad((mean.sin() + var.log()).sum(), (a, b, c))
    theirs = torch.autograd.grad((y.mean(0).sin() + y.var(0, correction=0).log()).sum(), (a, b, c))
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
