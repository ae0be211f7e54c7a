from functools import partial

import torch

from geo3d.bench.case import Case
from geo3d.bench.measure import measure


def megabytes(size, clouds):
    """A case that holds a tensor of so many MB beyond its input while it works."""
    given = torch.ones(size * 250_000)
    return Case("t", {"copies": lambda: float((given + 1).sum())}, "copies", dict, clouds)


def test_the_peak_is_what_a_call_adds_and_is_given_per_cloud():
    record = measure(partial(megabytes, 200, 2), repeats=1, profiled=False, shortest=0)
    assert 95 < record["rows"][0]["peak_mb_per_cloud"] < 110
