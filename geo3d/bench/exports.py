"""Exports of an encoder for other runtimes, in every form that it allows; the fastest form is timed."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.bench.timing import interleaved
from geo3d.cloud import common_size, num_clouds
from geo3d.compress import records
from geo3d.deploy.signal_stack import kept
from geo3d.errors import Geo3dError
from geo3d.nn.describe import graph_of

ROUNDS = 9
"""Timed rounds to find the fastest form of one encoder, which is then timed beside the other models."""

OTHER = 0.1
"""Relative difference of the cloud features above which an export computes another function. Near-ties, of neighbours
and of codes of few bits, cause up to some hundredths; the table shows the difference of each export."""

Prepare = Callable[[Batch], Batch]
"""Function applied to the batch inside the timed call."""


class CannotRunError(Geo3dError):
    """The engine is not installed or cannot run this model; the message says why."""


class Form(NamedTuple):
    """One way to export an encoder.

    Example:
        >>> str(Form("inputs", "int8"))
        "neighbors by geo3d's search, products of codes"
    """

    neighbors: str
    """``inside``: the graph finds neighbours itself; ``inputs``: geo3d's operators find them, inside the timed call."""
    precision: str
    """``float`` or ``int8``."""
    int4: bool = False
    """Whether codes that fit into four bits are stored in four bits."""

    def __str__(self) -> str:
        tables = "neighbors in the graph" if self.neighbors == "inside" else "neighbors by geo3d's search"
        stored = " (weights stored in 4 bits)" if self.int4 else ""
        return f"{tables}, products of {'codes' if self.precision == 'int8' else 'floats'}{stored}"


def forms(encoder: nn.Module) -> list[Form]:
    """Every export that leaves the encoder's arithmetic to the runtime.

    The graph or geo3d can find neighbours among coordinates. Neighbours among features, of a dynamic DGCNN, can only be
    found inside the graph: otherwise geo3d would have to run the layers itself. ONNX has no ball query.

    Example:
        >>> from geo3d.encoders import DGCNN
        >>> [str(form) for form in forms(DGCNN(dynamic=False))]
        ['neighbors in the graph, products of floats', "neighbors by geo3d's search, products of floats"]
    """
    from geo3d.deploy.onnx.export import rounds

    ops = graph_of(encoder, "export to ONNX")
    among_features = any(op.kind == "neighbors" and op.sources != ("pos",) for op in ops)
    searches: tuple[str, ...] = ("inside",)
    if any(op.kind == "farthest" for op in ops):
        searches = ("inputs",)
    elif any(op.kind == "neighbors" for op in ops) and not among_features:
        searches = ("inside", "inputs")
    exports = [Form(search, "float") for search in searches]
    if rounds(encoder):
        bits = [pair[0] for record in records(encoder) for pair in record.get("bits", {}).values()]
        stored = (False, True) if min(bits, default=8) <= 4 else (False,)
        exports += [Form(search, "int8", int4) for search in searches for int4 in stored]
    return exports


class Exported:
    """A call that computes the cloud features by another runtime, from one form of the encoder.

    Args:
        engine: ``onnxruntime`` or ``openvino``.
        encoder: An encoder in evaluation mode.
        batch: Clouds, all of one size.
        form: Form of the export.
        path: The exported file, for batches of this size. It is written if it does not exist, once for all engines.
        threads: Threads of the engine.
        before: Function applied to the batch first, inside the call.
    """

    def __init__(
        self, engine: str, encoder: nn.Module, batch: Batch, form: Form, path: Path, threads: int, before: Prepare
    ) -> None:
        from geo3d.deploy.onnx.export import export_onnx

        self.engine, self.form = engine, form
        if not path.is_file():
            points, clouds = common_size(before(batch)), num_clouds(batch)
            export_onnx(encoder, path, **form._asdict(), num_points=points, clouds=clouds)
        fed = partial(_fed, encoder, batch, before, form.neighbors)
        self._run = (_onnxruntime if engine == "onnxruntime" else _openvino)(path, fed, threads)

    def __call__(self) -> Tensor:
        """The (B, cloud_channels) features."""
        return self._run()


def fastest(calls: Sequence[Exported], expected: Tensor) -> Exported:
    """The fastest call among those that compute the expected features.

    Raises:
        CannotRunError: If no call computes them.
    """
    away = [float((call() - expected).norm() / expected.norm()) for call in calls]
    right = [i for i, far in enumerate(away) if far <= OTHER]
    if not right:
        raise CannotRunError(f"{calls[0].engine}: no form gives the encoder's features; nearest {min(away):.1e} away")
    if len(right) == 1:
        return calls[right[0]]
    times = interleaved({i: calls[i] for i in right}, ROUNDS, 0.0)
    return calls[min(times, key=lambda i: median(times[i]))]


Fed = Callable[[list[str]], dict[str, Any]]
"""Names of the inputs of an exported model -> their values."""


def _onnxruntime(path: Path, fed: Fed, threads: int) -> Callable[[], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads that spin after a call would slow down the next engine.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = [each.name for each in session.get_inputs()]
    output = _cloud([each.name for each in session.get_outputs()])

    def call() -> Tensor:
        return torch.from_numpy(session.run([output], fed(inputs))[0])

    call()  # an operator that the engine cannot run fails here
    return call


def _openvino(path: Path, fed: Fed, threads: int) -> Callable[[], Tensor]:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    inputs = [each.get_any_name() for each in model.inputs]
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    with kept():
        compiled = core.compile_model(model, "CPU", hints)
    output = _cloud([each.get_any_name() for each in compiled.outputs])
    request = compiled.create_infer_request()

    def call() -> Tensor:
        request.infer(fed(inputs), share_inputs=True)
        return torch.from_numpy(request.get_tensor(output).data.copy())

    call()
    return call


def _fed(encoder: nn.Module, batch: Batch, before: Prepare, neighbors: str, inputs: list[str]) -> dict[str, Any]:
    """The inputs of an exported model, computed in each call: finding neighbours is part of the timed work."""
    from geo3d.deploy.onnx.export import onnx_inputs

    with torch.inference_mode():
        values = onnx_inputs(encoder, before(batch), neighbors)
    missing = [name for name in inputs if name not in values]
    if missing:
        raise CannotRunError(f"the exported model asks for {', '.join(missing)}, which geo3d does not compute")
    return {name: values[name] for name in inputs}


def _cloud(outputs: list[str]) -> str:
    """The name of the output with the cloud features."""
    return "cloud" if "cloud" in outputs else outputs[-1]
