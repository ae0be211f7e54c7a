"""How the tensors of a record become arrays of a shard, and back, without loss."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import FIELDS, STRUCTURE, check_cloud, check_fields, field_of
from geo3d.errors import CloudError

KINDS = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
"""The types of numbers that a store keeps."""
NARROW = (np.int8, np.int16, np.int32)
"""Labels of points are kept in the first of these types that holds them all."""


def check_storable(cloud: Data, source: str) -> None:
    """Check that a cloud is sound, and that a store can keep all of it.

    Raises:
        CloudError: If it is empty, not finite, or all in one place; if it has something other than the fields of
            :data:`geo3d.cloud.FIELDS`, or a field of another shape or type. The message begins with ``source``.
    """
    check_cloud(cloud.pos, source)
    check_fields(cloud, source)
    if len(cloud.pos) > 1 and bool((cloud.pos == cloud.pos[0]).all()):
        raise CloudError(f"{source}: all points lie in one place; remove the cloud")
    for name, value in cloud.to_dict().items():
        if name in STRUCTURE:
            continue
        try:
            field_of(name)
        except CloudError as error:
            raise CloudError(f"{source}: {error}") from None
        kind = kind_of(torch.as_tensor(value))
        if kind not in KINDS:
            raise CloudError(f"{source}: {name}: expected numbers of type {', '.join(KINDS)}; found {kind}")


def kind_of(value: Tensor) -> str:
    """The name of a tensor's type, as NumPy writes it."""
    return str(value.dtype).removeprefix("torch.")


def form(name: str, value: Tensor) -> dict[str, Any]:
    """What all clouds of a store must have in common in one field: type of number, and shape of a row or an entry."""
    return {"dtype": kind_of(value), "shape": list(value.shape[1:] if FIELDS[name].per == "point" else value.shape)}


def entry_shape(name: str, shape: list[int]) -> list[int]:
    """The shape of one entry of a field per cloud in its array: without the leading 1 that some data sets give it."""
    return shape[1:] if len(shape) > len(FIELDS[name].shape) else shape


def packed(name: str, values: list[Tensor]) -> np.ndarray:
    """One array of a field: the rows of all clouds one after another, or one entry for each cloud.

    Colours that are multiples of 1/255 become bytes, and labels of points a short type of integer.
    """
    if FIELDS[name].per == "cloud":
        return np.stack([value.reshape(entry_shape(name, list(value.shape))).numpy() for value in values])
    array = np.concatenate([value.numpy() for value in values])
    if name == "rgb" and array.dtype == np.float32:
        with np.errstate(invalid="ignore", over="ignore"):
            coded = np.rint(array * np.float32(255)).clip(0, 255).astype(np.uint8)
        same = np.array_equal(unpacked(coded, "float32").view(np.uint32), array.view(np.uint32))
        return coded if same else array
    if array.dtype == np.int64:
        low, high = int(array.min()), int(array.max())
        kind = next((each for each in NARROW if np.iinfo(each).min <= low and high <= np.iinfo(each).max), np.int64)
        return array.astype(kind)
    return array


def unpacked(array: np.ndarray, dtype: str) -> np.ndarray:
    """A copy of rows of an array in the type that the data set gave; bytes that stand for floats are colours."""
    if array.dtype == np.uint8 and dtype == "float32":
        return array.astype(np.float32) / np.float32(255)
    return np.array(array, dtype=dtype)


def storable_kinds(name: str, dtype: str) -> tuple[str, ...]:
    """The types that the array of a field may have on disk, by the type that the data set gave."""
    if FIELDS[name].per == "point" and dtype == "int64":
        return ("int8", "int16", "int32", "int64")
    return ("uint8", "float32") if name == "rgb" and dtype == "float32" else (dtype,)
