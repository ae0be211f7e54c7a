"""Farthest point sampling, and the padded layout in which ragged clouds are worked on all at once."""

import torch
from torch import Tensor

from geo3d.errors import ConfigError


def padded_rows(ptr: Tensor, size: int, num_rows: int) -> Tensor:
    """(M,) the row of each of the ``num_rows`` points when every cloud takes ``size`` rows."""
    sizes = ptr.diff()
    shift = torch.arange(len(sizes), device=ptr.device) * size - ptr[:-1]
    return torch.arange(num_rows, device=ptr.device) + shift.repeat_interleave(sizes, output_size=num_rows)


def padded(x: Tensor, ptr: Tensor, num_points: int | None, fill: float) -> Tensor:
    """(B, N, C) the rows of each cloud, followed by rows of ``fill`` where a cloud has fewer than N; differentiable.

    Args:
        x: (M, C) rows of all clouds, one after another.
        ptr: (B + 1,) offsets of the clouds.
        num_points: N when all clouds have N rows (the result is then a view), else None (N is the largest size).
        fill: What the missing rows hold.

    Example:
        >>> padded(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 1, 3]), None, 0.0)[..., 0].tolist()
        [[1.0, 0.0], [2.0, 3.0]]
    """
    if num_points is not None:
        return x.view(-1, num_points, x.shape[1])
    size = int(ptr.diff().max())
    rows = x.new_full(((len(ptr) - 1) * size, x.shape[1]), fill)
    return rows.index_copy(0, padded_rows(ptr, size, len(x)), x).view(-1, size, x.shape[1])


def _first_samples(points: Tensor, sizes: Tensor, start: str | Tensor, filled: Tensor) -> Tensor:
    """(B,) the point of each cloud where sampling begins."""
    if isinstance(start, Tensor):
        if start.shape != sizes.shape:
            raise ConfigError(f"start must hold one point of each of the {len(sizes)} clouds; found {start.tolist()}")
        return start.long()
    if start == "first":
        return torch.zeros_like(sizes)
    if start != "farthest":
        raise ConfigError(f'start must be "first", "farthest" or a tensor; found {start!r}')
    centroid = points.masked_fill(~filled[:, None], 0.0).sum(2) / sizes[:, None]
    from_centroid = (points - centroid[:, :, None]).square().sum(1)
    return from_centroid.masked_fill(~filled, -1.0).argmax(1)


@torch.no_grad()
def farthest_points(
    pos: Tensor, ptr: Tensor, num_samples: int, num_points: int | None = None, start: str | Tensor = "first"
) -> Tensor:
    """(B * num_samples,) flat indices of points of each cloud, each the farthest from those picked before it.

    The first samples are the samples of a smaller ``num_samples``. Ties go to the lower index. No point is picked
    twice before all of its cloud are; a cloud with fewer than ``num_samples`` points then begins again with its
    first pick (sample i is sample ``i % N``).

    Args:
        pos: (M, 3) coordinates of all clouds, one after another.
        ptr: (B + 1,) offsets of the clouds.
        num_samples: How many points to pick from each cloud.
        num_points: N when all clouds have N points, else None.
        start: The first pick: ``"first"``, point 0 of each cloud; ``"farthest"``, the point farthest from the
            centroid, so that the picks do not depend on the order of the points; or (B,) positions inside the clouds.

    Raises:
        ConfigError: If ``start`` is none of these or ``num_samples`` is not positive.

    Example:
        >>> line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0]])
        >>> farthest_points(line, torch.tensor([0, 4]), 3).tolist()
        [0, 3, 2]
    """
    if num_samples < 1:
        raise ConfigError(f"num_samples must be at least 1; found {num_samples}")
    sizes = ptr.diff()
    points = padded(pos, ptr, num_points, 0.0).transpose(1, 2).contiguous()  # (B, 3, N): whole rows of x, y, z
    filled = torch.arange(points.shape[2], device=pos.device) < sizes[:, None]
    distance = points.new_full(filled.shape, torch.inf).masked_fill_(~filled, -1.0)
    picks = torch.empty(len(sizes), num_samples, dtype=torch.long, device=pos.device)
    pick = _first_samples(points, sizes, start, filled)[:, None]
    for i in range(min(num_samples, points.shape[2])):
        picks[:, i : i + 1] = pick
        offset = points - points.gather(2, pick[:, None].expand(-1, 3, 1))
        dx, dy, dz = offset.square_().unbind(1)
        torch.minimum(distance, dx + dy + dz, out=distance)
        distance.scatter_(1, pick, -1.0)  # below every distance: picked points and padding never win
        pick = distance.argmax(1, keepdim=True)
    again = torch.arange(num_samples, device=pos.device) % sizes[:, None]
    return (picks.gather(1, again) + ptr[:-1, None]).view(-1)
