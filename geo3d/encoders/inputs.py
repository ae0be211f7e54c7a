"""The input channels that encoders read from a batch of clouds."""

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geo3d.cloud import STRUCTURE, as_batch
from geo3d.errors import CloudError, ConfigError
from geo3d.nn.graph import Op


def check_encoder(encoder: nn.Module) -> None:
    """Check that an encoder says how many channels it reads and gives.

    Raises:
        ConfigError: If an attribute is missing, or is no number.
    """
    for name in ("in_channels", "point_channels", "cloud_channels"):
        if not isinstance(getattr(encoder, name, None), int):
            raise ConfigError(f"{type(encoder).__name__}: an encoder needs the attribute {name}, a number of channels")


def input_batch(data: Data) -> Batch:
    """The clouds as a geo3d batch of what encoders read: ``pos``, ``x`` and ``normal``.

    Other attributes of PyG data may have any form, as encoders do not look at them.

    Raises:
        CloudError: If ``batch`` is not sorted, or offsets do not fit the points.
    """
    if isinstance(data, Batch) and data.get("point_id") is not None and data.get("ptr") is not None:
        return data
    read = {name: data.get(name) for name in ("x", "normal", *STRUCTURE)}
    fits = {name: x for name, x in read.items() if isinstance(x, Tensor) and (name in STRUCTURE or x.dim() == 2)}
    return as_batch(Data(pos=data.pos, **fits))


def point_inputs(batch: Batch, in_channels: int) -> Tensor:
    """(M, in_channels) coordinates, followed by ``x``, or by ``normal`` where there is no ``x``.

    Raises:
        CloudError: If ``pos`` is not (M, 3), the batch has another number of channels, or a channel beside the
            coordinates holds NaN or infinity (values are not checked while torch compiles a model).
    """
    if batch.pos.dim() != 2 or batch.pos.shape[1] != 3:
        raise CloudError(f"pos must be (M, 3); found {tuple(batch.pos.shape)}")
    if in_channels == 3:
        return batch.pos
    name = "x" if batch.get("x") is not None else "normal"
    extra = batch.get(name)
    found = 0 if extra is None else extra.shape[1]
    if extra is None or found != in_channels - 3:
        raise CloudError(
            f"in_channels={in_channels} asks for {in_channels - 3} channels beside the coordinates; the clouds have "
            f"{found} in {name!r}; set in_channels={3 + found} or give the points x (M, {in_channels - 3})"
        )
    if not torch.compiler.is_compiling() and not bool(torch.isfinite(extra).all()):
        bad = int((~torch.isfinite(extra)).any(1).sum())
        raise CloudError(
            f"{bad} of {extra.shape[0]} points have NaN or infinite {name!r}, which in_channels={in_channels} reads; "
            "remove these points, or train with in_channels=3"
        )
    return torch.cat([batch.pos, extra.to(batch.pos.dtype)], 1)


def cloud_inputs(in_channels: int) -> tuple[list[Op], str]:
    """The input operations of an encoder's graph, and the name of the value that :func:`point_inputs` computes."""
    pos = Op("input", "pos", number=3)
    if in_channels == 3:
        return [pos], "pos"
    return [pos, Op("input", "x", number=in_channels - 3), Op("concat", "input", ("pos", "x"))], "input"
