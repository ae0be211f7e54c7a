import pytest
import torch

from geo3d.errors import CloudError
from geo3d.geometry.triangles import sample_triangles, triangle_areas, triangle_normals
from geo3d.seeds import generator


def soup(num_faces: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    draws = generator("soup")
    return torch.randn(12, 3, generator=draws), torch.randint(12, (num_faces, 3), generator=draws)


def test_areas_are_those_of_heron():
    vertices, faces = soup()
    a, b, c = (vertices[faces].double() - vertices[faces].double().roll(1, 1)).norm(dim=2).unbind(1)
    s = (a + b + c) / 2
    heron = (s * (s - a) * (s - b) * (s - c)).clamp_min(0).sqrt()
    torch.testing.assert_close(triangle_areas(vertices.double(), faces), heron, atol=1e-6, rtol=1e-6)


def test_normals_are_unit_and_orthogonal_and_zero_without_area():
    vertices, _ = soup()
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 6, 7]])
    normals = triangle_normals(vertices, faces)
    torch.testing.assert_close(normals.norm(dim=1), torch.tensor([1.0, 1.0, 0.0]))
    edges = vertices[faces[:2, 1:]] - vertices[faces[:2, :1]]
    torch.testing.assert_close(torch.einsum("fec,fc->fe", edges, normals[:2]), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(triangle_normals(vertices * 1e-12, faces[:2]), normals[:2])


def test_triangles_are_hit_in_proportion_to_their_area():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 1, 5]])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    points, _ = sample_triangles(vertices, faces, 40_000, generator("area"))
    assert (points[:, 2] > 2).float().mean() == pytest.approx(0.75, abs=0.01)


def test_points_are_even_inside_a_triangle():
    vertices, faces = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]])
    points, normals = sample_triangles(vertices, faces, 40_000, generator("inside"))
    u, v = points[:, 0] / 2, points[:, 1]
    assert ((u >= 0) & (v >= 0) & (u + v <= 1 + 1e-6)).all()
    # the middle triangle of four equal ones, and the moments of the even distribution
    assert ((u < 0.5) & (v < 0.5) & (u + v > 0.5)).float().mean() == pytest.approx(0.25, abs=0.01)
    assert u.mean() == pytest.approx(1 / 3, abs=0.005) and (u * v).mean() == pytest.approx(1 / 12, abs=0.003)
    assert (normals == torch.tensor([0.0, 0, 1])).all()


def test_triangles_without_area_are_never_hit():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]])
    faces = torch.tensor([[3, 3, 3], [0, 1, 2], [3, 0, 3], [3, 3, 3]])
    points, normals = sample_triangles(vertices, faces, 1000, generator("flat"))
    assert points.max() <= 1 and (normals.norm(dim=1) > 0.99).all()


def test_further_columns_are_interpolated():
    vertices = torch.randn(3, 3, generator=generator("columns"))
    matrix = torch.randn(3, 2, generator=generator("matrix"))
    points, _ = sample_triangles(
        torch.cat([vertices, vertices @ matrix], 1), torch.tensor([[0, 1, 2]]), 50, generator(1)
    )
    torch.testing.assert_close(points[:, 3:], points[:, :3] @ matrix)


def test_the_generator_decides():
    vertices, faces = soup()
    first, second, other = (sample_triangles(vertices, faces, 9, generator(seed))[0] for seed in (3, 3, 4))
    assert first.equal(second) and not first.equal(other)


@pytest.mark.parametrize("faces", [torch.zeros(0, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)])
def test_meshes_without_area_are_refused(faces: torch.Tensor):
    with pytest.raises(CloudError, match="no area"):
        sample_triangles(torch.zeros(1, 3), faces, 5, generator(0))


def test_at_least_one_point_is_asked_for():
    with pytest.raises(CloudError, match="num_points=0"):
        sample_triangles(*soup(), 0, generator(0))
