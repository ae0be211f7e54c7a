"""Encoders run by geo3d's runtime, torch, ONNX Runtime and OpenVINO, each as a call without arguments."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.bench.exports import CannotRunError, Exported, Form, Prepare, fastest, forms
from geo3d.bench.stages import stages
from geo3d.bench.timing import timed
from geo3d.cloud import common_size
from geo3d.deploy.program.plan import STAGES
from geo3d.deploy.program.program import Program
from geo3d.deploy.program.program import stages as program_stages
from geo3d.errors import ConfigError, Geo3dError
from geo3d.ops import native

ENGINES = ("geo3d", "torch", "onnxruntime", "openvino")
KERNELS = {
    "knn": r"knn|neighb|ball|farthest|three_nearest",
    "pooling": r"pool",
    "gather": r"gather|edge|scatter",
    "products": r"product|linear|grouped|multiply",
}
"""Stage of a program -> pattern of the names of its kernels, which include the operations fused into them."""
Call = Callable[[], Tensor]
"""Computes the cloud features (B, cloud_channels) of one fixed batch, with all work from the points on."""


def installed(package: str) -> bool:
    """Whether an optional package can be imported."""
    return find_spec(package) is not None


def check_engines(names: list[str]) -> list[str]:
    """The names, after checking that all are known and none comes twice.

    Raises:
        ConfigError: If there are no names, or one is unknown or comes twice.
    """
    for name in names:
        if name not in ENGINES:
            raise ConfigError(f"engines: no engine {name!r}; there are {', '.join(ENGINES)}")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"engines: expected some of {', '.join(ENGINES)}, each once; found {','.join(names)!r}")
    return names


def start(
    engine: str,
    encoder: nn.Module,
    batch: Batch,
    threads: int,
    folder: Path,
    name: str = "model",
    before: Prepare = lambda batch: batch,
    form: Form | None = None,
) -> Call:
    """The call that runs the encoder on the batch in an engine; of an exported encoder, the fastest form.

    The call of an exported encoder has an attribute ``form``.

    Args:
        engine: One of ``ENGINES``.
        encoder: An encoder in evaluation mode.
        batch: Clouds, all of one size.
        threads: Threads of ONNX Runtime or OpenVINO; geo3d and torch use those set by ``torch.set_num_threads``.
        folder: Folder for exported models, each written once.
        name: Beginning of the file names of the exported models.
        before: Function applied to the batch first, inside the call; it may leave out points.
        form: Form of the export; by default all are tried.

    Raises:
        CannotRunError: If the engine cannot run the encoder here.
        ConfigError: If there is no such engine.
    """
    check_engines([engine])
    if engine == "geo3d":
        return Own(encoder, batch, before)
    plain = partial(_plain, encoder, batch, before)
    if engine == "torch":
        return plain
    if not installed(engine):
        raise CannotRunError(f"{engine} is not installed")
    calls: list[Exported] = []
    refused = ""
    for each in forms(encoder) if form is None else [form]:
        path = folder / f"{name}-{'-'.join(map(str, each))}.onnx"
        try:
            calls.append(Exported(engine, encoder, batch, each, path, threads, before))
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:  # an exporter or a runtime may raise anything; the message goes into the error
            message = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            refused = refused or message[:160]
    if not calls:
        raise CannotRunError(f"{engine} cannot run it: {refused}")
    return calls[0] if form is not None else fastest(calls, plain())


class Own:
    """A call that computes the cloud features by geo3d's runtime, and measures the time of its stages."""

    def __init__(self, encoder: nn.Module, batch: Batch, before: Prepare) -> None:
        self.batch, self.before = batch, before
        try:
            self.program = Program(encoder, num_points=common_size(before(batch)) or 1024)
        except Geo3dError as error:
            raise CannotRunError(f"geo3d's runtime cannot run it: {error}") from error

    @property
    def native(self) -> bool:
        """Whether the encoder has a compiled form."""
        return self.program.native

    def __call__(self) -> Tensor:
        """The (B, cloud_channels) features."""
        return self.program(self.before(self.batch)).cloud

    def stages(self, total_ms: float, rounds: int = 5) -> dict[str, float]:
        """Milliseconds of each of ``STAGES``, scaled to add up to ``total_ms``."""
        if self.program.native:
            spent = program_stages(self.program, self.before(self.batch), 4 * rounds)
            spent["knn"] += 1e3 * timed(lambda: self.before(self.batch), rounds)  # choosing the points
        else:
            with _named_kernels():
                shares = stages(lambda: [self() for _ in range(rounds)])
            spent = dict.fromkeys(STAGES, 0.0)
            for kind, fraction in shares.items():
                stage = next((name for name, kernels in KERNELS.items() if re.search(kernels, kind)), "other")
                spent[stage] += fraction
        scale = total_ms / sum(spent.values())
        return {stage: scale * spent[stage] for stage in STAGES}


@contextmanager
def _named_kernels() -> Iterator[None]:
    """Inside, torch's profiler sees each compiled kernel by name, since one operator may call several kernels."""
    call = native.call

    def named(function: str, *arguments: Any, **keywords: Any) -> None:
        with torch.profiler.record_function(f"geo3d::{function}"):
            call(function, *arguments, **keywords)

    native.call = named
    try:
        yield
    finally:
        native.call = call


def _plain(encoder: nn.Module, batch: Batch, before: Prepare) -> Tensor:
    """(B, cloud_channels) features by eager torch alone, without compiled kernels."""
    with torch.inference_mode(), native.disabled():
        return encoder(before(batch)).cloud
