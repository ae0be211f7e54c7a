"""An encoder that keeps a time budget: it measures its settings on this machine and runs the best one that fits."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geo3d import seeds
from geo3d.checkpoint import open_checkpoint
from geo3d.cloud import Features, make_batch, num_clouds
from geo3d.compress.adaptive.encoder import Adaptive
from geo3d.compress.adaptive.slices import Setting, farthest_subset
from geo3d.compress.record import records
from geo3d.deploy.timing import Clock, Latency, latency_table, machine, percentiles
from geo3d.encoders.inputs import channels_of, input_batch
from geo3d.errors import ConfigError
from geo3d.io.files import write_json

PLAIN = "full"
"""The name of the one setting of an encoder that is not adaptive."""

Compile = Callable[[nn.Module], Callable[[Batch], Features]]


class Runtime:
    """Runs an encoder on batches of one size, in the most accurate setting that a time budget allows.

    When it is made, the runtime measures a complete call of every setting, farthest-point sampling included.
    ``set_budget`` selects the most accurate setting whose 95th percentile is below the budget minus a margin for drift.
    Until then the most accurate setting runs.

    With ``feedback`` the runtime watches its own calls. It compares the 95th percentile of the last ``window`` calls
    with the table, and assumes that the times of all settings have changed by the same factor. If the percentile is
    above the budget, it chooses again. Otherwise it changes to a more accurate setting only if that one would stay
    below the budget minus twice the margin, so that it does not go back and forth. After each change it waits for
    ``window`` calls.

    Args:
        encoder: Any encoder; an :class:`geo3d.compress.Adaptive` has several settings. It is put into evaluation mode.
        num_points: Points per cloud, for calls on one cloud at a time. Give either this or ``batch``.
        batch: A batch of the size that later calls will have.
        threads: Number of torch's threads, for the whole process; not changed by default.
        accuracy: Accuracy of the settings by name (``str(setting)``); only these settings are used. By default a
            setting counts as more accurate the longer it takes.
        compile: Turns an encoder into a callable; by default :class:`~geo3d.deploy.program.program.Program`.
        table: A file written by :meth:`save_table`, to use instead of measuring.
        margin: Fraction of the budget to keep free.
        feedback: Whether to change the setting by the measured times, see above.
        window: How many of the last calls are looked at.
        repeats: Rounds of measuring.
        clock: Returns the time in seconds.

    Attributes:
        table: Latency of each setting by name.

    Raises:
        ConfigError: If neither or both of ``num_points`` and ``batch`` are given, ``margin`` or ``window`` is out of
            range, ``accuracy`` names an unknown setting, or the table is of another machine or encoder.

    Example:
        >>> from geo3d.encoders import DGCNN
        >>> runtime = Runtime(DGCNN(k=4, channels=(8, 8), embedding=16), num_points=32, repeats=2)
        >>> runtime.set_budget(ms=60_000), list(runtime.table)
        (None, ['full'])
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        num_points: int | None = None,
        batch: Data | None = None,
        threads: int | None = None,
        accuracy: Mapping[str, float] | None = None,
        compile: Compile | None = None,
        table: str | Path | None = None,
        margin: float = 0.1,
        feedback: bool = False,
        window: int = 20,
        repeats: int = 40,
        clock: Clock = perf_counter,
    ) -> None:
        if (num_points is None) == (batch is None):
            raise ConfigError("Runtime needs either num_points or batch, to measure on; give exactly one of them")
        if not 0 <= margin < 0.5 or window < 1:
            raise ConfigError(f"margin must be from 0 to below 0.5, and window 1 or more; found {margin} and {window}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.margin, self.feedback, self.window, self.clock = margin, feedback, window, clock
        self._settings, self._calls = _calls(encoder.eval(), compile or _program())
        self._encoder = _fingerprint(encoder, compile)
        device = next(encoder.parameters()).device
        self._sample = (_cloud(encoder, num_points) if batch is None else input_batch(batch)).to(device)
        self._seconds: deque[float] = deque(maxlen=window)
        self._budget: float | None = None
        if table is None:
            runs = {name: _run(call, self._sample) for name, call in self._calls.items()}
            self.table = latency_table(runs, repeats, clock=clock)
        else:
            self.load_table(table)
        unknown = sorted(set(accuracy or {}) - set(self._calls))
        if unknown:
            raise ConfigError(f"accuracy: there is no setting {unknown[0]!r}; known are {', '.join(self._calls)}")
        self.accuracy = dict(accuracy) if accuracy else {name: entry.p50 for name, entry in self.table.items()}
        self._name = self._best(float("inf")) or PLAIN

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> "Runtime":
        """A runtime for the encoder of a checkpoint; its card's ``settings``, if present, give the accuracies.

        Args:
            path: As for :func:`geo3d.checkpoint.load_encoder`.
            options: Keyword arguments of the class.
        """
        opened = open_checkpoint(path)
        options.setdefault("accuracy", opened.card.get("settings"))
        return cls(opened.encoder, **options)

    @property
    def setting(self) -> Setting | None:
        """The setting in use; None for an encoder that is not adaptive."""
        return self._settings[self._name]

    def set_budget(self, ms: float) -> Setting | None:
        """The most accurate setting whose 95th percentile is below the budget minus the margin; it runs from now on.

        Args:
            ms: Budget of a call in milliseconds.

        Raises:
            ConfigError: If no setting is fast enough; the message names the fastest.
        """
        name = self._best(ms * (1 - self.margin))
        if name is None:
            fastest = self._fastest()
            least = self.table[fastest].p95 / (1 - self.margin)
            raise ConfigError(
                f"no setting keeps a 95th percentile of {ms:g} ms with {self.margin:.0%} to spare; the fastest, "
                f"{fastest}, takes {self.table[fastest].p95:.3g} ms: give at least {least:.3g}, or a smaller encoder"
            )
        self._budget = ms
        self._choose(name)
        return self.setting

    @torch.no_grad()
    def __call__(self, data: Data) -> Features:
        """Features of the clouds, with the encoder's full number of channels."""
        start = self.clock()
        features = _run(self._calls[self._name], input_batch(data))()
        self._seconds.append(self.clock() - start)
        if self.feedback and self._budget is not None and len(self._seconds) == self.window:
            self._adjust(self._budget)
        return features

    def observed(self) -> Latency | None:
        """Latency of the last calls in the current setting, at most ``window`` of them; None before the first call."""
        return percentiles(self._seconds) if self._seconds else None

    def save_table(self, path: str | Path) -> None:
        """Write the latencies as JSON, with the machine, encoder and batch size that they were measured with."""
        write_json(path, self._key() | {"table": {name: list(entry) for name, entry in self.table.items()}})

    def load_table(self, path: str | Path) -> None:
        """Take the latencies from a file written by :meth:`save_table`.

        Raises:
            ConfigError: If the file cannot be read, or was made with another machine, libraries, encoder or batch size.
        """
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            table = {name: Latency(*map(float, entry)) for name, entry in stored["table"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: not a table of latencies ({error}); measure again and save it") from None
        for what, expected in self._key().items():
            if stored.get(what) != expected:
                raise ConfigError(
                    f"{path}: measured with {what} {stored.get(what)}, but here it is {expected}; measure again"
                )
        if table.keys() != self._calls.keys():
            raise ConfigError(f"{path}: does not have the encoder's {len(self._calls)} settings; measure again")
        self.table = table

    def _key(self) -> dict[str, Any]:
        """What the latencies depend on: machine, encoder and batch size."""
        clouds, size = num_clouds(self._sample), len(self._sample.pos)
        return {"machine": machine(), "encoder": self._encoder, "batch": {"clouds": clouds, "points": size}}

    def _best(self, limit: float, factor: float = 1.0) -> str | None:
        fitting = [name for name in self.accuracy if self.table[name].p95 * factor <= limit]
        return max(fitting, key=lambda name: (self.accuracy[name], -self.table[name].p95), default=None)

    def _fastest(self) -> str:
        return min(self.accuracy, key=lambda name: self.table[name].p95)

    def _choose(self, name: str) -> None:
        self._name = name
        self._seconds.clear()

    def _adjust(self, budget: float) -> None:
        """Change the setting if the latency of the last calls asks for it."""
        p95 = percentiles(self._seconds).p95
        factor = p95 / self.table[self._name].p95
        if p95 > budget:
            name = self._best(budget * (1 - self.margin), factor) or self._fastest()
        else:
            name = self._best(budget * (1 - 2 * self.margin), factor) or self._name
            name = name if self.accuracy[name] > self.accuracy[self._name] else self._name
        if name != self._name:
            self._choose(name)


def _program() -> Compile:
    """``geo3d.deploy.program.program.Program``; if that module is missing, a function that returns the encoder."""
    if find_spec("geo3d.deploy.program.program") is None:
        return lambda encoder: encoder
    return import_module("geo3d.deploy.program.program").Program


def _calls(encoder: nn.Module, compile: Compile) -> tuple[dict[str, Setting | None], dict[str, Any]]:
    """The settings by name, and for each name the function that runs it on a batch."""
    if not isinstance(encoder, Adaptive):
        return {PLAIN: None}, {PLAIN: compile(encoder)}
    settings = {str(setting): setting for setting in encoder.settings}
    calls = {name: _whole(encoder, each, compile(encoder.subnet(each))) for name, each in settings.items()}
    return dict(settings), calls


def _whole(encoder: Adaptive, setting: Setting, fast: Callable[[Batch], Features]) -> Callable[[Batch], Features]:
    n = setting.num_points
    return lambda batch: encoder.pad_features(setting, fast(farthest_subset(batch, [n])[n]))


def _run(call: Callable[[Batch], Features], batch: Batch) -> Callable[[], Features]:
    """A function that runs the call and waits until it has ended, on a GPU too."""

    @torch.no_grad()
    def run() -> Features:
        features = call(batch)
        if features.cloud.is_cuda:
            torch.cuda.synchronize(features.cloud.device)
        return features

    return run


def _cloud(encoder: nn.Module, num_points: int | None) -> Batch:
    """One random cloud with all channels that the encoder reads."""
    assert num_points is not None
    draw, more = seeds.generator(0, "runtime"), int(getattr(encoder, "in_channels", 3)) - 3
    pos = torch.randn(num_points, 3, generator=draw, dtype=torch.float32)
    extra = channels_of(encoder, torch.rand(num_points, more, generator=draw, dtype=torch.float32)) if more else {}
    return make_batch(pos, num_points=num_points, **extra)


def _fingerprint(encoder: nn.Module, compile: Compile | None) -> str:
    """A hash of what the time of an encoder depends on: class, k, shapes, compression and ``compile``; not weights."""
    shapes = {name: list(value.shape) for name, value in encoder.state_dict().items()}
    k = getattr(encoder, "k", None)
    facts = json.dumps([type(encoder).__name__, k, shapes, records(encoder), getattr(compile, "__qualname__", None)])
    return sha256(facts.encode()).hexdigest()[:16]
