import pytest
import torch

from geo3d.ops import native
from geo3d.ops.dense.matrix import linear, multiply, outer

SHAPES = [(1, 1, 1), (5, 3, 7), (12, 32, 64), (100, 33, 3), (700, 130, 300), (2000, 6, 64)]


@pytest.mark.parametrize("build", [*native.builds(), None])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_equal_those_in_double_precision(build, shape):
    rows, columns, depth = shape
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, depth, generator=generator)
    weight = torch.randn(columns, depth, generator=generator)
    bias, grad = torch.randn(columns, generator=generator), torch.randn(rows, columns, generator=generator)
    with native.using(build) if build else native.disabled():
        found = linear(x, weight, bias), multiply(grad, weight), outer(grad, x)
    x, weight, bias, grad = x.double(), weight.double(), bias.double(), grad.double()
    for ours, exact in zip(found, (x @ weight.t() + bias, grad @ weight, grad.t() @ x), strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5 * max(rows, depth) ** 0.5)


def test_strided_factors_are_read_as_they_lie():
    wide = torch.randn(50, 100, generator=torch.Generator().manual_seed(0))
    part, turned = wide[:, 10:42], wide.t()
    torch.testing.assert_close(linear(part, part), part @ part.t(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(multiply(turned, wide), turned @ wide, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outer(part, wide), part.t() @ wide, rtol=1e-5, atol=1e-5)


def test_double_precision_goes_by_torch():
    x = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(multiply(x, x.t()), x @ x.t())


@pytest.mark.parametrize("build", [*native.builds(), None])
def test_autocast_leaves_them_in_full_precision(build):
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    with native.using(build) if build else native.disabled(), torch.autocast("cpu", dtype=torch.bfloat16):
        results = linear(x, x), multiply(x, x.t()), outer(x, x)
    for result, exact in zip(results, (x @ x.t(), x @ x.t(), x.t() @ x), strict=True):
        torch.testing.assert_close(result, exact, rtol=1e-5, atol=1e-5)
