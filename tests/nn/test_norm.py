"""One process; the statistics of several are tested in tests/test_distributed.py."""

import pytest
import torch
from torch import nn

from geo3d.nn.norm import BatchNorm
from geo3d.seeds import generator


@pytest.mark.parametrize("momentum", [0.1, None])
def test_equals_torch(momentum):
    ours, torchs = BatchNorm(3, momentum=momentum).double(), nn.BatchNorm1d(3, momentum=momentum).double()
    torchs.load_state_dict(ours.state_dict())
    g = generator("norm")
    for training in (True, True, False):
        x = torch.randn(7, 3, generator=g, dtype=torch.float64, requires_grad=True)
        y, expected = ours.train(training)(x), torchs.train(training)(x)
        assert torch.equal(y, expected)
        assert torch.equal(*(torch.autograd.grad((out**3).sum(), x)[0] for out in (y, expected)))
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in torchs.state_dict().items())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_update_moves_the_running_statistics_as_torch_does(momentum):
    ours, torchs = BatchNorm(3, momentum=momentum), nn.BatchNorm1d(3, momentum=momentum)
    g = generator("update")
    for count in (5, 9):
        x = 2 + torch.randn(count, 3, generator=g)
        ours.update(x.mean(0), x.var(0, unbiased=False), float(count))
        torchs(x)
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(ours, key), getattr(torchs, key))


def test_update_with_one_row_stays_finite():
    norm = BatchNorm(2)
    norm.update(torch.ones(2), torch.zeros(2), 1.0)
    assert norm.running_var.isfinite().all()


def test_update_without_running_statistics_does_nothing():
    norm = BatchNorm(2)
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    norm.update(torch.ones(2), torch.ones(2), 4.0)
    assert norm(torch.eye(2)).isfinite().all() and int(norm.num_batches_tracked) == 0


def test_one_process_shares_nothing():
    norm, x = BatchNorm(2), torch.ones(2)
    assert not norm.shared and norm.joined(x)[0] is x
