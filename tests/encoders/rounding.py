"""How far two forms of one function may be apart."""

import torch


def assert_as_near(found, published, exact, tolerance):
    """In single precision ours may be 8 times as far from the exact value as the published form in that precision."""
    if found.dtype == torch.float64:
        torch.testing.assert_close(found, published, rtol=tolerance, atol=tolerance)
        return
    rounding = (published.double() - exact).abs().max().clamp_min(torch.finfo(found.dtype).eps * exact.abs().max())
    assert float((found.double() - exact).detach().abs().max()) <= 8 * float(rounding.detach())
