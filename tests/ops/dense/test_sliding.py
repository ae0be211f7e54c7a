import pytest
import torch
from torch.library import opcheck

from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.dense.sliding import sliding_sum

BUILDS = [*native.builds(), None]
SIZES = [(1, 1), (5, 1), (7, 7), (16, 8), (37, 20), (64, 50), (130, 33)]


def switched(build):
    return native.using(build) if build else native.disabled()


def drawn(rows, channels, dtype=torch.float32):
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(rows, channels, generator=generator, dtype=dtype)
    return x, torch.randperm(channels, generator=generator)


def plain(x, rank, order, scale):
    out = []
    for r in range(rank):
        total = x.new_zeros(len(x))
        for p in range(r, r + x.shape[1] - rank + 1):
            total = total + x[:, order[p]]
        out.append(total * scale)
    return torch.stack(out, 1)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("channels", "rank"), SIZES)
def test_equals_plain_sums_in_double_precision(build, channels, rank):
    x, order = drawn(75, channels)
    grad = drawn(75, rank)[0]
    leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    with switched(build):
        out = sliding_sum(leaf, rank, order, 0.3)
        out.backward(grad)
    expected = plain(exact, rank, order.tolist(), 0.3)
    expected.backward(grad.double())
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(leaf.grad.double(), exact.grad, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("rank", [500, 250])
def test_what_lies_outside_a_window_costs_no_digits(build, rank):
    x, _ = drawn(40, 512)
    x[:, :10] += 1e6
    with switched(build):
        out = sliding_sum(x, rank)
    small, large = out[:, 10:].double(), x.double()
    exact = sliding_sum(large, rank)[:, 10:]
    assert (small - exact).abs().max() < 1e-4
    running = torch.nn.functional.pad(x.cumsum(1), (1, 0))  # in single precision that would be
    assert ((running[:, 513 - rank :] - running[:, :rank])[:, 10:] - exact).abs().max() > 0.1


@pytest.mark.parametrize("build", BUILDS)
def test_without_an_order_channels_stand_as_they_lie(build):
    x, _ = drawn(10, 37)
    with switched(build):
        torch.testing.assert_close(sliding_sum(x, 9), sliding_sum(x, 9, torch.arange(37)), rtol=0, atol=0)


@pytest.mark.parametrize("build", BUILDS)
def test_no_rows_no_sums(build):
    with switched(build):
        x = torch.zeros(0, 20, requires_grad=True)
        out = sliding_sum(x, 8)
        out.sum().backward()
    assert out.shape == (0, 8)
    assert x.grad.shape == (0, 20)


@pytest.mark.parametrize("build", native.builds())
def test_same_bits_at_any_number_of_threads_and_from_columns(build):
    x, order = drawn(333, 70)
    grad = drawn(333, 20)[0]
    results, before = [], torch.get_num_threads()
    with native.using(build):
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                leaf = x.clone().requires_grad_()
                out = sliding_sum(leaf, 20, order)
                out.backward(grad)
                results.append((out.detach(), leaf.grad))
        finally:
            torch.set_num_threads(before)
        results.append((sliding_sum(x.t().contiguous().t(), 20, order), results[0][1]))
    for out, back in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(back, results[0][1])


def test_gradients_of_first_and_second_order():
    x, order = drawn(3, 9, torch.float64)
    x.requires_grad_()
    for rank in (1, 4, 7, 9):
        assert torch.autograd.gradcheck(lambda t, rank=rank: sliding_sum(t, rank, order, 0.7), x)
        assert torch.autograd.gradgradcheck(lambda t, rank=rank: sliding_sum(t, rank, order, 0.7), x)


@pytest.mark.parametrize("build", BUILDS)
def test_operators_are_registered_in_full(build):
    x, order = drawn(6, 12)
    with switched(build):
        for given in (order, None):
            opcheck(torch.ops.geo3d.sliding_sum, (x.clone().requires_grad_(), 5, given, 0.5))
            opcheck(torch.ops.geo3d.sliding_spread, (x[:, :5].clone().requires_grad_(), 12, given, 0.5))


def test_what_does_not_fit_is_refused():
    x, order = drawn(4, 6)
    for rank in (0, 7):
        with pytest.raises(CloudError, match=f"rank {rank}"):
            sliding_sum(x, rank)
    with pytest.raises(CloudError, match=r"permutation \(6,\)"):
        sliding_sum(x, 2, order[:5])
    with pytest.raises(CloudError, match="int32"):
        sliding_sum(x, 2, order.int())
    with pytest.raises(CloudError, match="matrix"):
        sliding_sum(x[0], 2)


@pytest.mark.parametrize("build", native.builds())
def test_an_order_that_is_no_permutation_is_refused(build):
    x, order = drawn(4, 6)
    with native.using(build):
        for wrong in (-1, 6, int(order[1])):
            with pytest.raises(CloudError, match="order"):
                sliding_sum(x, 2, torch.tensor([wrong, *order[1:].tolist()]))
