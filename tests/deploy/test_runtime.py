"""Which setting a budget chooses, with made-up tables and clocks: no test depends on how fast anything is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geo3d.checkpoint import save_encoder
from geo3d.cloud import Features
from geo3d.compress.adaptive.encoder import Adaptive, adapt
from geo3d.compress.adaptive.slices import farthest_subset
from geo3d.deploy import runtime as runtime_module
from geo3d.deploy.runtime import Runtime
from geo3d.deploy.timing import Latency, latency, latency_table, machine, percentiles
from geo3d.encoders import DGCNN, PointNet
from geo3d.errors import ConfigError
from geo3d.testing import tiny_batch

FAST, MIDDLE, GOOD, BEST = "w0.5-d2-k4-n16", "w0.5-d2-k4-n24", "w1-d2-k4-n16", "w1-d2-k4-n24"
TABLE = {BEST: Latency(9, 10), GOOD: Latency(5, 6), MIDDLE: Latency(4, 7), FAST: Latency(2, 3)}
ACCURACY = {BEST: 0.9, GOOD: 0.8, MIDDLE: 0.85, FAST: 0.6}


def adaptive() -> Adaptive:
    full = DGCNN(k=4, channels=(16, 16), embedding=32)
    return adapt(full, widths=(0.5, 1), depths=(2,), ks=(4,), points=(16, 24)).eval()


def as_it_is(encoder: nn.Module) -> nn.Module:
    return encoder


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ready(table: dict[str, Latency] = TABLE, accuracy: dict[str, float] | None = ACCURACY, **options: Any) -> Runtime:
    """A runtime with this table in place of the measured one."""
    made = Runtime(adaptive(), num_points=30, accuracy=accuracy, compile=as_it_is, repeats=1, **options)
    assert made.table.keys() == table.keys()
    made.table = dict(table)
    return made


def after(clock: Clock, seconds: Callable[[], float]) -> Callable[[nn.Module], Callable[[Any], Features]]:
    """A ``compile`` whose calls take ``seconds()`` each by that clock."""

    def compile(encoder: nn.Module) -> Callable[[Any], Features]:
        def call(batch: Any) -> Features:
            clock.now += seconds()
            return encoder(batch)

        return call

    return compile


def test_percentiles_are_measured_values() -> None:
    assert percentiles([0.004, 0.001, 0.002, 0.003]) == Latency(2.0, 4.0)
    assert percentiles([0.001] * 19 + [1.0]) == Latency(1.0, 1.0)
    assert percentiles([0.001] * 18 + [1.0] * 2) == Latency(1.0, 1000.0)


def test_latencies_leave_out_the_warm_up_and_take_turns() -> None:
    clock, order = Clock(), []

    def call(name: str, seconds: float, first: float) -> Callable[[], None]:
        def run() -> None:
            clock.now += first if name not in order else seconds
            order.append(name)

        return run

    calls = {"a": call("a", 0.25, 8.0), "b": call("b", 0.5, 8.0)}
    assert latency_table(calls, repeats=4, warmup=1, clock=clock) == {"a": Latency(250, 250), "b": Latency(500, 500)}
    assert "".join(order) == "ba" + "abba" * 2 and order.count("a") == 5
    order.clear()
    assert latency(calls["b"], repeats=3, warmup=0, clock=clock) == Latency(500, 8000)


@pytest.mark.parametrize(
    ("ms", "expected"), [(100, BEST), (11.2, BEST), (11, MIDDLE), (7.8, MIDDLE), (7.7, GOOD), (6.6, FAST), (3.4, FAST)]
)
def test_a_budget_takes_the_most_accurate_setting_that_fits_with_the_margin(ms: float, expected: str) -> None:
    runtime = ready()
    assert str(runtime.set_budget(ms=ms)) == expected == str(runtime.setting)


def test_of_equally_accurate_settings_the_fastest_runs() -> None:
    for fast, slow in ((GOOD, BEST), (MIDDLE, BEST), (GOOD, MIDDLE)):
        runtime = ready(accuracy={slow: 0.8, fast: 0.8, FAST: 0.6})
        assert runtime.table[fast].p95 < runtime.table[slow].p95
        for accuracy in ({slow: 0.8, fast: 0.8, FAST: 0.6}, {fast: 0.8, slow: 0.8, FAST: 0.6}):  # in any order
            runtime.accuracy = accuracy
            assert str(runtime.set_budget(ms=100)) == fast


def test_a_budget_below_the_fastest_is_refused_and_changes_nothing() -> None:
    runtime = ready()
    runtime.set_budget(ms=8)
    with pytest.raises(ConfigError, match=r"3.3 ms with 10% to spare; the fastest, w0.5-d2-k4-n16, takes 3 ms.*3.33"):
        runtime.set_budget(ms=3.3)
    assert str(runtime.setting) == MIDDLE


def test_only_settings_with_an_accuracy_are_chosen_and_without_any_the_slowest() -> None:
    runtime = ready(accuracy={GOOD: 0.8, FAST: 0.6})
    assert str(runtime.setting) == GOOD == str(runtime.set_budget(ms=100))
    with pytest.raises(ConfigError, match="no setting 'w2'"):
        ready(accuracy={"w2": 1.0})
    clock, times = Clock(), iter([0.01, 0.04, 0.03, 0.02] * 4)
    runtime = Runtime(adaptive(), num_points=30, compile=after(clock, lambda: next(times)), clock=clock, repeats=1)
    assert sorted(entry.p50 for entry in runtime.table.values()) == pytest.approx([10, 20, 30, 40])
    assert runtime.table[str(runtime.setting)].p50 == pytest.approx(40)


def test_what_is_called_is_the_setting_with_full_features() -> None:
    encoder, batch = adaptive(), tiny_batch(num_points=30)
    runtime = Runtime(encoder, batch=batch, compile=as_it_is, repeats=1)
    runtime.table, runtime.accuracy = dict(TABLE), dict(ACCURACY)
    for ms in (100, 8, 7, 4):
        setting = runtime.set_budget(ms=ms)
        assert setting is not None
        expected = encoder.encode(setting, farthest_subset(batch, [setting.num_points])[setting.num_points])
        for found, wanted in zip(runtime(batch)[:2], expected[:2], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
            assert not found.requires_grad
    observed = runtime.observed()
    assert observed is not None and 0 < observed.p50 <= observed.p95


def test_the_default_is_the_program_if_there_is_one_or_the_encoder() -> None:
    encoder, batch = DGCNN(k=4, channels=(8, 8), embedding=16), tiny_batch(num_points=30)
    runtime = Runtime(encoder, num_points=30, repeats=1)
    assert list(runtime.table) == ["full"] and runtime.set_budget(ms=1e6) is None
    torch.testing.assert_close(runtime(batch).cloud, encoder.eval()(batch).cloud.detach(), rtol=1e-4, atol=1e-4)
    assert runtime.observed() is not None
    assert list(Runtime(PointNet(), num_points=30, repeats=1, compile=as_it_is).table) == ["full"]


def watched(load: dict[str, float], **options: Any) -> tuple[Runtime, Callable[[int], str]]:
    """A runtime whose calls take the table's 95th percentile times ``load["factor"]``."""
    clock = Clock()
    holder: dict[str, Runtime] = {}

    def seconds() -> float:
        if "runtime" not in holder:
            return 0.001
        return holder["runtime"].table[str(holder["runtime"].setting)].p95 * load["factor"] / 1000

    made = Runtime(
        adaptive(), num_points=30, accuracy=ACCURACY, compile=after(clock, seconds), repeats=1, clock=clock, **options
    )
    made.table, holder["runtime"] = dict(TABLE), made

    def run(calls: int) -> str:
        for _ in range(calls):
            made(tiny_batch(num_points=16))
        return str(made.setting)

    return made, run


def test_feedback_steps_down_under_load_and_up_again_with_room_to_spare() -> None:
    load = {"factor": 1.0}
    runtime, run = watched(load, feedback=True, window=5)
    runtime.set_budget(ms=13)
    assert run(12) == BEST  # 10 ms
    load["factor"] = 1.5  # 15 ms: only settings of 13 * 0.9 / 1.5 = 7.8 ms fit
    assert run(1) == MIDDLE and runtime.observed() is None
    load["factor"] = 1.1  # BEST would take 11 ms: below the budget, but not below 13 * 0.8
    assert run(30) == MIDDLE
    load["factor"] = 1.0
    assert run(4) == MIDDLE  # the window still holds earlier calls
    assert run(1) == BEST
    load["factor"] = 9.0
    assert run(5) == FAST  # nothing fits: the fastest
    assert run(20) == FAST


def test_without_feedback_the_setting_stays() -> None:
    load = {"factor": 5.0}
    runtime, run = watched(load, window=5)
    runtime.set_budget(ms=12)
    assert run(12) == BEST
    assert runtime.observed() == Latency(pytest.approx(50), pytest.approx(50))
    _, run = watched(load, window=5, feedback=True)
    assert run(12) == BEST  # no budget yet


def test_a_saved_table_is_taken_again(tmp_path: Path) -> None:
    encoder, path = adaptive(), tmp_path / "table.json"
    first = Runtime(encoder, num_points=30, compile=as_it_is, repeats=1)
    first.table = dict(TABLE)
    first.save_table(path)

    def never() -> float:
        raise AssertionError("nothing is to be measured")

    again = Runtime(encoder, num_points=30, compile=as_it_is, table=path, clock=never, accuracy=ACCURACY)
    assert again.table == TABLE and str(again.set_budget(ms=8)) == MIDDLE
    assert json.loads(path.read_text())["machine"] == machine()


@pytest.mark.parametrize(
    ("changed", "message"),
    [("machine", "measured with machine .*Abacus.* measure again"), ("encoder", "encoder"), ("batch", "batch .*31")],
)
def test_a_table_of_something_else_is_refused(changed: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    runtime = ready()
    runtime.save_table(path)
    content = json.loads(path.read_text())
    content[changed] = {"machine": machine() | {"processor": "Abacus"}, "encoder": "other", "batch": {"points": 31}}[
        changed
    ]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        runtime.load_table(path)
    assert runtime.table == TABLE


def test_files_that_are_no_tables_and_options_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    runtime = ready()
    for content in ("", "[]", "{}", '{"table": {"a": 1}}'):
        path.write_text(content)
        with pytest.raises(ConfigError, match="not a table of latencies"):
            runtime.load_table(path)
    with pytest.raises(ConfigError, match="not a table"):
        runtime.load_table(tmp_path / "missing.json")
    runtime.save_table(path)
    content = json.loads(path.read_text())
    del content["table"][FAST]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="does not have the encoder's 4 settings"):
        runtime.load_table(path)
    with pytest.raises(ConfigError, match="exactly one"):
        Runtime(adaptive())
    with pytest.raises(ConfigError, match="margin"):
        Runtime(adaptive(), num_points=8, margin=0.5)


def test_encoders_of_other_sizes_have_other_fingerprints() -> None:
    encoders = [DGCNN(k=k, channels=(8, c), embedding=16) for k, c in ((4, 8), (5, 8), (4, 16))]
    prints = [runtime_module._fingerprint(encoder, None) for encoder in encoders]
    assert len(set(prints)) == 3
    assert prints[0] == runtime_module._fingerprint(DGCNN(k=4, channels=(8, 8), embedding=16), None)


def test_threads_are_set_and_a_checkpoint_names_the_accuracies(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        save_encoder(DGCNN(k=4, channels=(8, 8), embedding=16), tmp_path, settings={"full": 0.75})
        runtime = Runtime.load(tmp_path, num_points=30, threads=2, repeats=1)
        assert torch.get_num_threads() == 2 and runtime.accuracy == {"full": 0.75}
    finally:
        torch.set_num_threads(before)
