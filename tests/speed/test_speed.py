"""The cases under pytest-benchmark, for its tables; the tests assert only that outputs are equal.

``pytest tests/speed/test_speed.py --benchmark-group-by=group``; realistic sizes with ``GEO3D_BENCH_FULL=1``.
"""

import os

import pytest
from speed.encoders import encoder_cases
from speed.kernels import kernel_cases
from speed.training import training_cases

pytest.importorskip("pytest_benchmark")

FULL = os.environ.get("GEO3D_BENCH_FULL") == "1"
SIZES = {} if FULL else {"points": 96, "k": 6, "ragged": (40, 100)}
MAKES = kernel_cases(**({} if FULL else {"clouds": (2,), "large": 128, "ragged_clouds": 3}), **SIZES)
MAKES += encoder_cases(**({} if FULL else {"clouds": (2,), "ragged_clouds": 3}), **SIZES)
MAKES += training_cases(**({} if FULL else {"clouds": (2,)}), **SIZES)


@pytest.mark.parametrize("contender", ["geo3d", "reference"])
@pytest.mark.parametrize("make", MAKES, ids=range(len(MAKES)))
def test_speed(benchmark, make, contender):
    case = make()
    benchmark.group = case.title
    name = case.reference if contender == "reference" else next(iter(case.calls))
    benchmark.pedantic(case.calls[name], rounds=5 if FULL else 1, warmup_rounds=1)
    assert all(check.passed for check in case.check().get(name, []))
