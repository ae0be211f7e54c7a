import pytest
import torch
from torch.testing import assert_close

from geo3d import seeds
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.dense.grouped import Rows, grouped_max, grouped_max_train, reference

EPS = 1e-5


def edges(groups, k, points, channels, seed=0):
    """A table as a ball query makes it, with rows that are full, filled up, and hold but one point."""
    generator = seeds.generator(seed, "edges")
    count = torch.randint(1, k + 1, (groups,), generator=generator)
    neighbors = torch.rand(groups, points, generator=generator).argsort(1)[:, :k].sort(1).values
    neighbors = torch.where(torch.arange(k) < count[:, None], neighbors, neighbors[:, :1])
    pos, centers = torch.randn(points, 3, generator=generator), torch.randn(groups, 3, generator=generator)
    features = torch.randn(points, channels, generator=generator) if channels else None
    return Rows(features, pos, centers, neighbors, count)


def plain_rows(groups, largest, channels, seed=0):
    generator = seeds.generator(seed, "rows")
    count = torch.randint(1, largest + 1, (groups,), generator=generator)
    return Rows(torch.randn(int(count.sum()), channels, generator=generator), None, None, None, count)


def own_edges(groups, k, points, channels, own, seed=0):
    """Edges whose centres have features, in place of offsets."""
    rows = edges(groups, k, points, channels, seed)
    features = torch.randn(groups, own, generator=seeds.generator(seed, "own"))
    return rows._replace(pos=None, centers=None, own=features)


CASES = {
    "edges": (edges(37, 6, 50, 5), [7, 9, 33]),
    "wide": (edges(60, 20, 80, 64), [64, 40, 96]),
    "four layers": (edges(30, 5, 20, 1), [3, 40, 17, 8]),
    "without features": (edges(50, 9, 40, 0), [64, 31]),
    "rows": (plain_rows(7, 50, 21), [33, 48, 70]),
    "own features": (own_edges(40, 6, 40, 5, 5), [7, 9, 33]),
    "own features, wide": (own_edges(40, 20, 40, 64, 64), [64, 64]),
    "offsets and own features": (edges(30, 6, 50, 4)._replace(own=torch.linspace(-1, 1, 60).view(30, 2)), [20, 17]),
    "one large group": (plain_rows(1, 900, 5, seed=3), [20, 35]),
}


@pytest.fixture(params=[*native.builds(), None], ids=str)
def build(request):
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


@pytest.fixture(params=CASES)
def case(request):
    rows, sizes = CASES[request.param]
    generator = seeds.generator(0, "weights")
    first = (0 if rows.pos is None else 3) + sum(0 if t is None else t.shape[1] for t in (rows.features, rows.own))
    inner = [first, *sizes[:-1]]
    weights = [torch.randn(b, a, generator=generator) / a**0.5 for a, b in zip(inner, sizes, strict=True)]
    norms = [torch.randn(size, generator=generator) for size in sizes for _ in range(3)]
    return rows, weights, norms


def in_double(tensors):
    return [t.double() if t is not None and t.is_floating_point() else t for t in tensors]


def with_statistics(norms):
    five = []
    for i in range(0, len(norms), 3):
        five += [*norms[i : i + 3], norms[i].flip(0), norms[i].square() + 0.5]
    return five


ENDS = pytest.mark.parametrize(("activated", "slope"), [(True, 0.0), (False, 0.0), (True, 0.2), (False, 0.2)])


@ENDS
def test_with_given_statistics(build, case, activated, slope):
    rows, weights, norms = case
    five = with_statistics(norms)
    wanted = reference(Rows(*in_double(rows)), in_double(weights), in_double(five), EPS, activated, slope)[0]
    found = grouped_max(rows, weights, five, EPS, activated, slope)
    assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@ENDS
def test_in_training(build, case, activated, slope):
    rows, weights, norms = case
    outputs, grads = [], []
    for kind in (list, in_double):
        given = kind(rows)
        leaves = [t.clone().requires_grad_() for t in kind([*weights, *norms])]
        for i in (0, 5):
            given[i] = None if given[i] is None else given[i].clone().requires_grad_()
        split = leaves[: len(weights)], leaves[len(weights) :]
        if kind is list:
            out, mean, var = grouped_max_train(Rows(*given), *split, EPS, activated, slope)
        else:
            out, _, _, moments = reference(Rows(*given), *split, EPS, activated, slope)
            total = sum(len(w) for w in weights)
            mean, var = moments[:total] + torch.cat(split[1][::3]).detach(), moments[total : 2 * total]
        outputs.append((out, mean, var))
        ask = torch.randn(out.shape, generator=seeds.generator(0, "ask"))
        (out * ask).sum().backward()
        grads.append([t.grad for t in (given[0], given[5], *leaves) if t is not None])
    for found, wanted in zip(*outputs, strict=True):
        assert_close(found.double(), wanted, rtol=2e-5, atol=2e-5)
    for found, wanted in zip(*grads, strict=True):
        if wanted is None:  # a bias in front of statistics
            assert found is None or not bool(found.any())
        else:
            assert float((found - wanted).abs().max()) < 2e-5 * (1 + float(wanted.abs().max()))


def test_an_edge_convolution_of_two_layers_is_the_published_one():
    """Rows [x_j - x_i ; x_i] of DGCNN, from one product per point: the columns of own features are Wc - Wd."""
    rows, draw = own_edges(40, 6, 40, 5, 5), seeds.generator(0, "published")
    x = torch.randn(40, 5, generator=draw)
    rows = rows._replace(features=x, own=x)
    first, second = torch.randn(7, 10, generator=draw), torch.randn(9, 7, generator=draw)
    norms = [torch.randn(size, generator=draw) for size in (7, 9) for _ in range(3)]
    of_difference, of_center = first.chunk(2, 1)
    factored = torch.cat([of_difference, of_center - of_difference], 1)
    found, _, _ = grouped_max_train(rows, [factored, second], norms, EPS, True, 0.2)
    edge = torch.cat([x[rows.neighbors] - x[:, None], x[:, None].expand(-1, 6, -1)], 2).double()
    for weight, (bias, gamma, beta) in ((first, norms[:3]), (second, norms[3:])):
        y = edge @ weight.double().t() + bias
        y = (y - y.mean((0, 1))) / (y.var((0, 1), correction=0) + EPS).sqrt() * gamma + beta
        edge = torch.nn.functional.leaky_relu(y, 0.2)
    assert_close(found.double(), edge.amax(1), rtol=2e-5, atol=2e-5)


def test_gradients_with_given_statistics(case):
    rows, weights, norms = case
    five, grads = with_statistics(norms), []
    for off in (False, True):
        leaves = [t.clone().requires_grad_() for t in (*weights, *five[1:3])]
        given = leaves[: len(weights)], [five[0], *leaves[len(weights) :], *five[3:]]
        out = reference(rows, *given, EPS, True, 0.2)[0] if off else grouped_max(rows, *given, EPS, True, 0.2)
        out.square().sum().backward()
        grads.append([t.grad for t in leaves])
    assert_close(*grads, rtol=1e-4, atol=1e-4)


# The portable build leaves the first product to torch, whose bits depend on its threads.
@pytest.mark.parametrize("build", [build for build in native.builds() if build != "portable"], indirect=True)
def test_threads_change_no_bit(build, case):
    rows, weights, norms = case
    leaves = [t.clone().requires_grad_() for t in weights]
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out, mean, var = grouped_max_train(rows, leaves, norms, EPS)
            grads = torch.autograd.grad(out.square().sum(), leaves)
            results.append([out, mean, var, grouped_max(rows, weights, with_statistics(norms), EPS), *grads])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.skipif(not native.builds(), reason="no compiled kernels")
def test_the_first_of_equal_rows_gets_the_gradient():
    rows = Rows(torch.tensor([[1.0], [3.0], [3.0], [2.0]]), None, None, None, torch.tensor([4]))
    weights, norms = [torch.ones(1, 1)] * 2, [torch.zeros(1), torch.ones(1), torch.zeros(1)] * 2
    slot = torch.ops.geo3d.grouped_max_train(*rows, weights, norms, EPS, True, 0.0)[2]
    assert slot.tolist() == [[1]]


def test_operators_are_what_they_say(case):
    rows, weights, norms = case
    for op, given in (("grouped_max", with_statistics(norms)), ("grouped_max_train", norms)):
        leaves = [t.clone().requires_grad_() for t in weights]
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(
            getattr(torch.ops.geo3d, op).default, (*rows, leaves, given, EPS, True, 0.2), test_utils=tests
        )


def test_compiles_without_breaks(case):
    rows, weights, norms = case
    leaves = [t.clone().requires_grad_() for t in weights]

    def step(*weights):
        out, mean, var = grouped_max_train(rows, weights, norms, EPS)
        return out.sum() + grouped_max(rows, weights, with_statistics(norms), EPS).sum() + mean.sum() + var.sum()

    wanted = torch.autograd.grad(step(*leaves), leaves)
    torch.compiler.reset()  # each case compiles anew, and there is a limit
    found = torch.compile(step, backend="aot_eager", fullgraph=True)(*leaves)
    assert_close(torch.autograd.grad(found, leaves), wanted)


@pytest.mark.parametrize("build", native.builds(), indirect=True)
def test_faulty_values(build):
    rows, sizes = CASES["edges"]
    weights = [torch.ones(b, a) for a, b in zip([8, *sizes[:-1]], sizes, strict=True)]
    norms = [torch.ones(size) for size in sizes for _ in range(5)]
    neighbors = rows.neighbors.clone()
    neighbors[3, 0] = 50
    with pytest.raises(CloudError, match="out of range"):
        grouped_max(rows._replace(neighbors=neighbors), weights, norms, EPS)
    with pytest.raises(CloudError, match="out of range"):
        grouped_max(rows._replace(counts=rows.counts + 6), weights, norms, EPS)
    with pytest.raises(CloudError, match="NaN"):
        grouped_max(rows._replace(pos=rows.pos / 0), weights, norms, EPS)
    own = own_edges(10, 3, 20, 4, 4)
    with pytest.raises(CloudError, match="NaN"):
        grouped_max(own._replace(own=own.own / 0), weights, norms, EPS)
    with pytest.raises(CloudError, match="offsets"):
        plain = Rows(torch.ones(9, 8), None, None, None, torch.tensor([4, 4]))
        grouped_max(plain, weights, norms, EPS)
