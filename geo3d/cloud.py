"""The record that all of geo3d works on: a PyG ``Batch`` in which the points of all clouds follow one another.

Sizes: M points in all, B clouds, N points per cloud, C channels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from geo3d.errors import CloudError, did_you_mean


class Field(NamedTuple):
    """What an attribute of a record is."""

    per: Literal["point", "cloud"]
    """One row per point, or one entry per cloud (stacked in a batch)."""
    kind: Literal["position", "displacement", "direction", "none"]
    """How it changes when the cloud is mapped. A position is mapped like a point. A displacement is rotated and scaled,
    not shifted. A direction is a unit vector mapped by the inverse transpose, as normals are."""
    shape: tuple[int, ...]
    """Sizes of one row or entry; -1 stands for any size."""


FIELDS: dict[str, Field] = {
    "pos": Field("point", "position", (3,)),
    "normal": Field("point", "direction", (3,)),
    "rgb": Field("point", "none", (3,)),
    "x": Field("point", "none", (-1,)),
    "masked": Field("point", "none", (1,)),
    "point_y": Field("point", "none", ()),
    "instance": Field("point", "none", ()),
    "flow": Field("point", "displacement", (3,)),
    "view_id": Field("point", "none", ()),
    "point_id": Field("point", "none", ()),
    "y": Field("cloud", "none", ()),
    "joints": Field("cloud", "position", (-1, 3)),
    "frame": Field("cloud", "none", (4, 4)),
}
"""Every tensor that a record may have. To support a new kind of data, add a line."""

STRUCTURE = ("batch", "ptr", "num_points")
"""Attributes that say which points belong to which cloud."""


class Layout(NamedTuple):
    """Which rows belong to which cloud."""

    ptr: Tensor
    """(B + 1,) offsets of the clouds."""
    size: int | None = None
    """N if all clouds have N rows; None if they differ, or if N is not known."""


class Level(NamedTuple):
    """The points at one level of an encoder, with their features."""

    pos: Tensor
    """(M, 3)"""
    layout: Layout
    x: Tensor
    """(M, C)"""
    rows: Tensor | None = None
    """(M,) the row of each point in the finer level; None at level 0."""


class Features(NamedTuple):
    """What an encoder returns."""

    point: Tensor
    """(M, point_channels)"""
    cloud: Tensor
    """(B, cloud_channels)"""
    levels: tuple[Level, ...] = ()
    """From fine to coarse. Level 0 is the input: its points with their input channels. An encoder that keeps all points
    in every layer has no other level."""


def first_points(batch: Batch, num_points: int) -> Batch:
    """The first ``num_points`` points of each cloud, without other attributes.

    If the points are in random order, they are a random subset.

    Raises:
        CloudError: If the clouds differ in size, or have fewer points.
    """
    size = common_size(batch)
    if size is None or size < num_points:
        raise CloudError(f"first_points needs clouds of one size with at least {num_points} points; found {size}")
    return make_batch(batch.pos.view(-1, size, 3)[:, :num_points].reshape(-1, 3), num_points=num_points)


def make_batch(
    pos: Tensor,
    *,
    num_points: int | None = None,
    ptr: Tensor | None = None,
    **attributes: Any,
) -> Batch:
    """A batch from the points of all clouds and either their common size or their offsets.

    Args:
        pos: (M, 3) coordinates of all clouds, one after another.
        num_points: Number of points of each cloud, if it is the same for all.
        ptr: (B + 1,) offsets of the clouds, if it is not.
        attributes: Further attributes: per point (``normal``, ``point_y``, ...) or per cloud (``y``, ``frame``, ...).

    Raises:
        CloudError: If the sizes do not fit together, a cloud is empty, or a tensor is not in :data:`FIELDS`.

    Example:
        >>> batch = make_batch(torch.zeros(6, 3), num_points=3)
        >>> batch.ptr.tolist(), batch.batch.tolist(), batch.num_points
        ([0, 3, 6], [0, 0, 0, 1, 1, 1], 3)
    """
    if (num_points is None) == (ptr is None):
        raise CloudError("make_batch takes either num_points or ptr; give exactly one of them")
    if pos.dim() != 2 or pos.shape[1] != 3:
        raise CloudError(f"pos must be (M, 3); found {tuple(pos.shape)}")
    total = pos.shape[0]
    if num_points is not None:
        if num_points < 1 or total == 0 or total % num_points:
            raise CloudError(f"{total} points cannot be clouds of {num_points} points each")
        ptr = torch.arange(0, total + 1, num_points, device=pos.device)
        batch = torch.arange(total // num_points, device=pos.device).repeat_interleave(num_points)
    else:
        assert ptr is not None
        sizes = ptr.diff()
        if pos.device.type == "cpu":  # reading the values would synchronise with the GPU
            if ptr[0] != 0 or ptr[-1] != total or bool((sizes < 1).any()):
                raise CloudError(f"ptr must rise from 0 to {total} with no empty cloud; found {ptr.tolist()[:9]}")
            if bool((sizes == sizes[0]).all()):
                num_points = int(sizes[0])
        batch = torch.arange(len(sizes), device=pos.device).repeat_interleave(sizes, output_size=total)
    attributes.setdefault("point_id", torch.arange(total, device=pos.device))
    assert ptr is not None
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            attributes[name] = _stacked(name, value, total, len(ptr) - 1)
    return Batch(pos=pos, batch=batch, ptr=ptr, num_points=num_points, **attributes)


def _stacked(name: str, value: Tensor, points: int, clouds: int) -> Tensor:
    """The field with one row per point or one entry per cloud; entries that PyG concatenated are stacked."""
    field = field_of(name)
    rows = points if field.per == "point" else clouds
    if _fits(value.shape, (rows, *field.shape)):
        return value
    if field.per == "cloud" and value.dim() == len(field.shape):  # PyG joins (J, 3) of each cloud to (B * J, 3)
        each = (value.shape[0] / rows, *value.shape[1:]) if value.dim() else ()
        if _fits(each, field.shape) and value.numel() % rows == 0 and (rows == 1 or value.dim()):
            return value.reshape(rows, *field.shape)
    shape = f"({rows},{','.join(f' {size}' if size >= 0 else ' any' for size in field.shape)})"
    raise CloudError(f"{name}: expected the shape {shape}, one row per {field.per}; found {tuple(value.shape)}")


def _fits(shape: Sequence[float], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(size in (-1, own) for own, size in zip(shape, wanted, strict=True))


def named_columns(x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The columns of ``x`` (M, C) as fields, in the order of ``names``; the field ``x`` takes what is left.

    Example:
        >>> {name: tuple(value.shape) for name, value in named_columns(torch.zeros(2, 6), ("rgb", "x")).items()}
        {'rgb': (2, 3), 'x': (2, 3)}
    """
    known = sum(FIELDS[name].shape[0] for name in names if name != "x")
    widths = [x.shape[1] - known if name == "x" else FIELDS[name].shape[0] for name in names]
    return dict(zip(names, x.split(widths, 1), strict=True))


def field_of(name: str) -> Field:
    """The line of :data:`FIELDS` for an attribute.

    Raises:
        CloudError: If there is none.
    """
    if name not in FIELDS:
        hint = did_you_mean(name, FIELDS)
        raise CloudError(f"{name}: not a field of a cloud; {hint}; rename it, delete it, or add a line to FIELDS")
    return FIELDS[name]


def check_fields(data: Data, source: str) -> None:
    """Check that every field of one cloud has a row per point, or is one entry.

    Raises:
        CloudError: If a field has another shape; the message begins with ``source``.
    """
    for name, field in FIELDS.items():
        value = data.get(name)
        if value is None or (_is_number(value) and not field.shape):
            continue
        if not isinstance(value, Tensor):
            raise CloudError(f"{source}: {name}: expected a tensor; found a {type(value).__name__}")
        try:
            _stacked(name, value, len(data.pos), 1)
        except CloudError as error:
            raise CloudError(f"{source}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def fields(data: Data) -> Iterator[tuple[str, Field, Tensor]]:
    """Name, field and value of every tensor of the record, in the order of :data:`FIELDS`."""
    for name, field in FIELDS.items():
        value = data.get(name)
        if isinstance(value, Tensor):
            yield name, field, value


def map_fields(data: Data, functions: Mapping[str, Callable[[Tensor, Field], Tensor]]) -> Any:
    """A copy of the record with each field changed by the function for its kind; ``frame`` is dropped.

    The frame belongs to the old coordinates; a caller that knows the new frame sets it.

    Args:
        data: One cloud or a batch.
        functions: For each kind to change, such as ``"position"``, a function of a field's value and its line of
            :data:`FIELDS`. Fields of other kinds do not change.

    Example:
        >>> shifted = map_fields(Data(pos=torch.zeros(1, 3)), {"position": lambda value, field: value + 1})
        >>> shifted.pos.tolist()
        [[1.0, 1.0, 1.0]]
    """
    changes = {
        name: functions[field.kind](value, field) for name, field, value in fields(data) if field.kind in functions
    }
    return with_(without_frame(data), **changes)


def without_frame(data: Data) -> Any:
    """The record without ``frame``, for coordinates that do not map back to a source, such as those of a view."""
    if "frame" not in data:
        return data
    out = copy(data)
    del out.frame
    return out


def collate(clouds: Sequence[Data]) -> Batch:
    """One batch from single clouds; attributes that not all of them have are left out.

    The exception is ``frame`` (B, 4, 4): if any cloud has one, clouds without it get the identity.

    Raises:
        CloudError: If a tensor is not in :data:`FIELDS`, or is wider in one cloud than in another.
    """
    if not clouds:
        raise CloudError("there is no cloud to collate; give at least one")
    sizes = [cloud.pos.shape[0] for cloud in clouds]
    keys = set.intersection(*(set(cloud.keys()) for cloud in clouds)) - {"pos", "point_id", *STRUCTURE}
    attributes: dict[str, Any] = {}
    if any("frame" in cloud for cloud in clouds):
        eye = torch.eye(4, dtype=torch.float64, device=clouds[0].pos.device)
        frames = [_stacked("frame", cloud.frame, 0, 1)[0] if "frame" in cloud else eye for cloud in clouds]
        attributes["frame"] = torch.stack(frames)
    for key in sorted(keys - {"frame"}):
        values = [cloud[key] for cloud in clouds]
        if key in FIELDS:
            values = [torch.tensor(value) if _is_number(value) else value for value in values]
        if not all(isinstance(value, Tensor) for value in values):
            attributes[key] = values
            continue
        values = [_stacked(key, value, size, 1) for value, size in zip(values, sizes, strict=True)]
        widths = {tuple(value.shape[1:]) for value in values}
        if len(widths) > 1:
            raise CloudError(f"clouds of one batch have {key} of different widths, {sorted(widths)}; give all the same")
        if len({value.is_floating_point() for value in values}) > 1:
            raise CloudError(f"clouds of one batch have {key} as integers and as floats; give all the same")
        attributes[key] = torch.cat(values)
    pos = torch.cat([cloud.pos for cloud in clouds])
    if len(set(sizes)) == 1:
        return make_batch(pos, num_points=sizes[0], **attributes)
    return make_batch(pos, ptr=torch.tensor([0, *sizes]).cumsum(0), **attributes)


def as_batch(data: Data) -> Batch:
    """The same clouds as a geo3d batch: a single cloud or any PyG batch gets ``ptr`` and ``num_points``.

    Raises:
        CloudError: If ``batch`` is not sorted, a tensor is not in :data:`FIELDS`, or its shape does not fit.
    """
    if isinstance(data, Batch) and data.get("point_id") is not None and data.get("ptr") is not None:
        return data
    _check_joined(data)
    known = {key: value for key, value in data.to_dict().items() if key not in ("pos", *STRUCTURE)}
    if data.get("ptr") is not None:
        return make_batch(data.pos, ptr=data.ptr, **known)
    if data.get("batch") is not None:
        if data.batch.device.type == "cpu" and bool((data.batch.diff() < 0).any() or (data.batch[:1] < 0).any()):
            raise CloudError("batch must be sorted: all points of cloud 0 first, then those of cloud 1, and so on")
        sizes = torch.bincount(data.batch)
        return make_batch(data.pos, ptr=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), **known)
    return make_batch(data.pos, num_points=data.pos.shape[0], **known)


def _check_joined(data: Data) -> None:
    """Check that clouds which PyG joined have equally many rows in each field per cloud, so that it can be stacked.

    Raises:
        CloudError: If they do not: (3, 3) and (1, 3) joints would become two clouds with two joints each.
    """
    for name, ends in getattr(data, "_slice_dict", {}).items():
        if name in FIELDS and FIELDS[name].per == "cloud" and len(set(ends.diff().tolist())) > 1:
            raise CloudError(f"clouds of one batch have {ends.diff().tolist()[:8]} rows of {name}; give all the same")


def num_clouds(batch: Batch) -> int:
    """B, the number of clouds."""
    return int(batch.ptr.shape[0]) - 1


def common_size(batch: Batch) -> int | None:
    """N if all clouds have N points, else None; a Python number, so that reading it does not synchronise with a GPU."""
    return batch.get("num_points")


def layout_of(batch: Batch) -> Layout:
    """Which of the batch's points belong to which cloud."""
    return Layout(batch.ptr, common_size(batch))


def with_(batch: Data, **changes: Any) -> Any:
    """A shallow copy of the batch with some attributes replaced; the batch itself does not change."""
    out = copy(batch)  # not its tensors; building a new Batch takes twenty times as long
    for key, value in changes.items():
        out[key] = value
    return out


def select_points(batch: Batch, index: Tensor, *, num_points: int | None = None, ptr: Tensor | None = None) -> Batch:
    """The batch of the points at ``index``, with all attributes of the points and of the clouds.

    Args:
        batch: The clouds to select from.
        index: (M',) flat indices; those of cloud 0 first, then those of cloud 1, and so on.
        num_points: Number of points selected from each cloud, if it is the same for all.
        ptr: (B + 1,) offsets of the new clouds, if it is not.
    """
    kept = {
        key: value.index_select(0, index) if per_point(key) else value
        for key, value in batch.to_dict().items()
        if key not in STRUCTURE
    }
    return make_batch(kept.pop("pos"), num_points=num_points, ptr=ptr, **kept)


def per_point(name: str) -> bool:
    """Whether the attribute of this name has one row per point."""
    return name in FIELDS and FIELDS[name].per == "point"


def check_cloud(pos: Tensor, source: str) -> None:
    """Check that ``pos`` is a usable cloud.

    Raises:
        CloudError: If its shape is not (N, 3) with N >= 1, or a coordinate is NaN or infinite.
    """
    if pos.dim() != 2 or pos.shape[1] != 3 or not pos.dtype.is_floating_point:
        raise CloudError(
            f"{source}: expected points of shape (N, 3) and floats, found {tuple(pos.shape)} of {pos.dtype}"
        )
    if pos.shape[0] == 0:
        raise CloudError(f"{source}: the cloud is empty; expected at least one point")
    if not bool(torch.isfinite(pos).all()):
        bad = int((~torch.isfinite(pos)).any(1).sum())
        raise CloudError(
            f"{source}: {bad} of {pos.shape[0]} points have NaN or infinite coordinates; remove them first"
        )
