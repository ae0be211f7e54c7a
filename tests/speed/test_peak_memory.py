from functools import partial

import pytest
import torch
from speed.measure import measure
from torch import nn

from geo3d.bench import memory
from geo3d.bench.case import Case


def megabytes(size, clouds):
    """A case that allocates a tensor of this many MB beyond its input while it works."""
    given = torch.ones(size * 250_000)
    return Case("t", {"copies": lambda: float((given + 1).sum())}, "copies", dict, clouds)


def test_the_peak_is_what_a_call_adds_and_is_given_per_cloud():
    record = measure(partial(megabytes, 200, 2), repeats=1, profiled=False, shortest=0)
    assert 95 < record["rows"][0]["peak_mb_per_cloud"] < 110


def small_step():
    """A case that trains a tiny network."""
    net, x = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)), torch.ones(2, 4, 8, 8)
    return Case("t", {"a": lambda: net(x).sum().backward()}, "a", dict, 1)


def test_what_libraries_set_up_for_themselves_is_not_counted():
    record = measure(small_step, repeats=1, profiled=False, shortest=0)
    assert record["rows"][0]["peak_mb_per_cloud"] < 2


@pytest.mark.skipif(not memory.STATUS.is_file(), reason="only Linux says it in two ways")
def test_where_the_system_keeps_no_such_file_the_most_is_known_all_the_same(monkeypatch, tmp_path):
    most = memory._resident("VmHWM")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    assert memory._resident("VmRSS") == 0
    assert most / 2 < memory._resident("VmHWM") < 2 * most
