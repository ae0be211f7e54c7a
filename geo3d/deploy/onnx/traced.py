"""ONNX export of encoders without a ``layer_graph``: PyTorch traces them on random clouds."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn

from geo3d.cloud import make_batch
from geo3d.deploy.onnx.graph import required
from geo3d.encoders.inputs import channels_of
from geo3d.errors import ConfigError

OPSET = 18
"""Operator set of the trace; the model is then converted to the requested operator set."""


class UniformClouds(nn.Module):
    """An encoder wrapped so that it takes clouds of one size as plain tensors.

    Args:
        encoder: Any of geo3d's, or a whole network without categories.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pos: Tensor, x: Tensor | None = None) -> tuple[Tensor, ...]:
        """(B, N, C) and (B, D) features from ``pos`` (B, N, 3) and further channels ``x`` (B, N, in_channels - 3).

        Of a whole network only the logits (B, N, classes).
        """
        clouds, size = pos.shape[:2]
        extra = {} if x is None else channels_of(self.encoder, x.flatten(0, 1))
        features = self.encoder(make_batch(pos.flatten(0, 1), num_points=size, **extra))
        if isinstance(features, Tensor):
            return (features.view(clouds, size, -1),)
        return features.point.view(clouds, size, -1), features.cloud


def traced(encoder: nn.Module, clouds: int | None, num_points: int | None, opset: int) -> Any:
    """The encoder in evaluation as an ``onnx.ModelProto`` for one number of clouds and of points.

    Inputs and outputs are those of :mod:`geo3d.deploy.onnx.encoders`. The trace keeps every decision that Python code
    takes for the random clouds, so compare the file with the encoder, as ``geo3d export`` does.

    Raises:
        ConfigError: If a size is missing, or the encoder calls an operator that ONNX does not have, such as geo3d's.
    """
    name = type(encoder).__name__
    if clouds is None or num_points is None:
        raise ConfigError(
            f"{name}: has no layer_graph and is exported by tracing, for clouds of fixed size; "
            "give clouds=N and num_points=N, or write a layer_graph"
        )
    onnx = required("onnx")
    channels = int(getattr(encoder, "in_channels", 3))
    draws = torch.Generator().manual_seed(0)
    rows = torch.rand(clouds, num_points, channels, generator=draws, dtype=torch.float32)
    arguments = (rows[..., :3].contiguous(), rows[..., 3:].contiguous())[: 1 + (channels > 3)]
    names, training = ["pos", "x"][: len(arguments)], encoder.training
    content: Any = BytesIO()  # Any: torch accepts it, but its annotation does not say so
    try:
        with warnings.catch_warnings(), torch.no_grad(), _silent():
            warnings.simplefilter("ignore")  # torch warns of every Python decision, which is intended here
            torch.onnx.export(
                UniformClouds(encoder.eval()), arguments, content, input_names=names, output_names=["point", "cloud"],
                opset_version=OPSET, dynamo=False,
            )  # fmt: skip
    except Exception as error:  # whatever the encoder, torch and its exporter raise
        raise _untraceable(name, error) from error
    finally:
        encoder.train(training)
    try:  # torch can write graphs that no runtime loads
        model = onnx.version_converter.convert_version(onnx.load_from_string(content.getvalue()), opset)
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(model, strict_mode=True), full_check=True)
    except Exception as error:  # onnx's converter and checker raise several kinds
        raise _untraceable(name, error) from error
    return model


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches the standard output: on an error, torch's compiled part prints its whole graph there."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _untraceable(name: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200]
    return ConfigError(f"{name}: has no layer_graph, and cannot be traced ({reason}); write a layer_graph")
