from pathlib import Path

import pytest
import torch

from geo3d.errors import CloudError
from geo3d.io import read_cloud, read_mesh
from geo3d.seeds import generator

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
VERTICES = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        f"OFF\n4 2 0\n{VERTICES}3 0 1 2\n3 0 2 3\n",
        f"OFF4 2 0\n{VERTICES}3 0 1 2\n3 0 2 3",
        f"OFF 4 2 0\n{VERTICES}3 0 1 2\n3 0 2 3\n",
        f"OFF\n4 2\n{VERTICES}3 0 1 2 255 0 0\n3 0 2 3 0.5 0 0 1\n",
        f"OFF # a square\n\n# its counts\n4 1 4 # edges do not matter\n\n{VERTICES}\n4   0 1\t2 3\n",
        f"OFF\r\n4 2 0\r\n{VERTICES}3 0 1 2\n3 0 2 3\n2 1 2\n".replace("2 0\r", "3 0\r"),
        "COFF\n4 2 0\n" + VERTICES.replace("\n", " 255 0 0 255\n") + "3 0 1 2\n3 0 2 3\n",
    ],
)
def test_off(tmp_path: Path, text: str):
    vertices, faces = read_mesh(written(tmp_path / "a.off", text))
    assert vertices.dtype == torch.float32 and vertices.tolist() == SQUARE
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_off_with_normals_and_colours(tmp_path: Path):
    rows = "".join(f"{x} {y} {z} 0 0 1 51 0 255\n" for x, y, z in SQUARE)
    data = read_cloud(written(tmp_path / "a.off", f"CNOFF\n4 0 0\n{rows}"))
    assert data.normal.tolist() == [[0, 0, 1]] * 4
    torch.testing.assert_close(data.rgb, torch.tensor([[0.2, 0, 1]] * 4))
    assert read_cloud(tmp_path / "a.off", 2).pos.tolist() == SQUARE[:2]


def test_meshes_are_sampled_only_with_a_generator(tmp_path: Path):
    path = written(tmp_path / "a.off", f"OFF\n4 1 0\n{VERTICES}4 0 1 2 3\n")
    data = read_cloud(path, 100, generator(0))
    assert data.pos.shape == (100, 3) and data.normal.tolist() == [[0, 0, 1]] * 100
    assert data.pos.equal(read_cloud(path, 100, generator(0)).pos)
    assert read_cloud(path, 100).pos.tolist() == SQUARE
    assert read_cloud(path, generator=generator(0)).pos.tolist() == SQUARE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ply\n", "begins with OFF"),
        ("OFF BINARY\n", "binary OFF"),
        ("OFF\n", "numbers of vertices"),
        ("OFF\n4\n", "numbers of vertices"),
        ("OFF\n-4 2 0\n", "number of vertices, faces and edges, found '-4'"),
        ("OFF\n1e999 2 0\n", "number of vertices, faces and edges, found '1e999'"),
        ("OFF\n4 2 0\n0 0 0\n1 0 0\n", "expected 4 points, file ends after 2"),
        (f"OFF\n4 2 0\n{VERTICES}3 0 1 2\n", "expected 2 faces, file ends after 1"),
        (f"OFF\n4 1 0\n{VERTICES}3 0 1\n", "face with 3 corners"),
        (f"OFF\n4 1 0\n{VERTICES}3 0 1 4\n", "vertex 4 .* the file has 4"),
        (f"OFF\n4 1 0\n{VERTICES}3 0 1 -1\n", "vertex -1"),
        ("OFF\n2 0 0\n0 0 0\n1 0 zero\n", "expected numbers"),
        ("OFF\n3 2 0\n0 0 0 1 0 0\n0 1 0\n3 0 1 2 3\n0 1\n", "expected 2 faces, file ends after 1"),
        ("OFF\n2 0 0\n0 0 0\n1 0\n", "expected 2 points, file ends after 1"),
        ("OFF\n0 0 0\n", "empty"),
        ("OFF\n1 0 0\nnan 0 0\n", "1 of 1 points have NaN"),
    ],
)
def test_bad_off(tmp_path: Path, text: str, message: str):
    with pytest.raises(CloudError, match=message) as caught:
        read_cloud(written(tmp_path / "bad.off", text))
    assert "bad.off" in str(caught.value) and "\n" not in str(caught.value)


def obj(lines: str) -> str:
    return "# a square\no square\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE) + lines


@pytest.mark.parametrize(
    "lines",
    [
        "f 1 2 3 4\n",
        "f 1/1 2/2 3/3 4/4",
        "vt 0 0\nf 1/1 2/1 3/1\nf 1/1 3/1 4/1\n",
        "f -4 -3 -2 -1\ng more\ns off\n",
        "f 1 2 3\nf -4 3 -1 # back\n",
        "vn 0 0 1\nf 1//1 2//1 3//1 4//1\n",
        "vn 0 0 1\nvt 0 0\nf 1/1/-1 2/1/1 \\\n3/1/1 4/1/1\n",
        "f 1 2\nf 1 2 3 4\n",
    ],
)
def test_obj_in_all_index_forms(tmp_path: Path, lines: str):
    path = written(tmp_path / "a.obj", obj(lines))
    vertices, faces = read_mesh(path)
    assert vertices.tolist() == SQUARE and faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    if "vn" in lines:
        assert read_cloud(path).normal.tolist() == [[0, 0, 1]] * 4


def test_obj_negative_corners_count_from_their_line(tmp_path: Path):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 5 0 0\nv 6 0 0\nv 5 1 0\nf -3 -2 -1\n"
    assert read_mesh(written(tmp_path / "a.obj", text))[1].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_obj_with_colours_and_normals_of_single_points(tmp_path: Path):
    text = "v 0 0 0 1 0 0.5\nv 1 0 0 0 1 0\nvn 1 0 0\nvn 0 1 0\n"
    data = read_cloud(written(tmp_path / "a.obj", text))
    assert data.rgb.tolist() == [[1, 0, 0.5], [0, 1, 0]] and data.normal.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_obj_normals_are_means_over_corners_and_all_or_none(tmp_path: Path):
    lines = "vn 0 0 1\nvn 0 1 0\nf 1//1 2//1 3//1\nf 1//2 3//1 4//1\n"
    normal = read_cloud(written(tmp_path / "a.obj", obj(lines))).normal
    torch.testing.assert_close(normal[0], torch.tensor([0.0, 0.5**0.5, 0.5**0.5]))
    assert "normal" not in read_cloud(written(tmp_path / "b.obj", obj("vn 0 0 1\nf 1//1 2//1 3//1\n")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f 1 2 3\n", "expected lines 'v x y z', found none"),
        ("v 0 0\n", "line 1: expected three numbers"),
        ("v 0 0 a\n", "expected numbers"),
        (obj("f 1 2 5\n"), "vertex 4 .* the file has 4"),
        (obj("f 1 2 0\n"), "does not exist"),
        (obj("f 1 2 -5\n"), "does not exist"),
        (obj("f 1 2 a\n"), "line 7: expected a corner"),
        (obj("vn 0 0 1\nf 1//1 2//1 3//2\n"), "normal 2"),
        ("v inf 0 0\n", "1 of 1 points have NaN or infinite"),
    ],
)
def test_bad_obj(tmp_path: Path, text: str, message: str):
    with pytest.raises(CloudError, match=message) as caught:
        read_cloud(written(tmp_path / "bad.obj", text))
    assert "bad.obj" in str(caught.value)


def test_points_are_no_mesh(tmp_path: Path):
    with pytest.raises(CloudError, match="4 points without faces"):
        read_mesh(written(tmp_path / "a.obj", obj("")))
    with pytest.raises(CloudError, match="unknown suffix '.xyz'; known are .off .obj .ply"):
        read_mesh(written(tmp_path / "a.xyz", "1 2 3"))


def test_a_flat_mesh_cannot_be_sampled(tmp_path: Path):
    path = written(tmp_path / "a.off", "OFF\n2 1 0\n0 0 0\n1 0 0\n3 0 1 1\n")
    with pytest.raises(CloudError, match=r"a\.off: .* no area"):
        read_cloud(path, 10, generator(0))


@pytest.mark.parametrize(
    "text",
    [
        "OFF\n4 2 0\n0 0 0 1 0 0\n1 1 0 0 1 0\n3 0 1 2 3 0 2 3\n",
        f"STOFF\n4 2 0\n{VERTICES}3 0 1 2\n3 0 2 3\n".replace(" 0\n", " 0 0.5 0.5\n").replace("4 2 0 0.5 0.5", "4 2 0"),
        "NOFF\n4 2 0\n" + VERTICES.replace("\n", " 0 0 1\n").replace("\n", " ") + "\n3 0 1 2\n3 0 2 3\n",
    ],
)
def test_off_of_other_layouts(tmp_path: Path, text: str):
    vertices, faces = read_mesh(written(tmp_path / "a.off", text))
    assert vertices.tolist() == SQUARE and faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_off_with_colours_that_it_does_not_announce(tmp_path: Path):
    text = "OFF\n4 0 0\n" + VERTICES.replace("\n", " 255 0 0 255\n")
    with pytest.warns(UserWarning, match=r"a\.off: 4 numbers behind each vertex .* begin the file with COFF"):
        data = read_cloud(written(tmp_path / "a.off", text))
    assert data.pos.tolist() == SQUARE and "rgb" not in data


def test_off_colours_are_bytes_if_written_whole(tmp_path: Path):
    for colour, expected in (("1 1 0 1", [1 / 255, 1 / 255, 0]), ("1.0 1.0 0.0 1.0", [1, 1, 0])):
        text = "COFF\n4 0 0\n" + VERTICES.replace("\n", f" {colour}\n")
        rgb = read_cloud(written(tmp_path / "a.off", text)).rgb
        torch.testing.assert_close(rgb, torch.tensor([expected] * 4, dtype=torch.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"OFF\n 2 0\n{VERTICES}3 0 1 2\n", "left over|lines of other lengths"),
        (f"OFF\n4 1 0\n{VERTICES}3 0 1 2\n3 0 2 3\n", "4 numbers are left over"),
        ("OFF\n4 2 0\n0 0 0\n10\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n", "expected"),
        ("OFF\n4 3 0\n0 0 0\n1 0 0\n1 10\n0 1 0\n1 1 2\n3 0 2 3\n2 1 2\n", "expected|left over"),
        (f"4OFF\n4 0 0\n{VERTICES}", r"expected three coordinates per vertex \(OFF\), found 4OFF"),
        (f"NOFF\n4 0 0\n{VERTICES}", "NOFF declares vertices of 6 numbers, found 3"),
        (f"OFF\n4 1 0\n{VERTICES}3 0 1_0 2\n", "found '1_0'"),
        (f"OFF\n{'4' * 5000} 1 0\n{VERTICES}", "number of vertices, faces and edges"),
        (f"OFF\n4 1 0\n{VERTICES}3 0 1 2 9 9\n", "a face with 3 corners"),
        (f"OFF\n4 1 0\n{VERTICES}3. 0 1 2\n", "number of corners, found '3.'"),
        (f"OFF\n4 1 x\n{VERTICES}3 0 1 2\n", "vertices, faces and edges, found 'x'"),
        (f"OFF\n4 1 0\n{VERTICES}3 0\x0c1 2\n", "line 7: expected plain text"),
    ],
)
def test_off_that_holds_something_else(tmp_path: Path, text: str, message: str):
    with pytest.raises(CloudError, match=message):
        read_cloud(written(tmp_path / "bad.off", text))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("w 1 2 3\n", "line 7: cannot understand 'w 1 2 3'"),
        ("v 1 2 3 4\n", "line 7: expected 3 numbers, as in the vertices before"),
        ("v 1 2_0 3\n", "found '2_0'"),
        ("v 1 2\x0b3\n", "line 7: expected plain text"),
        ("vn 0 0\n", "line 7: expected three numbers"),
        ("f 1 2 3_0\n", "expected a corner"),
        (f"f 1 2 {'3' * 5000}\n", "expected a corner"),
    ],
)
def test_obj_that_holds_something_else(tmp_path: Path, lines: str, message: str):
    with pytest.raises(CloudError, match=message) as caught:
        read_cloud(written(tmp_path / "bad.obj", obj(lines)))
    assert len(str(caught.value)) < 300


def test_colours_that_are_nan_are_left_out(tmp_path: Path):
    text = "v 0 0 0 1 0 0.5\nv 1 0 0 nan nan nan\n"
    with pytest.warns(UserWarning, match=r"a\.obj: colours are NaN or infinite at some points, and were left out"):
        data = read_cloud(written(tmp_path / "a.obj", text))
    assert data.pos.tolist() == [[0, 0, 0], [1, 0, 0]] and "rgb" not in data


def test_a_corner_is_a_whole_number(tmp_path: Path):
    head = "OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
    for corner in ("1e-400", "2.0", "1e0", "nan"):
        (tmp_path / "a.off").write_text(f"{head}3 0 1 {corner}\n")
        with pytest.raises(CloudError, match=f"expected faces of vertex numbers, found '{corner}'"):
            read_cloud(tmp_path / "a.off")
