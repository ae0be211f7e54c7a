"""Encoders for other runtimes: ONNX, OpenVINO (through ONNX) and ``torch.export``."""

import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_geometric.data import Data

import geo3d
from geo3d.cloud import common_size
from geo3d.compress import records
from geo3d.deploy.onnx.encoders import build, onnx_inputs
from geo3d.deploy.onnx.graph import Graph, required
from geo3d.deploy.onnx.traced import UniformClouds, traced
from geo3d.encoders.inputs import encoder_inputs, input_batch
from geo3d.errors import CloudError, ConfigError
from geo3d.io.files import replacing
from geo3d.network import PointNetwork
from geo3d.nn.keywords import keywords_of
from geo3d.nn.linear import Linear

__all__ = ["export_onnx", "export_openvino", "export_torch", "onnx_inputs", "onnx_model", "rounds"]

OPSET = 21
CONVENTION = "pos: (clouds, points, 3), all clouds of one size; tables count inside each cloud"


def rounds(encoder: nn.Module) -> bool:
    """Whether an encoder is quantised."""
    return any(isinstance(layer, Linear) and layer.quantizer is not None for layer in encoder.modules())


def onnx_model(
    encoder: nn.Module,
    *,
    neighbors: str = "inside",
    precision: str = "auto",
    opset: int = OPSET,
    num_points: int | None = None,
    clouds: int | None = None,
    int4: bool = False,
) -> Any:
    """The encoder in evaluation as an ``onnx.ModelProto``; for arguments and errors see :func:`export_onnx`."""
    if neighbors not in ("inside", "inputs"):
        raise ConfigError(f"neighbors must be inside or inputs; found {neighbors!r}")
    if precision not in ("auto", "float", "int8"):
        raise ConfigError(f"precision must be auto, float or int8; found {precision!r}")
    if precision == "int8" and not rounds(encoder):
        raise ConfigError("precision=int8: the encoder has no learned steps; quantise it first (geo3d compress)")
    as_codes = rounds(encoder) and precision != "float"
    describes = hasattr(encoder, "layer_graph") or hasattr(encoder, "settings")
    if not describes and neighbors == "inputs":
        raise ConfigError(f"neighbors=inputs: {type(encoder).__name__} has no layer_graph that names its searches")
    card = {
        "class": type(encoder).__name__,
        "compression": json.dumps(getattr(encoder, "compression", [])),
        "neighbors": neighbors,
        "precision": "int8" if as_codes else "float",
        "convention": CONVENTION,
        "geo3d": geo3d.__version__,
    }
    if isinstance(encoder, PointNetwork):
        parts = {name: part for name, part in encoder.named_children()}
        card["class"] = json.dumps({name: type(part).__name__ for name, part in parts.items()})
        card["keywords"] = json.dumps({name: keywords_of(part) for name, part in parts.items()})
        card["compression"] = json.dumps({name: records(part) for name, part in parts.items()})
    elif describes:
        card["keywords"] = json.dumps(keywords_of(encoder))
    else:
        model = traced(encoder, clouds, num_points, opset)
        required("onnx").helper.set_model_props(model, card)
        return model
    graph = Graph(type(encoder).__name__, opset, as_codes, int4)
    build(graph, encoder, (clouds or "clouds", num_points or "points"), neighbors == "inside")
    return graph.model(card)


def export_onnx(
    encoder: nn.Module,
    path: str | Path,
    *,
    neighbors: str = "inside",
    precision: str = "auto",
    opset: int = OPSET,
    num_points: int | None = None,
    clouds: int | None = None,
    int4: bool = False,
) -> Path:
    """The path, after the encoder in evaluation has been written there as an ONNX file.

    An edge convolution takes products per point in the graph, never one per edge.
    :mod:`geo3d.deploy.onnx.encoders` describes the inputs and outputs; the file's metadata hold the encoder's class,
    keywords and compression, and the options of the export.

    A quantised encoder keeps its learned steps. Weights are int8 codes and activations uint8 codes, with zero point 0:
    learned offsets are not multiples of the step, so they are subtracted before rounding and folded into the next
    layer.

    Args:
        encoder: Any encoder, or a whole :class:`geo3d.network.PointNetwork`. An encoder without a ``layer_graph`` is
            traced, which needs ``clouds`` and ``num_points`` and operators that ONNX has.
        path: The file; written completely or not at all.
        neighbors: ``"inside"``: the graph searches neighbours itself; ``"inputs"``: they are inputs of the graph, see
            :func:`onnx_inputs`. A PointNet2 needs ``"inputs"``.
        precision: ``"int8"``: products of codes; ``"float"``: products of the rounded values as floats; ``"auto"``:
            int8 if the encoder is quantised.
        opset: ONNX's operator set, from 18 to 23.
        num_points: Fix the number of points per cloud; by default it is free.
        clouds: Fix the number of clouds; by default it is free.
        int4: Store codes that fit into four bits as int4. Files are smaller, but the runtimes of today multiply them as
            floats.

    Raises:
        ConfigError: If the encoder or an option does not fit, or onnx is not installed.
    """
    options: dict[str, Any] = {"num_points": num_points, "clouds": clouds, "int4": int4}
    model = onnx_model(encoder, neighbors=neighbors, precision=precision, opset=opset, **options)
    with replacing(path) as draft:
        draft.write_bytes(model.SerializeToString())
    return Path(path)


def export_openvino(encoder: nn.Module, path: str | Path, **options: Any) -> Path:
    """The path ``NAME.xml``, after the encoder has been written in OpenVINO's format to it and to ``NAME.bin``.

    Args:
        encoder: As for :func:`export_onnx`.
        path: Path of the ``.xml`` file.
        options: The options of :func:`export_onnx`.

    Raises:
        ConfigError: As :func:`export_onnx`; also for another suffix, or if OpenVINO is not installed.
    """
    path = Path(path)
    if path.suffix != ".xml":
        raise ConfigError(f"{path}: OpenVINO's files are called NAME.xml, with NAME.bin beside it; give such a name")
    openvino = required("openvino")
    model = onnx_model(encoder, **options)
    converted = openvino.convert_model(BytesIO(model.SerializeToString()))
    for entry in model.metadata_props:
        converted.set_rt_info(entry.value, ["geo3d", entry.key])
    with replacing(path.with_suffix(".bin")) as weights, replacing(path) as draft:
        openvino.save_model(converted, draft, compress_to_fp16=False)
        os.replace(draft.with_suffix(".bin"), weights)
    return path


def export_torch(encoder: nn.Module, path: str | Path, data: Data) -> Path:
    """The path (``.pt2``), after a ``torch.export`` program of the encoder in evaluation has been written there.

    The program takes ``pos (B, N, 3)``, and ``x (B, N, in_channels - 3)`` for encoders with more channels. It returns
    the features of points (B, N, C) and of clouds (B, D). B and N are fixed to those of ``data``. The program calls
    geo3d's operators (``torch.ops.geo3d.*``), so import geo3d's encoders before ``torch.export.load(path)``.

    Args:
        encoder: Any of geo3d's, or a whole network, whose program returns the logits (B, N, classes) alone.
        path: The file; written completely or not at all.
        data: Clouds of one size.

    Raises:
        CloudError: If they are not of one size.
        ConfigError: If torch.export cannot follow the encoder's ``forward``, or a network reads categories.
    """
    if isinstance(encoder, PointNetwork) and encoder.categories:
        raise ConfigError(
            "torch.export: the network reads the category of each cloud; export it as ONNX, with an input y"
        )
    batch = input_batch(data)
    size = common_size(batch)
    if size is None:
        raise CloudError("an exported encoder takes clouds of one size; sample them to the same number of points")
    x = encoder_inputs(batch, encoder).unflatten(0, (-1, size))
    arguments = (x[..., :3].contiguous(), x[..., 3:].contiguous())[: 1 + (x.shape[2] > 3)]
    training = encoder.training
    try:
        with torch.no_grad():
            program = torch.export.export(UniformClouds(encoder.eval()), arguments, strict=False)
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{type(encoder).__name__}: torch.export cannot follow its forward ({reason})") from error
    finally:
        encoder.train(training)
    with replacing(path) as draft:
        torch.export.save(program, draft)
    return Path(path)
