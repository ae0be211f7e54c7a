import pytest
import torch
from torch.nn.functional import leaky_relu

from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.edge.join import edge_join, edge_join_reference
from geo3d.seeds import generator

BUILDS = [None, *native.builds()]


@pytest.fixture(params=BUILDS, ids=lambda build: build or "torch")
def build(request):
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


def made(rows=37, channels=20, k=5, dtype=torch.float32):
    draw = generator("edge_join", rows, channels)
    a, b = (torch.randn(rows, channels, generator=draw, dtype=torch.float64) for _ in range(2))
    gamma = torch.rand(channels, generator=draw, dtype=torch.float64) + 0.1
    beta = torch.randn(channels, generator=draw, dtype=torch.float64)
    neighbors = torch.randint(rows, (rows, k), generator=draw)
    grad = torch.randn(rows, channels, generator=draw, dtype=torch.float64)
    return [t.to(dtype) for t in (a, b, gamma, beta)], neighbors, grad.to(dtype)


def rounded(b):
    return (b * 2).round() / 2  # coarse: most maxima are tied


def by_edges(a, b, exact, gamma, beta, neighbors, eps=1e-5, slope=0.2):
    """All edges, float64, the slot of the maximum from the values before rounding."""
    y = a[:, None] + b[neighbors]
    mean, var = y.mean((0, 1)), y.var((0, 1), correction=0)
    z = leaky_relu((y - mean) * torch.rsqrt(var + eps) * gamma + beta, slope)
    slot = (b if exact is None else exact)[neighbors].argmax(1, keepdim=True)
    return z.gather(1, slot)[:, 0], mean, var


@pytest.mark.parametrize("exactly", [False, True])
@pytest.mark.parametrize("channels", [16, 20, 3])
def test_like_all_edges(build, channels, exactly):
    (a, b, gamma, beta), neighbors, grad = made(channels=channels)
    leaves = [t.double().requires_grad_() for t in (a, rounded(b) if exactly else b, gamma, beta)]
    wanted, mean, var = by_edges(leaves[0], leaves[1], b.double() if exactly else None, *leaves[2:], neighbors)
    expected = torch.autograd.grad(wanted, leaves, grad.double())
    ab = torch.cat([a, rounded(b) if exactly else b], 1).requires_grad_()
    gamma, beta = gamma.requires_grad_(), beta.requires_grad_()
    out, m, v, count = edge_join(ab, b if exactly else None, gamma, beta, neighbors)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(m.double(), mean.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(v.double(), var.detach(), rtol=1e-4, atol=1e-5)
    assert count == neighbors.numel()
    found = torch.autograd.grad(out, [ab, gamma, beta], grad)
    for one, other in zip(found, [torch.cat(expected[:2], 1), *expected[2:]], strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_gradient_goes_where_the_exact_value_is_largest(build):
    a, exact = torch.zeros(3, 16), torch.tensor([[0.1], [0.3], [0.2]]).expand(3, 16).contiguous()
    b = torch.zeros(3, 16)  # rounded: all tied
    ab = torch.cat([a, b], 1).requires_grad_()
    neighbors = torch.tensor([[0, 1, 2]] * 3)
    weights = torch.tensor([[1.0], [2.0], [4.0]]).expand(3, 16)
    out, *_ = edge_join(ab, exact, torch.ones(16), torch.ones(16), neighbors, eps=1.0)
    (grad,) = torch.autograd.grad((out * weights).sum(), ab)
    assert grad[1, 16:].abs().sum() > 0 and (grad[1, 16:] > grad[0, 16:]).all() and (grad[0, 16:] == grad[2, 16:]).all()


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_reference_in_double_precision(slope):
    (a, b, gamma, beta), neighbors, _ = made(rows=6, channels=3, k=3, dtype=torch.float64)

    def function(a, b, gamma, beta):
        return edge_join_reference(a, b, None, gamma, beta, neighbors, 1e-5, slope)[0]

    assert torch.autograd.gradcheck(function, [t.requires_grad_() for t in (a, b, gamma, beta)])


def test_operator(build):
    (a, b, gamma, beta), neighbors, _ = made()
    given = (
        torch.cat([a, rounded(b)], 1).requires_grad_(),
        b,
        gamma.requires_grad_(),
        beta.requires_grad_(),
        neighbors,
    )
    torch.library.opcheck(torch.ops.geo3d.edge_join.default, (*given, 1e-5, 0.2, False))


def test_threads_do_not_matter():
    if not native.builds():
        pytest.skip("no compiled kernels here")
    (a, b, gamma, beta), neighbors, grad = made(rows=700, channels=32)
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        ab = torch.cat([a, b], 1).requires_grad_()
        out, *_ = edge_join(ab, None, gamma, beta, neighbors)
        results.append((out, *torch.autograd.grad(out, ab, grad)))
    torch.set_num_threads(before)
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))


def test_shapes_that_do_not_fit():
    (a, b, gamma, beta), neighbors, _ = made()
    for ab, exact in ((torch.cat([a, b, b], 1), None), (torch.cat([a, b], 1), b[:, :3]), (torch.cat([a, b], 1)[:5], b)):
        with pytest.raises(CloudError):
            edge_join(ab, exact, gamma, beta, neighbors)
