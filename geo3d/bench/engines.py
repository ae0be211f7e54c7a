"""What can run an encoder: geo3d's own runtime, torch, ONNX Runtime and OpenVINO, each as a call without arguments."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.bench.contenders import installed
from geo3d.bench.stages import stages
from geo3d.bench.timing import timed
from geo3d.cloud import common_size, num_clouds
from geo3d.deploy.plan import STAGES
from geo3d.deploy.program import Program
from geo3d.deploy.program import stages as program_stages
from geo3d.errors import ConfigError, Geo3dError
from geo3d.ops import native

ENGINES = ("geo3d", "torch", "onnxruntime", "openvino")
KERNELS = {
    "knn": r"knn|neighb|ball|farthest|three_nearest",
    "pooling": r"pool",
    "gather": r"gather|edge|scatter",
    "products": r"product|linear|grouped|multiply",
}
"""Stages of a program and the kernels that belong to them, with what is fused behind them."""
Call = Callable[[], Tensor]
"""Gives the cloud features (B, cloud_channels) of one fixed batch, everything on the way from the points included."""


class CannotRunError(Geo3dError):
    """An engine that is not installed, or that cannot run this model; the message says why."""


def check_engines(names: list[str]) -> list[str]:
    """The names, if all are known and none comes twice.

    Raises:
        ConfigError: If not.
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
    before: Callable[[Batch], Batch] = lambda batch: batch,
) -> Call:
    """The call that runs the encoder on the batch in an engine.

    Args:
        engine: One of ``ENGINES``.
        encoder: In evaluation mode.
        batch: Clouds, all of one size.
        threads: Of the engine; those of geo3d and torch are the process's own, set by ``torch.set_num_threads``.
        folder: Where exported models are put, once each.
        name: Of the exported model there.
        before: What is done to the batch first, inside the call: leaving out points.

    Raises:
        CannotRunError: If the engine cannot do it here.
        ConfigError: If there is no such engine.
    """
    check_engines([engine])
    if engine == "geo3d":
        return Own(encoder, batch, before)
    if engine == "torch":
        return partial(_plain, encoder, batch, before)
    if not installed(engine):
        raise CannotRunError(f"{engine} is not installed")
    try:
        path, neighbors = _exported(encoder, before(batch), folder, name)
        fed = partial(_feeds, encoder, batch, before, neighbors)
        return (_onnxruntime if engine == "onnxruntime" else _openvino)(path, fed, threads)
    except (CannotRunError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # whatever an exporter or a runtime may raise: it is said, not hidden
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CannotRunError(f"{engine} cannot run it: {said[:160]}") from error


class Own:
    """The cloud features by geo3d's runtime with its compiled kernels, and where its time goes."""

    def __init__(self, encoder: nn.Module, batch: Batch, before: Callable[[Batch], Batch]) -> None:
        self.batch, self.before = batch, before
        try:
            self.program = Program(encoder, num_points=common_size(before(batch)) or 1024)
        except Geo3dError as error:
            raise CannotRunError(f"geo3d's runtime cannot run it: {error}") from error

    def __call__(self) -> Tensor:
        """The (B, cloud_channels) features."""
        return self.program(self.before(self.batch)).cloud

    def stages(self, total_ms: float, rounds: int = 5) -> dict[str, float]:
        """Milliseconds of each of ``STAGES``, which add up to ``total_ms``."""
        if self.program.native:
            found = program_stages(self.program, self.before(self.batch), 4 * rounds)
            found["knn"] += 1e3 * timed(lambda: self.before(self.batch), rounds)  # the choice of points
        else:
            with _named_kernels():
                shares = stages(lambda: [self() for _ in range(rounds)])
            found = dict.fromkeys(STAGES, 0.0)
            for kind, share in shares.items():
                found[next((name for name, kernels in KERNELS.items() if re.search(kernels, kind)), "other")] += share
        scale = total_ms / sum(found.values())
        return {stage: scale * found[stage] for stage in STAGES}


@contextmanager
def _named_kernels() -> Iterator[None]:
    """Inside, torch's profiler sees every compiled kernel by its name: one operator may consist of several."""
    call = native.call

    def named(function: str, *arguments: Any, **keywords: Any) -> None:
        with torch.profiler.record_function(f"geo3d::{function}"):
            call(function, *arguments, **keywords)

    native.call = named
    try:
        yield
    finally:
        native.call = call


def _plain(encoder: nn.Module, batch: Batch, before: Callable[[Batch], Batch]) -> Tensor:
    """By torch alone: the module as it is, no compiled kernels."""
    with torch.no_grad(), native.disabled():
        return encoder(before(batch)).cloud


def _exported(encoder: nn.Module, batch: Batch, folder: Path, name: str) -> tuple[Path, str]:
    """The encoder as an ONNX file for batches of this size, and whether it finds the neighbours inside."""
    from geo3d.deploy.export import export_onnx

    paths = {neighbors: folder / f"{name}-{neighbors}.onnx" for neighbors in ("inside", "inputs")}
    for neighbors, path in paths.items():
        if path.is_file():
            return path, neighbors
    export = partial(export_onnx, encoder, num_points=common_size(batch), clouds=num_clouds(batch))
    try:
        return export(paths["inside"], neighbors="inside"), "inside"
    except Geo3dError:  # the search has no form in ONNX; geo3d finds the neighbours, inside the time that is taken
        return export(paths["inputs"], neighbors="inputs"), "inputs"


Fed = Callable[[list[str]], dict[str, Any]]
"""Makes what an exported model with these inputs is given."""


def _onnxruntime(path: Path, fed: Fed, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that go on spinning after a call would slow down whichever engine comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = [each.name for each in session.get_inputs()]
    output = _cloud([each.name for each in session.get_outputs()])

    def call() -> Tensor:
        return torch.from_numpy(session.run([output], fed(inputs))[0])

    call()  # what it cannot run is found here
    return call


def _openvino(path: Path, fed: Fed, threads: int) -> Call:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    inputs = [each.get_any_name() for each in model.inputs]
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", hints)
    output = _cloud([each.get_any_name() for each in compiled.outputs])
    request = compiled.create_infer_request()

    def call() -> Tensor:
        request.infer(fed(inputs), share_inputs=True)
        return torch.from_numpy(request.get_tensor(output).data.copy())

    call()
    return call


def _feeds(
    encoder: nn.Module, batch: Batch, before: Callable[[Batch], Batch], neighbors: str, inputs: list[str]
) -> dict[str, Any]:
    """The inputs of an exported model, made anew for each call: finding neighbours is part of the work."""
    from geo3d.deploy.export import feeds

    with torch.inference_mode():
        found = feeds(encoder, before(batch), neighbors)
    missing = [name for name in inputs if name not in found]
    if missing:
        raise CannotRunError(f"the exported model asks for {', '.join(missing)}, which geo3d does not give")
    return {name: found[name] for name in inputs}


def _cloud(outputs: list[str]) -> str:
    """The name of the output with the cloud features."""
    return "cloud" if "cloud" in outputs else outputs[-1]
