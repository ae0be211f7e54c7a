import pytest
import torch
from support.triton_device import DEVICE

from geo3d.ops.edge import gather
from geo3d.ops.triton.edge import gather_max, scatter, transposed

SHAPES = [(40, 40, 5, 3), (33, 17, 1, 1), (9, 21, 20, 7), (12, 30, 6, 64), (5, 8, 3, 130)]


def problem(rows, points, k, channels):
    draw = torch.Generator().manual_seed(rows)
    b = torch.randint(-4, 5, (points, channels), generator=draw).float()  # full of equal values
    return b, torch.randint(0, points, (rows, k), generator=draw), draw


def forward(b, neighbors, **wants):
    return tuple(
        None if part is None else part.cpu() for part in gather_max(b.to(DEVICE), neighbors.to(DEVICE), **wants)
    )


def backward(grad_max, slot, grad_sum, neighbors, rows):
    parts = [None if part is None else part.to(DEVICE) for part in (grad_max, slot, grad_sum, neighbors)]
    return scatter(*parts, rows).cpu()


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_are_those_of_the_reference(shape):
    b, neighbors, draw = problem(*shape)
    best, slot, total = forward(b, neighbors)
    expected = b[neighbors].max(1).values
    assert torch.equal(best, expected) and torch.equal(total, b[neighbors].sum(1))
    assert torch.equal(slot.long(), (b[neighbors] == expected[:, None]).int().argmax(1))  # the first of equal ones

    grad_max, grad_sum = torch.randn(2, *best.shape, generator=draw)
    for use_max, use_sum in ((True, True), (True, False), (False, True)):
        leaf = b.clone().requires_grad_()
        loss = (gather.gather_max(leaf, neighbors) * grad_max).sum() * use_max
        loss = loss + (gather.gather_sum(leaf, neighbors) * grad_sum).sum() * use_sum
        loss.backward()
        args = (grad_max if use_max else None, slot if use_max else None, grad_sum if use_sum else None)
        torch.testing.assert_close(backward(*args, neighbors, len(b)), leaf.grad, rtol=1e-5, atol=1e-5)


def test_parts_that_nobody_wants_are_not_made():
    b, neighbors, _ = problem(10, 10, 3, 5)
    best, slot, total = forward(b, neighbors, wants_slot=False, wants_sum=False)
    assert torch.equal(best, b[neighbors].max(1).values) and slot is None and total is None


def test_more_than_256_neighbours_have_wider_slots():
    draw = torch.Generator().manual_seed(0)
    b, neighbors = torch.randn(400, 2, generator=draw), torch.randint(0, 400, (3, 300), generator=draw)
    _, slot, _ = forward(b, neighbors)
    assert slot.dtype == torch.int32
    assert torch.equal(slot.long(), b[neighbors].argmax(1))
    assert forward(b, neighbors[:, :256])[1].dtype == torch.uint8


def test_the_gradient_has_the_same_bits_each_time():
    draw = torch.Generator().manual_seed(0)
    grad, neighbors = torch.randn(64, 9, generator=draw), torch.randint(0, 6, (64, 11), generator=draw)
    first = backward(None, None, grad, neighbors, 6)
    assert all(torch.equal(first, backward(None, None, grad, neighbors, 6)) for _ in range(3))
    exact = torch.zeros(6, 9, dtype=torch.float64).index_add(
        0, neighbors.flatten(), grad.double().repeat_interleave(11, 0)
    )
    torch.testing.assert_close(first.double(), exact, rtol=1e-5, atol=1e-5)


def test_wrong_indices_read_as_nan_and_receive_nothing():
    b, neighbors, _ = problem(12, 10, 4, 3)
    neighbors[2, 1], neighbors[5, 0], neighbors[7, 3] = -1, 10, 2**40
    wrong = torch.tensor([2, 5, 7])
    best, slot, total = forward(b, neighbors)
    assert best[wrong].isnan().all() and total[wrong].isnan().all()
    good = [i for i in range(12) if i not in wrong]
    assert torch.equal(best[good], b[neighbors[good]].max(1).values)
    grad = backward(None, None, torch.ones(12, 3), neighbors, 10)
    assert torch.equal(grad[:, 0], torch.bincount(neighbors[(neighbors >= 0) & (neighbors < 10)], minlength=10).float())
    assert grad.sum() == 3 * (neighbors.numel() - 3)
    assert slot.max() < 4


def test_transposed_edges_can_be_handed_over():
    b, neighbors, draw = problem(20, 15, 4, 6)
    grad = torch.randn(20, 6, generator=draw).to(DEVICE)
    neighbors = neighbors.to(DEVICE)
    given = scatter(None, None, grad, neighbors, 15, transposed(neighbors, 15))
    assert torch.equal(given, scatter(None, None, grad, neighbors, 15))


def test_nothing_gives_nothing():
    best, slot, total = forward(torch.zeros(4, 3), torch.zeros(0, 2, dtype=torch.int64))
    assert best.shape == slot.shape == total.shape == (0, 3)
    assert torch.equal(
        backward(None, None, torch.zeros(0, 3), torch.zeros(0, 2, dtype=torch.int64), 4), torch.zeros(4, 3)
    )


def test_a_gradient_is_asked_for():
    with pytest.raises(ValueError, match="grad_max with slot"):
        scatter(None, None, None, torch.zeros(1, 1, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="grad_max with slot"):
        scatter(torch.zeros(1, 1), None, None, torch.zeros(1, 1, dtype=torch.int64), 1)
