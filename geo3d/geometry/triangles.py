"""Areas, normals and random points of triangle meshes."""

import torch
from torch import Tensor

from geo3d.errors import CloudError


def _doubled_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(F, 3) cross products of two edges: they point along the normal, and their length is twice the area."""
    a, b, c = vertices[:, :3][faces].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def triangle_areas(vertices: Tensor, faces: Tensor) -> Tensor:
    """(F,) areas, in the vertices' units squared.

    Example:
        >>> triangle_areas(torch.eye(3) * 2, torch.tensor([[0, 1, 2]])).square().round().tolist()
        [12.0]
    """
    return _doubled_normals(vertices, faces).norm(dim=1) / 2


def triangle_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(F, 3) unit normals, by the right-hand rule around the corners; zero for triangles without area."""
    normals = _doubled_normals(vertices, faces)
    largest = normals.abs().amax(1, keepdim=True)  # otherwise the squares of a small normal would underflow
    return torch.where(largest > 0, torch.nn.functional.normalize(normals / largest, dim=1), 0.0)


def sample_triangles(
    vertices: Tensor, faces: Tensor, num_points: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Points spread evenly over the surface, and the unit normals of the triangles they lie on.

    Args:
        vertices: (V, 3 + C) coordinates; further columns, such as colours, are interpolated.
        faces: (F, 3) int64 indices of corners.
        num_points: Number of points to draw, independently of each other.
        generator: Draws the points, on its own device.

    Returns:
        (num_points, 3 + C) points and (num_points, 3) normals, in the dtype and on the device of ``vertices``.

    Raises:
        CloudError: If there is no triangle with an area, or ``num_points`` is below 1.

    Example:
        >>> square = torch.tensor([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
        >>> faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
        >>> points, normals = sample_triangles(square, faces, 5, torch.Generator().manual_seed(0))
        >>> points.shape, normals[0].tolist()
        (torch.Size([5, 3]), [0.0, 0.0, 1.0])
    """
    if num_points < 1:
        raise CloudError(f"expected at least one point to draw on a mesh, found num_points={num_points}")
    exact = vertices.double()
    reach = triangle_areas(exact, faces).cumsum(0)
    if reach.numel() == 0 or not float(reach[-1]) > 0:
        raise CloudError(f"no points can be drawn on a mesh whose {faces.shape[0]} triangles have no area")
    draws = torch.rand(num_points, 3, generator=generator, dtype=torch.float64, device=generator.device)
    draws = draws.to(vertices.device)
    # right=True skips triangles without area; the last one with an area is where the sum first reaches its total
    last = torch.searchsorted(reach, reach[-1:])
    chosen = torch.searchsorted(reach, draws[:, 0] * reach[-1], right=True).minimum(last)
    a, b, c = exact[faces[chosen]].unbind(1)
    u, v = draws[:, 1:2], draws[:, 2:3]
    outside = u + v > 1  # in the other half of the parallelogram: reflect into the triangle
    u, v = torch.where(outside, 1 - u, u), torch.where(outside, 1 - v, v)
    points = a + u * (b - a) + v * (c - a)
    return points.to(vertices.dtype), triangle_normals(exact, faces[chosen]).to(vertices.dtype)
