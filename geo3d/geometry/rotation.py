"""Rotations as matrices, and linear maps applied to clouds."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import Batch

from geo3d.cloud import Field, common_size, map_fields


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """(..., 3, 3) rotations from quaternions (..., 4), real part first, which are normalised to unit length.

    Example:
        >>> quaternion_to_matrix(torch.tensor([2.0, 0.0, 0.0, 0.0])).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    w, x, y, z = normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def random_rotations(n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, 3, 3) rotations, uniform over SO(3) (Haar measure), on the generator's device.

    Four independent normal numbers have a uniform direction in 4-space, and uniform unit quaternions are uniform
    rotations. The numbers are drawn in float64, so that ``dtype`` changes the rounding but not the draw.
    """
    drawn = torch.randn(n, 4, generator=generator, device=generator.device, dtype=torch.float64)
    return quaternion_to_matrix(drawn).to(dtype)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """(..., 3, 3) rotations about the directions of ``axis_angle (..., 3)`` by their lengths in radians."""
    half = axis_angle.norm(dim=-1, keepdim=True) / 2
    # sinc keeps the zero rotation exact and differentiable: sin(half) / (2 half) = sinc(half / pi) / 2
    return quaternion_to_matrix(torch.cat([half.cos(), torch.sinc(half / math.pi) / 2 * axis_angle], -1))


def rotation_about_axis(angles: Tensor, axis: str = "z") -> Tensor:
    """(..., 3, 3) rotations by ``angles (...)`` in radians about the axis ``"x"``, ``"y"`` or ``"z"``."""
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    cos, sin, one, zero = angles.cos(), angles.sin(), torch.ones_like(angles), torch.zeros_like(angles)
    entries = {(i, i): one, (j, j): cos, (k, k): cos, (j, k): -sin, (k, j): sin}
    rows = [entries.get((row, column), zero) for row in range(3) for column in range(3)]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def rotation_about_z(angles: Tensor) -> Tensor:
    """(..., 3, 3) rotations by ``angles (...)`` in radians about the up axis, x towards y."""
    return rotation_about_axis(angles, "z")


def rotation_angle(a: Tensor, b: Tensor | None = None) -> Tensor:
    """(...) geodesic distance in radians, 0 to pi, between rotations ``a`` and ``b (..., 3, 3)``.

    ``b`` defaults to the identity. The angle is computed from its sine and cosine together: the arc cosine of the trace
    alone loses half the digits near 0 and pi.

    Example:
        >>> float(rotation_angle(rotation_about_z(torch.tensor(-0.5))))
        0.5
    """
    relative = a if b is None else a.mT @ b
    skew = relative - relative.mT
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).norm(dim=-1)
    cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(sine, cosine)


def rotate(matrices: Tensor, batch: Batch) -> Batch:
    """The clouds with the positions, displacements and directions of cloud b rotated by ``matrices[b]``, (B, 3, 3)."""
    turn = partial(_map, matrices, batch)
    return map_fields(batch, {"position": turn, "displacement": turn, "direction": turn})


def apply_linear(matrices: Tensor, batch: Batch) -> Batch:
    """The clouds with cloud b mapped by ``matrices[b]``; normals stay perpendicular to the surface.

    Args:
        matrices: (B, 3, 3).
        batch: The clouds. Directions, such as ``normal (M, 3)``, are mapped by the inverse transpose and scaled to unit
            length; a zero normal stays zero. See :data:`geo3d.cloud.FIELDS`.
    """
    turn = partial(_map, matrices, batch)

    def direction(values: Tensor, field: Field) -> Tensor:
        mapped = _map(_inverse_transpose_direction(matrices), batch, values, field)
        return unit_vectors(mapped.reshape(-1, 3)).view(values.shape)

    return map_fields(batch, {"position": turn, "displacement": turn, "direction": direction})


def _map(matrices: Tensor, batch: Batch, vectors: Tensor, field: Field) -> Tensor:
    """(M, 3) or (B, J, 3) vectors, with those of cloud b mapped by ``matrices[b]``."""
    if field.per == "cloud":
        return vectors @ matrices.mT
    n = common_size(batch)
    if n is None:
        each = matrices.reshape(-1, 9).index_select(0, batch.batch).view(-1, 3, 3)
        return (each @ vectors[:, :, None])[:, :, 0]
    k = math.gcd(n, 4)  # products with 3 rows are slow; a block-diagonal matrix maps four points at a time, faster
    blocks = matrices.new_zeros(len(matrices), k, 3, k, 3)
    blocks.diagonal(dim1=1, dim2=3).copy_(matrices.mT[..., None].expand(-1, -1, -1, k))
    return (vectors.reshape(-1, n // k, 3 * k) @ blocks.view(-1, 3 * k, 3 * k)).view(-1, 3)


def _inverse_transpose_direction(matrices: Tensor) -> Tensor:
    """(B, 3, 3) positive multiples of the inverse transposes: cofactors need no division and no GPU synchronisation."""
    a, b, c = matrices.unbind(-2)
    cofactors = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -2)
    return cofactors * torch.linalg.det(matrices).sign()[:, None, None]


def unit_vectors(vectors: Tensor) -> Tensor:
    """(M, 3) vectors scaled to length 1; a zero vector stays zero.

    Example:
        >>> unit_vectors(torch.tensor([[0.0, 3.0, 4.0], [0.0, 0.0, 0.0]]))
        tensor([[0.0000, 0.6000, 0.8000],
                [0.0000, 0.0000, 0.0000]])
    """
    x, y, z = vectors.unbind(1)  # column by column: torch computes norms of short rows slowly
    return vectors / (x * x + y * y + z * z).clamp(min=1e-24).sqrt()[:, None]
