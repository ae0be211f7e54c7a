"""Tolerance for the difference between two forms of one function."""

import torch


def assert_as_near(found, published, exact, tolerance):
    """Check that ours equals the published form in float64, and in float32 has at most 8 times its rounding error."""
    if found.dtype == torch.float64:
        torch.testing.assert_close(found, published, rtol=tolerance, atol=tolerance)
        return
    rounding = (published.double() - exact).abs().max().clamp_min(torch.finfo(found.dtype).eps * exact.abs().max())
    assert float((found.double() - exact).detach().abs().max()) <= 8 * float(rounding.detach())
