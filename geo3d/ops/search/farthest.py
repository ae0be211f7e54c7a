"""Farthest point sampling, and a padded layout to work on ragged clouds all at once."""

import torch
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_finite, check_form_of_offsets, check_offsets, common_size
from geo3d.ops.library import define


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


def check_shapes(what: str, pos: Tensor, ptr: Tensor, num_points: int | None) -> None:
    """Check that points and offsets have the shapes of clouds; does not read their values.

    Raises:
        CloudError: If they do not.
    """
    if pos.dim() != 2 or pos.shape[1] != 3 or ptr.dim() != 1 or ptr.shape[0] < 2:
        raise CloudError(
            f"{what} needs points (M, 3) and offsets (B + 1,); found shapes {tuple(pos.shape)} and {tuple(ptr.shape)}"
        )
    check_form_of_offsets(f"{what}: ptr", ptr)
    check_device(f"{what}: points and offsets", pos, ptr)
    if num_points is not None and num_points * (ptr.shape[0] - 1) != pos.shape[0]:
        raise CloudError(
            f"{what}: {pos.shape[0]} points cannot be {ptr.shape[0] - 1} clouds of {num_points} points each"
        )


def check_values(what: str, pos: Tensor, ptr: Tensor) -> None:
    """Check that the offsets rise and the points are finite, as compiled kernels do by themselves.

    Raises:
        CloudError: If the offsets do not.
        NotFiniteError: If the points are not.
    """
    check_offsets(what, ptr, len(pos))
    check_finite(what, pos)


def _planes(pos: Tensor, ptr: Tensor, num_points: int | None) -> tuple[Tensor, Tensor]:
    """(B, 3, N) coordinates, one row each for x, y and z, and (B, N) which columns are points and not padding."""
    points = padded(pos, ptr, num_points, 0.0).transpose(1, 2).contiguous()
    return points, torch.arange(points.shape[2], device=pos.device) < ptr.diff()[:, None]


def _farthest_from_centroid_reference(pos: Tensor, ptr: Tensor, num_points: int | None) -> Tensor:
    points, filled = _planes(pos, ptr, num_points)
    centroid = (points.sum(2, dtype=torch.float64) / ptr.diff()[:, None]).to(pos.dtype)
    offset = (points - centroid[:, :, None]).square_()
    return offset.sum(1).masked_fill_(~filled, -1.0).argmax(1)


def _farthest_from_centroid(pos: Tensor, ptr: Tensor, num_points: int | None) -> Tensor:
    what = "farthest_points: pos or ptr"
    if not native.usable(pos):
        check_values(what, pos, ptr)
        return _farthest_from_centroid_reference(pos, ptr, common_size(ptr, num_points))
    clouds = len(ptr) - 1
    best = ptr.new_empty(clouds)
    native.call("farthest_from_centroid", len(pos), clouds, pos.contiguous(), ptr.contiguous(), best, what=what)
    return best


def _farthest_points_reference(
    pos: Tensor, ptr: Tensor, first: Tensor, num_samples: int, num_points: int | None
) -> Tensor:
    points, filled = _planes(pos, ptr, num_points)
    distance = points.new_full(filled.shape, torch.inf).masked_fill_(~filled, -1.0)
    picks = torch.empty(len(first), num_samples, dtype=torch.long, device=pos.device)
    pick = first[:, None]
    for i in range(min(num_samples, points.shape[2])):
        picks[:, i : i + 1] = pick
        offset = points - points.gather(2, pick[:, None].expand(-1, 3, 1))
        dx, dy, dz = offset.square_().unbind(1)
        torch.minimum(distance, dx + dy + dz, out=distance)
        distance.scatter_(1, pick, -1.0)  # below every distance: picked points and padding never win
        pick = distance.argmax(1, keepdim=True)
    again = torch.arange(num_samples, device=pos.device) % ptr.diff()[:, None]
    return (picks.gather(1, again) + ptr[:-1, None]).view(-1)


def _farthest_points(pos: Tensor, ptr: Tensor, first: Tensor, num_samples: int, num_points: int | None) -> Tensor:
    what = "farthest_points: pos, ptr or start"
    if not native.usable(pos):
        check_values(what, pos, ptr)
        if bool(((first < 0) | (first >= ptr.diff())).any()):
            raise native.error(native.BAD_INDEX, what)
        return _farthest_points_reference(pos, ptr, first, num_samples, common_size(ptr, num_points))
    clouds = len(ptr) - 1
    picks = ptr.new_empty(clouds * num_samples)
    arrays = (pos.contiguous(), ptr.contiguous(), first.contiguous(), picks)
    native.call("farthest_points", len(pos), clouds, num_samples, *arrays, what=what)
    return picks


def _farthest_points_cuda(pos: Tensor, ptr: Tensor, first: Tensor, num_samples: int, num_points: int | None) -> Tensor:
    from geo3d.ops import triton

    if pos.dtype != torch.float32 or not triton.available():
        return _farthest_points_reference(pos, ptr, first, num_samples, num_points)
    from geo3d.ops.triton import fps

    # num_points is None for ragged clouds: reading their largest size would wait for the GPU.
    return fps.farthest_points(pos, ptr, num_samples, first, num_points)


_from_centroid = define(
    "farthest_from_centroid(Tensor pos, Tensor ptr, int? num_points) -> Tensor",
    cpu=_farthest_from_centroid,
    cuda=_farthest_from_centroid_reference,
    fake=lambda pos, ptr, num_points: ptr.new_empty(ptr.shape[0] - 1),
)
_farthest = define(
    "farthest_points(Tensor pos, Tensor ptr, Tensor first, int num_samples, int? num_points) -> Tensor",
    cpu=_farthest_points,
    cuda=_farthest_points_cuda,
    fake=lambda pos, ptr, first, num_samples, num_points: ptr.new_empty((ptr.shape[0] - 1) * num_samples),
)


def _first_samples(pos: Tensor, ptr: Tensor, num_points: int | None, start: str | Tensor | torch.Generator) -> Tensor:
    """(B,) the position in each cloud where sampling begins."""
    sizes = ptr.diff()
    if isinstance(start, Tensor):
        if start.shape != sizes.shape:
            raise ConfigError(
                f"start must hold one point of each of the {len(sizes)} clouds; found shape {tuple(start.shape)}"
            )
        check_device("start and offsets", start, ptr)
        return start.to(ptr)
    if isinstance(start, torch.Generator):
        draw = torch.rand(len(sizes), generator=start, device=start.device, dtype=torch.float64).to(sizes.device)
        return torch.minimum((draw * sizes).long(), sizes - 1)
    if start == "first":
        return torch.zeros_like(sizes)
    if start == "farthest":
        return _from_centroid(pos, ptr, num_points)
    raise ConfigError(f'start must be "first", "farthest", a tensor or a generator; found {start!r}')


def as_float(pos: Tensor) -> Tensor:
    """``pos`` without gradient, as float32 unless it is float64."""
    return pos.detach().to(torch.float64 if pos.dtype == torch.float64 else torch.float32)


@torch.no_grad()
def farthest_points(
    pos: Tensor,
    layout: Layout,
    num_samples: int,
    start: str | Tensor | torch.Generator = "first",
) -> Tensor:
    """(B * num_samples,) flat indices of points of each cloud, each the farthest from those picked before it.

    Samples are nested: the first n samples of a cloud are those of a call with ``num_samples=n``. So one call serves
    every level of an encoder, and a cloud in this order can be cut anywhere. Ties go to the lower index. No point is
    picked twice before all points of its cloud are. A cloud of N < ``num_samples`` points then begins again with its
    first pick (sample i is sample ``i % N``).

    Args:
        pos: (M, 3) coordinates of all clouds, one after another.
        layout: Which of them belongs to which cloud.
        num_samples: How many points to pick from each cloud.
        start: The first pick: ``"first"``, point 0 of each cloud; ``"farthest"``, the point farthest from the
            centroid, so that the picks do not depend on the order of the points; (B,) positions inside the clouds; or
            a generator, which draws one position for each cloud.

    Raises:
        ConfigError: If ``start`` is none of these or ``num_samples`` is not positive.
        CloudError: If the points are not finite, or offsets or ``start`` do not fit them (on a GPU: if shapes do not).

    Example:
        >>> line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0]])
        >>> farthest_points(line, Layout(torch.tensor([0, 4])), 3).tolist()
        [0, 3, 2]
    """
    if num_samples < 1:
        raise ConfigError(f"num_samples must be at least 1; found {num_samples}")
    ptr, num_points = layout
    check_shapes("farthest_points", pos, ptr, num_points)
    pos, ptr = as_float(pos), ptr.long()
    return _farthest(pos, ptr, _first_samples(pos, ptr, num_points, start), num_samples, num_points)
