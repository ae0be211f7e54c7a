import pytest
import torch
from torch.nn.functional import leaky_relu

from geo3d.cloud import Layout
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.dense.pooling import linear_pool, max_and_mean, norm_pool

BUILDS = [*native.builds(), None]
SIZES = {"uniform": [50, 50], "ragged": [1, 300, 13]}


def switched(build):
    return native.using(build) if build else native.disabled()


def layer(sizes, inner, channels):
    generator = torch.Generator().manual_seed(0)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    shapes = (sum(sizes), inner), (channels, inner), (channels,), (channels,)
    x, weight, gamma, beta = (torch.randn(*shape, generator=generator) for shape in shapes)
    return x + 2, weight, gamma, beta, ptr


def cloud_by_cloud(z, ptr, slope):
    clouds = [leaky_relu(z[a:b], slope) for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]
    return torch.stack([torch.cat([cloud.amax(0), cloud.mean(0)]) for cloud in clouds])


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("inner", "channels", "slope"), [(3, 16, 0.2), (40, 33, 0.0), (64, 260, 0.2)])
def test_training_equals_plain_torch_in_double_precision(build, sizes, inner, channels, slope):
    *given, ptr = layer(sizes, inner, channels)
    grad = torch.randn(len(sizes), 2 * channels, generator=torch.Generator().manual_seed(1))
    leaves, exact = [t.clone().requires_grad_() for t in given], [t.double().requires_grad_() for t in given]
    with switched(build):
        out, mean, var, count = norm_pool(*leaves, ptr, 1e-5, slope)
        out.backward(grad)
    x, weight, gamma, beta = exact
    h = x @ weight.t()
    z = (h - h.mean(0)) * torch.rsqrt(h.var(0, unbiased=False) + 1e-5) * gamma + beta
    expected = cloud_by_cloud(z, ptr, slope)
    expected.backward(grad.double())
    assert count == sum(sizes)
    for ours, theirs in ((out, expected), (mean, h.mean(0)), (var, h.var(0, unbiased=False))):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(leaves, exact, strict=True):
        scale = theirs.grad.abs().max().item()
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-3, atol=2e-4 * scale)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("inner", "channels"), [(3, 1), (64, 128), (100, 330)])
def test_evaluation_equals_plain_torch(build, inner, channels):
    x, weight, scale, shift, ptr = layer([200, 1, 431], inner, channels)
    with switched(build):
        out = linear_pool(x, weight, scale, shift, ptr, 0.2)
    z = x.double() @ weight.double().t() * scale + shift
    torch.testing.assert_close(out.double(), cloud_by_cloud(z, ptr, 0.2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_points", [None, 4])
def test_maximum_and_mean(num_points):
    x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ptr = torch.tensor([0, 4, 8])
    assert torch.allclose(max_and_mean(x, Layout(ptr, num_points)), cloud_by_cloud(x, ptr, 1.0))
    assert torch.autograd.gradcheck(lambda x: max_and_mean(x, Layout(ptr, num_points)), x)


@pytest.mark.parametrize("build", native.builds())
def test_bits_do_not_depend_on_the_threads(build):
    x, *rest = layer([600, 300, 900], 40, 96)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            x = x.detach().requires_grad_()
            with switched(build):
                norm_pool(x, *rest)[0].square().sum().backward()
                results.append((x.grad, linear_pool(x, *rest, 0.2)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for result in results for one, other in zip(result, results[0], strict=True))


@pytest.mark.parametrize("build", BUILDS)
def test_operators_are_sound(build):
    x, weight, gamma, beta, ptr = layer([20, 12], 5, 20)
    with switched(build):
        given = (x.requires_grad_(), weight.requires_grad_(), gamma, beta, ptr)
        torch.library.opcheck(torch.ops.geo3d.norm_pool, (*given, 1e-5, 0.2, False))
        given = (x.detach(), weight.detach(), gamma, beta, ptr)
        torch.library.opcheck(torch.ops.geo3d.linear_pool, (*given, 0.2))


@pytest.mark.skipif(not native.builds(), reason="the compiled kernels are not installed")
@pytest.mark.parametrize("ptr", [[0, 5, 5, 10], [0, 4], [1, 10], [0, 12, 10]])
def test_wrong_offsets_are_refused(ptr):
    x, weight, gamma, beta, _ = layer([10], 3, 16)
    for function in (lambda *given: norm_pool(*given), lambda *given: linear_pool(*given, 0.2)):
        with pytest.raises(CloudError, match="ptr has offsets"):
            function(x, weight, gamma, beta, torch.tensor(ptr))


@pytest.mark.parametrize("wrong", ["weight", "ptr"])
def test_what_does_not_fit_is_refused_before_a_kernel_sees_it(wrong):
    x, weight, gamma, beta, ptr = layer([10], 3, 16)
    weight, ptr = weight[:, :2] if wrong == "weight" else weight, ptr.int() if wrong == "ptr" else ptr
    for function in (lambda *given: norm_pool(*given), lambda *given: linear_pool(*given, 0.2)):
        with pytest.raises(CloudError, match="pooling needs x"):
            function(x, weight, gamma, beta, ptr)
