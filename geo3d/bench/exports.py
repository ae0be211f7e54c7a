"""The exports of an encoder that other runtimes are timed with: every form there is, the fastest of which counts."""

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
"""Timed rounds in which the forms of one encoder are compared before the fastest is timed beside the other models."""

OTHER = 0.1
"""Relative difference of the cloud features beyond which an export is another function. Near-ties, of neighbors and of
codes of few bits, cost up to some hundredths; the table says how far each one is."""

Prepare = Callable[[Batch], Batch]
"""What is done to the batch inside the timed call."""


class CannotRunError(Geo3dError):
    """An engine that is not installed, or that cannot run this model; the message says why."""


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
    """Whether codes that fit into four bits are stored as such."""

    def __str__(self) -> str:
        tables = "neighbors in the graph" if self.neighbors == "inside" else "neighbors by geo3d's search"
        stored = " (weights stored in 4 bits)" if self.int4 else ""
        return f"{tables}, products of {'codes' if self.precision == 'int8' else 'floats'}{stored}"


def forms(encoder: nn.Module) -> list[Form]:
    """Every export that leaves the encoder's arithmetic to the runtime.

    Neighbours among coordinates can be found by either side. Those among features, of a dynamic DGCNN, only inside the
    graph: to hand them in geo3d would have to run the layers itself. ONNX has no search for balls.

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
    found = [Form(search, "float") for search in searches]
    if rounds(encoder):
        bits = [pair[0] for record in records(encoder) for pair in record.get("bits", {}).values()]
        stored = (False, True) if min(bits, default=8) <= 4 else (False,)
        found += [Form(search, "int8", int4) for search in searches for int4 in stored]
    return found


class Exported:
    """The cloud features by another runtime from one form of the encoder.

    Args:
        engine: ``onnxruntime`` or ``openvino``.
        encoder: In evaluation mode.
        batch: Clouds, all of one size.
        form: Of the export; the file is for batches of this size, and is written once for all engines.
        path: Of that file.
        threads: Of the engine.
        before: What is done to the batch first, inside the call.
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
    """The fastest call among those that give the expected features; the others are left out.

    Raises:
        CannotRunError: If none does.
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
"""Makes what an exported model with these inputs is given."""


def _onnxruntime(path: Path, fed: Fed, threads: int) -> Callable[[], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
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
    """The inputs of an exported model, made anew for each call: finding neighbours is part of the work."""
    from geo3d.deploy.onnx.export import onnx_inputs

    with torch.inference_mode():
        found = onnx_inputs(encoder, before(batch), neighbors)
    missing = [name for name in inputs if name not in found]
    if missing:
        raise CannotRunError(f"the exported model asks for {', '.join(missing)}, which geo3d does not give")
    return {name: found[name] for name in inputs}


def _cloud(outputs: list[str]) -> str:
    """The name of the output with the cloud features."""
    return "cloud" if "cloud" in outputs else outputs[-1]
