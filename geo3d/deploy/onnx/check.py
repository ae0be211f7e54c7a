"""Compares the features that an exported file gives with those of the encoder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch_geometric.data import Batch

from geo3d import seeds
from geo3d.cloud import Features, make_batch
from geo3d.deploy.onnx.encoders import onnx_inputs
from geo3d.deploy.onnx.graph import required
from geo3d.deploy.signal_stack import kept
from geo3d.encoders.inputs import channels_of
from geo3d.network import PointNetwork

Array = np.ndarray[Any, Any]

Run = Callable[[Mapping[str, Array]], tuple[Array, ...]]
"""From inputs by name to ``point`` (B, N, C) and ``cloud`` (B, D), or of a whole network ``logits`` (B, N, classes)."""

TOLERANCE = 1e-3
"""Difference, relative to the largest feature, that rounding in single precision explains."""

FEW = 0.02
"""Fraction of values that may differ by more if the file searches neighbours: if two points are equally near, the
runtime may take the other one."""

MEAN = 0.02
"""Mean difference, relative to the mean magnitude of features, that a quantised encoder may have: a value halfway
between two codes may be rounded to the other one, and with coarse codes that changes everything after it."""


class Difference(NamedTuple):
    """How far a file's outputs are from geo3d's on the same clouds; the larger value of point and cloud features.

    Attributes:
        largest: The largest difference, relative to the largest feature.
        mean: The mean difference, relative to the mean magnitude.
        fraction: Fraction of values that differ by more than ``TOLERANCE`` of the largest feature.
    """

    largest: float
    mean: float
    fraction: float

    def __str__(self) -> str:
        beyond = f"{self.fraction:.2%} of the values beyond {TOLERANCE:g}"
        return f"largest {self.largest:.1e}, mean {self.mean:.1e}, {beyond}"

    def acceptable(self, *, rounded: bool, searched: bool) -> bool:
        """Whether rounding explains the difference.

        Args:
            rounded: Whether the encoder is quantised.
            searched: Whether the file searches neighbours itself.
        """
        if rounded:
            return self.mean <= MEAN
        return self.fraction <= FEW if searched else self.largest <= TOLERANCE


def difference(expected: Features | Tensor, *outputs: Array) -> Difference:
    """How far a file's outputs are from an encoder's features, or from the logits of a whole network."""
    parts = []
    wanted = (expected,) if isinstance(expected, Tensor) else (expected.point, expected.cloud)
    for exact, other in zip(wanted, outputs, strict=True):
        exact = exact.cpu()
        away = (torch.from_numpy(np.array(other)).reshape(exact.shape) - exact).abs()
        top, middle = (value.clamp_min(1e-30) for value in (exact.abs().max(), exact.abs().mean()))
        # Written so that NaN counts as beyond.
        parts.append(
            (float(away.max() / top), float(away.mean() / middle), float((~(away <= TOLERANCE * top)).float().mean()))
        )
    return Difference(*(float(np.max(column)) for column in zip(*parts, strict=True)))


def random_clouds(encoder: nn.Module, clouds: int, num_points: int) -> Batch:
    """Clouds of random points within the unit sphere, with extra channels and categories if the encoder takes them."""
    generator = seeds.generator(0, "export check")
    direction = normalize(torch.randn(clouds * num_points, 3, generator=generator, dtype=torch.float32), dim=1)
    pos = direction * torch.rand(len(direction), 1, generator=generator, dtype=torch.float32).pow(1 / 3)
    more = int(encoder.in_channels) - 3  # type: ignore[arg-type]
    extra = channels_of(encoder, torch.randn(len(pos), more, generator=generator, dtype=torch.float32)) if more else {}
    if isinstance(encoder, PointNetwork) and encoder.categories:
        extra["y"] = torch.arange(clouds) % encoder.categories
    return make_batch(pos, num_points=num_points, **extra)


def in_onnxruntime(path: str | Path, threads: int = 1) -> Run:
    """A function that runs an ONNX file on the CPU with onnxruntime.

    Args:
        path: The file.
        threads: Number of threads; 0 means one per core.

    Raises:
        ConfigError: If onnxruntime is not installed.
    """
    runtime = required("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: tuple(session.run(None, inputs))


def in_openvino(path: str | Path, threads: int = 1) -> Run:
    """A function that runs an OpenVINO or ONNX file on the CPU with OpenVINO, floats in single precision.

    Args:
        path: The file.
        threads: Number of threads; 0 means one per core.

    Raises:
        ConfigError: If OpenVINO is not installed.
    """
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    with kept():
        compiled = required("openvino").Core().compile_model(str(path), "CPU", settings)

    def run(inputs: Mapping[str, Array]) -> tuple[Array, ...]:
        return tuple(compiled(dict(inputs)).to_tuple())

    return run


def in_torch(path: str | Path) -> Run:
    """A function that runs a ``torch.export`` program."""
    program = torch.export.load(str(path)).module()

    @torch.no_grad()
    def run(inputs: Mapping[str, Array]) -> tuple[Array, ...]:
        outputs = program(*(torch.from_numpy(inputs[name]) for name in ("pos", "x") if name in inputs))
        return tuple(output.numpy() for output in outputs)

    return run


RUNTIMES: dict[str, tuple[str, Callable[..., Run]]] = {
    "onnx": ("onnxruntime", in_onnxruntime),
    "openvino": ("openvino", in_openvino),
    "torch": ("torch", in_torch),
}
"""For each format of a file: the package that runs it, and the function that loads it."""


@torch.no_grad()
def checked(
    encoder: nn.Module, path: str | Path, format: str, neighbors: str, clouds: int, num_points: int
) -> Difference:
    """How far a file, run by the runtime of its format, is from the encoder on random clouds.

    Raises:
        ConfigError: If that runtime is not installed.
    """
    batch = random_clouds(encoder, clouds, num_points)
    return difference(encoder(batch), *RUNTIMES[format][1](path)(onnx_inputs(encoder, batch, neighbors)))
