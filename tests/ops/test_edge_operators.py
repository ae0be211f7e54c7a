import pytest
import torch
from torch.nn.functional import leaky_relu

from geo3d.cloud import Layout
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.edge.conv import edge_conv, edge_conv_fixed, edge_conv_reference
from geo3d.ops.edge.gather import gather_max
from geo3d.ops.search.knn import knn

BUILDS = [*native.builds(), None]
SIZES = {"uniform": [40, 40, 40], "ragged": [7, 90, 1, 33]}


def layer(sizes, k, inner, channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    x = torch.randn(sum(sizes), inner, generator=generator) * 3 + 5  # far from zero: sums must not cancel
    shapes = (channels, 2 * inner), (channels,), (channels,)
    weight, gamma, beta = (torch.randn(*shape, generator=generator) for shape in shapes)
    return x, weight, gamma, beta, knn(x, Layout(ptr), k)


def switched(build):
    return native.using(build) if build else native.disabled()


def edge_by_edge(x, weight, gamma, beta, neighbors, eps, slope):
    """Plain: all edges at once, in double precision."""
    center = x[:, None].expand(-1, neighbors.shape[1], -1)
    edges = torch.cat([x[neighbors] - center, center], 2) @ weight.t()
    mean, var = edges.mean((0, 1)), edges.var((0, 1), unbiased=False)
    return leaky_relu((edges - mean) * torch.rsqrt(var + eps) * gamma + beta, slope).amax(1), mean, var


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(
    ("k", "inner", "channels", "slope"), [(1, 3, 16, 0.2), (5, 7, 20, 0.0), (20, 16, 64, 0.2), (9, 33, 130, 1.0)]
)
def test_training_equals_edge_by_edge(build, sizes, k, inner, channels, slope):
    given = layer(sizes, k, inner, channels)
    grad = torch.randn(sum(sizes), channels, generator=torch.Generator().manual_seed(1))
    leaves = [t.clone().requires_grad_() for t in given[:4]]
    exact = [t.double().requires_grad_() for t in given[:4]]
    with switched(build):
        out, mean, var, count = edge_conv(*leaves, given[4], 1e-5, slope)
        out.backward(grad)
    expected, exact_mean, exact_var = edge_by_edge(*exact, given[4], 1e-5, slope)
    expected.backward(grad.double())
    assert count == given[4].numel()
    for ours, theirs in ((out, expected), (mean, exact_mean), (var, exact_var)):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(leaves, exact, strict=True):
        scale = theirs.grad.abs().max().item()
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=2e-4 * scale)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("channels", [1, 16, 40, 200])
def test_evaluation_equals_edge_by_edge(build, channels):
    x, weight, scale, shift, neighbors = layer(SIZES["ragged"], 6, 5, channels)
    with switched(build):
        out = edge_conv_fixed(x, weight, scale, shift, neighbors, 0.2)
    center = x.double()[:, None].expand(-1, 6, -1)
    edges = torch.cat([x.double()[neighbors] - center, center], 2) @ weight.double().t()
    torch.testing.assert_close(out.double(), leaky_relu(edges * scale + shift, 0.2).amax(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", native.builds())
def test_bits_do_not_depend_on_the_threads(build):
    x, *rest = layer([300, 500], 20, 32, 48)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            x = x.detach().requires_grad_()
            with switched(build):
                out = edge_conv(x, *rest)[0]
                out.square().sum().backward()
            results.append((out.detach(), x.grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for result in results for one, other in zip(result, results[0], strict=True))


@pytest.mark.parametrize("build", BUILDS)
def test_double_precision_goes_by_the_reference(build):
    given = [t.double() if t.is_floating_point() else t for t in layer([30], 4, 3, 8)]
    with switched(build):
        ours = edge_conv(*given)
    for one, other in zip(ours, edge_conv_reference(*given, 1e-5, 0.2), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("wrong", [-1, 30, 1 << 60])
@pytest.mark.skipif(not native.builds(), reason="the compiled kernels are not installed")
def test_index_out_of_range_is_refused(wrong):
    x, weight, gamma, beta, neighbors = layer([30], 4, 3, 8)
    neighbors[17, 2] = wrong
    with pytest.raises(CloudError, match="neighbors must hold indices of rows; one is out of range"):
        edge_conv(x, weight, gamma, beta, neighbors)
    with pytest.raises(CloudError, match="neighbors must hold indices of rows; one is out of range"):
        edge_conv_fixed(x, weight, gamma, beta, neighbors, 0.2)


def test_graph_can_be_gone_through_twice():
    x, *rest = layer([30], 4, 3, 16)
    x.requires_grad_()
    loss = edge_conv(x, *rest)[0].square().sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, second)


@pytest.mark.parametrize("build", BUILDS)
def test_operator_is_sound(build):
    x, weight, gamma, beta, neighbors = layer([20, 12], 3, 5, 20)
    given = (x.requires_grad_(), weight.requires_grad_(), gamma, beta, neighbors, 1e-5, 0.2, False)
    with switched(build):
        torch.library.opcheck(torch.ops.geo3d.edge_conv, given)
        torch.library.opcheck(
            torch.ops.geo3d.edge_conv_fixed, (x.detach(), weight.detach(), gamma, beta, neighbors, 0.2)
        )


def test_table_of_more_than_a_byte_of_slots():
    x, weight, gamma, beta, neighbors = layer([400], 300, 3, 16)
    out = edge_conv(x, weight, gamma, beta, neighbors)[0]
    expected = edge_by_edge(*(t.double() for t in (x, weight, gamma, beta)), neighbors, 1e-5, 0.2)[0]
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", ["int32", "longer", "no neighbours", "weight", "shift"])
def test_what_does_not_fit_is_refused_before_a_kernel_sees_it(wrong):
    x, weight, gamma, beta, neighbors = layer([30], 4, 3, 8)
    neighbors = {
        "int32": neighbors.int(),
        "longer": torch.cat([neighbors, neighbors]),
        "no neighbours": neighbors[:, :0],
    }.get(wrong, neighbors)
    weight, beta = weight[:, :5] if wrong == "weight" else weight, beta[:7] if wrong == "shift" else beta
    for function in (edge_conv, lambda *given: edge_conv_fixed(*given, 0.2)):
        with pytest.raises(CloudError, match="neighbors must be|an edge convolution needs"):
            function(x, weight, gamma, beta, neighbors)
    if wrong in ("int32", "no neighbours"):
        with pytest.raises(CloudError, match="neighbors must be"):
            gather_max(x, neighbors)
