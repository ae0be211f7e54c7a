import sys

import torch
from speed.roofline import measured

from geo3d.bench.stages import stages, written
from geo3d.bench.timing import interleaved
from geo3d.machine import machine, processor
from geo3d.version import commit


def test_contenders_take_turns_and_rounds_begin_with_another_one():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    times = interleaved(calls, 3, shortest=0.0)
    assert order[:6] == list("aabbcc")
    assert order[6:] == list("abcbcacab")
    assert all(len(taken) == 3 and min(taken) > 0 for taken in times.values())


def test_quick_calls_are_repeated_within_a_sample():
    count = 0

    def call():
        nonlocal count
        count += 1

    interleaved({"a": call}, 1, shortest=1e-3)
    assert count > 10


def test_stages_add_up_and_name_the_products(capfd):
    a = torch.ones(300, 300)
    shares = stages(lambda: a @ a)
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert max(shares, key=shares.__getitem__) == "products"
    assert written(shares).startswith("products ")
    print("said", file=sys.stderr)
    assert capfd.readouterr().err == "said\n"  # nothing of the profiler's, and ours is back


def test_the_machine_is_described():
    described = machine("none")
    assert described["processor"] == processor()[0]
    assert described["threads"] == torch.get_num_threads()
    assert torch.__version__ in described["torch"]
    assert commit() is None or len(commit()) >= 7


def test_limits_are_positive():
    limits = measured(1, scale=64)
    assert limits.best == max(limits.gflops.values()) > 0 and limits.copy > 0
