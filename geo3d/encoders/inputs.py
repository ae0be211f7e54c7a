"""The input channels that encoders read from a batch of clouds."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geo3d.checks import Length, OneOf
from geo3d.cloud import FIELDS, STRUCTURE, as_batch, named_columns
from geo3d.errors import CloudError, ConfigError
from geo3d.nn.graph import Op

READ = ("x", "normal", "rgb", "masked")
"""The fields of a record that an encoder may read beside the coordinates."""

Inputs = Annotated[Sequence[Annotated[str, OneOf(*READ)]], Length(0, len(READ))]


def check_encoder(encoder: nn.Module) -> None:
    """Check that an encoder says how many channels it reads and gives.

    Raises:
        ConfigError: If an attribute is missing, or is no number.
    """
    for name in ("in_channels", "point_channels", "cloud_channels"):
        if not isinstance(getattr(encoder, name, None), int):
            raise ConfigError(f"{type(encoder).__name__}: an encoder needs the attribute {name}, a number of channels")


def input_batch(data: Data) -> Batch:
    """The clouds as a geo3d batch of what encoders read: ``pos`` and the fields in :data:`READ`.

    Other attributes of PyG data may have any form, as encoders do not look at them.

    Raises:
        CloudError: If ``batch`` is not sorted, or offsets do not fit the points.
    """
    if isinstance(data, Batch) and data.get("point_id") is not None and data.get("ptr") is not None:
        return data
    read = {name: data.get(name) for name in (*READ, *STRUCTURE)}
    fits = {name: x for name, x in read.items() if isinstance(x, Tensor) and (name in STRUCTURE or x.dim() == 2)}
    return as_batch(Data(pos=data.pos, **fits))


def input_channels(in_channels: int, inputs: Sequence[str]) -> int:
    """The input channels of an encoder: three coordinates, and those of the fields that it reads.

    Args:
        in_channels: What the user has given; 3, the default, is no statement where fields are named.
        inputs: Names of fields out of :data:`READ`. If there are none, or ``x`` is among them, whose channels only the
            data set knows, ``in_channels`` decides.

    Raises:
        ConfigError: If a name occurs twice, or the two do not fit together.

    Example:
        >>> input_channels(3, ("rgb", "normal"))
        9
    """
    if len(set(inputs)) < len(inputs):
        raise ConfigError(f"inputs: expected each field once; found {', '.join(inputs)}")
    known = sum(FIELDS[name].shape[0] for name in inputs if name != "x")
    if not inputs or "x" in inputs:
        if inputs and in_channels <= 3 + known:
            raise ConfigError(
                f"in_channels: with x among the inputs, give 3 + {known} + the channels of x; found {in_channels}"
            )
        return in_channels
    if in_channels not in (3, 3 + known):
        raise ConfigError(
            f"in_channels={in_channels}, but the coordinates and {', '.join(inputs)} have {3 + known} channels; leave "
            "in_channels out"
        )
    return 3 + known


def point_inputs(batch: Batch, in_channels: int, inputs: Sequence[str] = ()) -> Tensor:
    """(M, in_channels) coordinates, followed by the fields named in ``inputs``.

    Without names these are ``x``, or ``normal`` where there is no ``x``. Clouds without ``masked`` have no masked
    point.

    Raises:
        CloudError: If ``pos`` is not (M, 3), the batch lacks a field or has another number of channels, or a channel
            beside the coordinates holds NaN or infinity (values are not checked while torch compiles a model).
    """
    if batch.pos.dim() != 2 or batch.pos.shape[1] != 3:
        raise CloudError(f"pos must be (M, 3); found {tuple(batch.pos.shape)}")
    if in_channels == 3:
        return batch.pos
    name, extra = _joined(batch, inputs) if inputs else ("x", batch.get("x"))
    if extra is None:
        name, extra = "normal", batch.get("normal")
    found = 0 if extra is None else extra.shape[1]
    if inputs and found != in_channels - 3:
        raise CloudError(f"x: expected {in_channels - 3 - found + batch.x.shape[1]} channels; found {batch.x.shape[1]}")
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


def encoder_inputs(batch: Batch, encoder: Any) -> Tensor:
    """What an encoder, or a whole network, reads of a batch, see :func:`point_inputs`."""
    return point_inputs(batch, int(encoder.in_channels), getattr(encoder, "inputs", ()))


def channels_of(encoder: Any, x: Tensor) -> dict[str, Tensor]:
    """The fields that an encoder, or a whole network, reads beside the coordinates, from their joined columns."""
    return named_columns(x, getattr(encoder, "inputs", ()) or ("x",))


def _joined(batch: Batch, inputs: Sequence[str]) -> tuple[str, Tensor]:
    """The named fields of a batch side by side, and what to call them."""
    fields = {name: batch.get(name) for name in inputs}
    if "masked" in fields and fields["masked"] is None:
        fields["masked"] = batch.pos.new_zeros(len(batch.pos), 1)
    for name, value in fields.items():
        if value is None:
            raise CloudError(
                f"the encoder reads {' and '.join(inputs)}; the clouds have no {name!r}; give their points {name}, or "
                "take an encoder with other inputs"
            )
        if name != "x" and value.shape != (len(batch.pos), FIELDS[name].shape[0]):
            raise CloudError(
                f"{name}: expected ({len(batch.pos)}, {FIELDS[name].shape[0]}); found {tuple(value.shape)}"
            )
    return " and ".join(inputs), torch.cat([value.to(batch.pos.dtype) for value in fields.values()], 1)


def cloud_inputs(in_channels: int) -> tuple[list[Op], str]:
    """The input operations of an encoder's graph, and the name of the value that :func:`point_inputs` computes."""
    pos = Op("input", "pos", number=3)
    if in_channels == 3:
        return [pos], "pos"
    return [pos, Op("input", "x", number=in_channels - 3), Op("concat", "input", ("pos", "x"))], "input"
