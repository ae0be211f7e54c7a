from itertools import count

import pytest
from speed import roofline


def test_rates_are_work_over_time(monkeypatch):
    seconds = count()  # every interval lasts one second
    monkeypatch.setattr(roofline, "perf_counter", lambda: float(next(seconds)))
    limits = roofline.measured(repeats=3, scale=64)
    assert limits.copy == pytest.approx(8e-9 * 2**20)
    rows, inner, outer = roofline.SIZES[0]
    assert limits.gflops[f"{rows // 64} x {inner} x {outer}"] == pytest.approx(2e-9 * (rows // 64) * inner * outer)
    assert limits.best == max(limits.gflops.values())
