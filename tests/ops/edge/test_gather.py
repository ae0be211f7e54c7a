"""Maxima over neighbours, their slots and the way back, against a loop over the rows."""

import pytest
import torch

from geo3d import seeds
from geo3d.ops import native
from geo3d.ops.edge.gather import gather_max, gather_sum


@pytest.fixture(params=[*native.builds(), None], ids=str)
def build(request):
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


def tied(channels, rows=40, k=6):
    """Whole numbers from 0 to 2, so that nearly every maximum is reached by several neighbours."""
    generator = seeds.generator(0, "gather", channels)
    b = torch.randint(3, (rows, channels), generator=generator).float()
    return b, torch.randint(rows, (2 * rows, k), generator=generator)


def plain(b, neighbors, grad):
    """Maxima and what comes back to b, where the first of equal neighbours gets it all."""
    best, back = torch.empty(len(neighbors), b.shape[1]), torch.zeros_like(b)
    for i, row in enumerate(neighbors.tolist()):
        for c in range(b.shape[1]):
            values = [float(b[j, c]) for j in row]
            best[i, c] = max(values)
            back[row[values.index(max(values))], c] += grad[i, c]
    return best, back


@pytest.mark.parametrize("channels", [1, 5, 16, 37])
def test_the_gradient_goes_to_the_first_of_equal_neighbours(build, channels):
    b, neighbors = tied(channels)
    grad = torch.randint(1, 9, (len(neighbors), channels), generator=seeds.generator(1)).float()  # sums are exact
    leaf = b.clone().requires_grad_()
    best = gather_max(leaf, neighbors)
    best.backward(grad)
    expected, back = plain(b, neighbors, grad)
    assert torch.equal(best, expected) and torch.equal(leaf.grad, back)


def test_sums_go_back_to_every_neighbour(build):
    b, neighbors = tied(5)
    leaf = b.clone().requires_grad_()
    gather_sum(leaf, neighbors).sum().backward()
    assert torch.equal(gather_sum(b, neighbors), b[neighbors].sum(1))
    assert torch.equal(leaf.grad, neighbors.flatten().bincount(minlength=len(b)).float()[:, None].expand_as(b))
