"""Sorting of the points of each cloud, in random order or by a key.

Sorting integers by value is many times faster than sorting indices by key (argsort). So we pack key and index into one
integer, with the key in the higher bits. After sorting, the lower bits give the index, which also breaks ties.
"""

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import common_size, num_clouds


def random_keys(batch: Batch, generator: torch.Generator) -> Tensor:
    """(M,) int32 numbers, uniform from 0 to 2^31 - 1, one per point; ties are rare."""
    drawn = torch.empty(batch.pos.shape[0], dtype=torch.int32, device=generator.device).random_(generator=generator)
    return drawn.to(batch.pos.device)


def order_within(keys: Tensor, batch: Batch, first: int | None = None) -> Tensor:
    """(M,) flat indices grouped by cloud, with each cloud's points in ascending order of their keys.

    Ties go to the lower index.

    Args:
        keys: (M,) numbers, none of them NaN; fast for int32 and float32.
        batch: The clouds.
        first: Return only this many points of each cloud, (B * first,) indices; for clouds of one size.
    """
    size, packed = common_size(batch) or len(keys), pack(keys, batch)
    if packed is None:
        order = _whole(keys).argsort(stable=True)
        return order[batch.batch[order].argsort(stable=True)].view(-1, size)[:, :first].reshape(-1)
    return unpack(sorted_rows(packed.view(-1, size), first), batch).view(-1)


def pack(keys: Tensor, batch: Batch) -> Tensor | None:
    """(M,) distinct int64 numbers, ordered by cloud (if sizes differ), then by key, then by index.

    None if these do not fit into 64 bits.
    """
    keys = _whole(keys)
    bits, ragged = _index_bits(batch), common_size(batch) is None
    if keys.dtype != torch.int32 or bits + (num_clouds(batch).bit_length() if ragged else 0) > 31:
        return None
    packed = keys.long()
    if ragged:
        packed += batch.batch << 32
    packed <<= bits
    packed += torch.arange(len(keys), device=keys.device)
    return packed


def unpack(packed: Tensor, batch: Batch) -> Tensor:
    """The flat indices in numbers from :func:`pack`."""
    return packed & ((1 << _index_bits(batch)) - 1)


def sorted_rows(rows: Tensor, count: int | None = None) -> Tensor:
    """(R, count) smallest numbers of each row of ``rows (R, L)`` int64, in ascending order; all by default."""
    count = rows.shape[1] if count is None else count
    if rows.device.type != "cpu":
        return rows.topk(count, largest=False).values if count < rows.shape[1] else rows.sort(dim=1).values
    numbers = rows.numpy()  # NumPy sorts numbers with vector instructions
    if count < rows.shape[1]:
        numbers = np.partition(numbers, count, axis=1)[:, :count]
    return torch.from_numpy(np.sort(numbers, axis=1))


def _index_bits(batch: Batch) -> int:
    return (batch.pos.shape[0] - 1).bit_length()


def _whole(keys: Tensor) -> Tensor:
    """Floating-point keys as integers that sort in the same order; other keys unchanged."""
    if not keys.is_floating_point():
        return keys
    integer = torch.int64 if keys.dtype == torch.float64 else torch.int32
    bits = (keys + 0.0).view(integer)  # -0 becomes 0
    return bits ^ ((bits >> (torch.iinfo(integer).bits - 1)) & torch.iinfo(integer).max)
