"""The definition of the search for neighbours, in torch; it runs where no compiled kernel can.

Sizes: M points in all, B clouds, N points a cloud, Q query points a cloud, C channels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 8
"""Columns in a group of the two-stage selection; 8 was fastest for rows of 256 to 1024 distances and k of 16 to 20."""


class Chunk(NamedTuple):
    """Some clouds side by side: padded indices of their points and of their queries."""

    x: Tensor
    """(b, N) flat indices of the points; padding repeats the last point"""
    y: Tensor
    """(b, Q) flat indices of the queries, padded alike"""
    x_size: Tensor | None
    """(b,) how many points are real, None when all are"""
    y_size: Tensor | None
    """(b,) how many queries are real, None when all are"""


def chunks(
    ptr_x: Tensor, ptr_y: Tensor, num_x: int | None = None, num_y: int | None = None, *, elements: int | None = None
) -> Iterator[Chunk]:
    """Every cloud once, in chunks that bound both the padding and the size of a (b, Q, N) tensor.

    Args:
        ptr_x: (B + 1,) offsets of the points.
        ptr_y: (B + 1,) offsets of the queries.
        num_x: Points in each cloud, when they all have the same number (saves a wait for the GPU).
        num_y: Queries in each cloud, likewise.
        elements: Bound of b * Q * N; a single cloud may exceed it. The default suits the device.
    """
    device, clouds = ptr_x.device, len(ptr_x) - 1
    if elements is None:  # a CPU is fastest when the distances stay in its cache
        elements = 1 << 19 if device.type == "cpu" else 1 << 24
    if num_x is not None and num_y is not None:
        step = max(1, elements // max(1, num_x * num_y))
        x = torch.arange(clouds * num_x, device=device).view(clouds, num_x)
        y = torch.arange(clouds * num_y, device=device).view(clouds, num_y)
        for i in range(0, clouds, step):
            yield Chunk(x[i : i + step], y[i : i + step], None, None)
        return
    sizes = list(zip(ptr_x.diff().tolist(), ptr_y.diff().tolist(), strict=True))
    order = sorted(range(clouds), key=sizes.__getitem__)
    start = 0
    while start < clouds:
        stop, real, widest = start, 0, 0
        while stop < clouds:
            n, q = sizes[order[stop]]
            real, widest = real + n * q, max(widest, q)
            padded = (stop + 1 - start) * n * widest
            if stop > start and (padded > elements or padded > 1.5 * real):
                break
            stop += 1
        index = torch.tensor(order[start:stop], device=device)
        part = [sizes[i] for i in order[start:stop]]
        (x, x_size), (y, y_size) = (
            _padded(ptr, index, [pair[side] for pair in part]) for side, ptr in enumerate((ptr_x, ptr_y))
        )
        yield Chunk(x, y, x_size, y_size)
        start = stop


def _padded(ptr: Tensor, clouds: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor | None]:
    column = torch.arange(max(sizes), device=ptr.device)
    first = ptr[clouds, None]
    if min(sizes) == max(sizes):
        return first + column, None
    size = torch.tensor(sizes, device=ptr.device)
    return first + torch.minimum(column, size[:, None] - 1), size


def search(
    x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor, k: int, num_x: int | None, num_y: int | None, *, same: bool
) -> Tensor:
    """(len(y), k) the result of :func:`geo3d.ops.search.knn.knn_query`; with ``same``, that of ``knn``."""
    out = torch.empty(y.shape[0], k, dtype=torch.int64, device=x.device)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        for chunk in chunks(ptr_x, ptr_y, num_x, num_y):
            column = _nearest(x[chunk.x], chunk.x_size, y[chunk.y], k, same=same)
            flat = chunk.x[:, :1, None] + column  # the points of a cloud are consecutive
            if chunk.y_size is None:
                out[chunk.y.flatten()] = flat.flatten(0, 1)
            else:
                real = torch.arange(chunk.y.shape[1], device=x.device) < chunk.y_size[:, None]
                out[chunk.y[real]] = flat[real]
    return out


def _nearest(x: Tensor, size: Tensor | None, y: Tensor, k: int, *, same: bool) -> Tensor:
    """(b, Q, k) columns of ``x (b, N, C)`` nearest to ``y (b, Q, C)``; ``size`` (b,) says how many are not padding."""
    b, n, channels = x.shape
    if channels > 3:  # rounding grows with the distance from the origin
        center = x.mean(1, keepdim=True)
        x, y = x - center, y - center
    padding = None if size is None else torch.arange(n, device=x.device) >= size[:, None, None]
    step = max(1, ((1 << 19) if x.device.type == "cpu" else (1 << 24)) // (b * n))
    columns = []
    for start in range(0, y.shape[1], step):
        distance = _ranks(x, y[:, start : start + step])
        if same and channels > 3:  # a point is its own neighbour whatever the rounding
            distance.diagonal(start, 1, 2).fill_(-torch.inf)
        if padding is not None:
            distance.masked_fill_(padding, torch.inf)
        columns.append(select_smallest(distance.flatten(0, 1), min(k, n)).view(b, -1, min(k, n)))
    column = torch.cat(columns, 1) if len(columns) > 1 else columns[0]
    if size is None and n >= k:
        return column
    period = torch.full((b, 1), n, device=x.device) if size is None else size[:, None]
    slot = torch.arange(k, device=x.device) % period
    return column.gather(2, slot[:, None, :].expand(-1, column.shape[1], -1))


def _ranks(x: Tensor, y: Tensor) -> Tensor:
    """(b, Q, N) squared distances, up to a constant in each row, which does not change the order of the columns."""
    if x.shape[2] <= 3:
        row, column = y.permute(2, 0, 1)[..., None], x.permute(2, 0, 1)[:, :, None].contiguous()
        total = (row[0] - column[0]).square_()
        for c in range(1, x.shape[2]):
            difference = row[c] - column[c]
            total.addcmul_(difference, difference)
        return total
    return torch.baddbmm((x * x).sum(2)[:, None, :], y, x.transpose(1, 2), alpha=-2)


def select_smallest(values: Tensor, k: int) -> Tensor:
    """(R, k) columns of the ``k`` smallest values of each row of ``values (R, N)``, ascending, ties by column.

    Infinitely large values come last, in any order.
    """
    if values.device.type != "cpu":
        return _select_exactly(values, k)
    if k == values.shape[1]:
        return values.sort(dim=1, stable=True).indices
    column, chosen = _select_roughly(values, k + 1)
    tied = ((chosen[:, 1:] == chosen[:, :-1]) & chosen[:, 1:].isfinite()).any(1).nonzero().flatten()
    column = column[:, :k]
    if len(tied):
        column = column.index_copy(0, tied, _select_exactly(values[tied], k))
    return column


def _select_roughly(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(R, k) columns and values of the smallest, ascending; of equal values any may be taken."""
    rows, n = values.shape
    if n < 2 * GROUP * k:
        smallest = values.topk(k, dim=1, largest=False)
        return smallest.indices, smallest.values
    # The k smallest values lie in the k groups with the smallest minima; topk is slow, the minima are cheap.
    if n % GROUP:
        values = torch.nn.functional.pad(values, (0, GROUP - n % GROUP), value=torch.inf)
    groups = values.shape[1] // GROUP
    best = values.view(rows, GROUP, groups).amin(1).topk(k, dim=1, largest=False, sorted=False).indices
    member = torch.arange(0, groups * GROUP, groups, device=values.device)
    candidate = (best[:, None, :] + member[:, None]).view(rows, GROUP * k)
    smallest = values.gather(1, candidate).topk(k, dim=1, largest=False)
    return candidate.gather(1, smallest.indices), smallest.values


def _select_exactly(values: Tensor, k: int) -> Tensor:
    """As :func:`select_smallest`, without reading any value in Python, which would wait for a GPU."""
    if values.dtype != torch.float32:
        return values.sort(dim=1, stable=True).indices[:, :k]
    bits = (values + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal to 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers in the order of the floats
    keys = (ordered.long() << 32) | torch.arange(values.shape[1], device=values.device)
    return keys.topk(k, dim=1, largest=False).values & 0xFFFFFFFF
