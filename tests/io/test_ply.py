import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from support.ply_files import FORMATS, write_ply

from geo3d.errors import CloudError
from geo3d.io import read_cloud, read_mesh
from geo3d.seeds import generator

CORNERS = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.5, 2.0)]
XYZ = [("float", "x"), ("float", "y"), ("float", "z")]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["float", "double", "short", "int", "uchar"])
def test_every_number_in_every_form(tmp_path: Path, form: str, kind: str):
    rows = [(1, 2, 3), (4, 5, 6), (7, 8, 200)]
    data = read_cloud(write_ply(tmp_path / "a.ply", form, [("vertex", [(kind, n) for n in "xyz"], rows)]))
    assert data.pos.dtype == torch.float32 and data.pos.tolist() == [list(map(float, row)) for row in rows]
    assert set(data.keys()) == {"pos"}


@pytest.mark.parametrize("form", FORMATS)
def test_all_attributes_in_any_order_between_other_elements(tmp_path: Path, form: str):
    properties = [("uchar", "red"), ("double", "z"), ("float", "quality"), ("uchar", "green"), ("short", "x")]
    properties += [("uchar", "blue"), ("uchar", "alpha"), ("float", "nx"), ("float", "ny"), ("float", "nz")]
    properties += [("int", "label"), ("ushort", "y"), (("uchar", "int"), "neighbours")]
    rows = [
        (255, 0.5, 7.0, 0, -1, 51, 255, 1.0, 0.0, 0.0, 3, 2, [1]),
        (0, 1.5, 8.0, 255, 4, 0, 0, 0.0, 1.0, 0.0, 5, 6, []),
    ]
    camera = ("camera", [("double", "view"), (("uchar", "float"), "lens")], [(1.0, [2.0, 3.0]), (4.0, [])])
    data = read_cloud(write_ply(tmp_path / "a.ply", form, [camera, ("vertex", properties, rows), camera]))
    assert data.pos.tolist() == [[-1, 2, 0.5], [4, 6, 1.5]]
    torch.testing.assert_close(data.rgb, torch.tensor([[1.0, 0, 0.2], [0, 1, 0]]))
    assert data.normal.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert data.point_y.tolist() == [3, 5] and data.point_y.dtype == torch.int64
    assert data.x.tolist() == [[7], [8]]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["vertex_indices", "vertex_index"])
@pytest.mark.parametrize("faces_first", [False, True])
def test_polygons_become_triangles(tmp_path: Path, form: str, name: str, faces_first: bool):
    faces = ("face", [(("uchar", "int"), name), ("uchar", "flag")], [([0, 1, 2, 3], 1), ([0, 1, 4], 0), ([2, 3], 0)])
    elements = [("vertex", XYZ, CORNERS), faces]
    path = write_ply(tmp_path / "a.ply", form, elements[::-1] if faces_first else elements)
    vertices, triangles = read_mesh(path)
    assert vertices.tolist() == [list(c) for c in CORNERS]
    assert triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 4]]
    assert read_cloud(path).pos.shape == (5, 3)
    sampled = read_cloud(path, 50, generator(0))
    assert sampled.pos.shape == (50, 3) and sampled.normal.shape == (50, 3)


@pytest.mark.parametrize("form", FORMATS)
def test_equal_polygons_take_the_fast_way_to_the_same_triangles(tmp_path: Path, form: str):
    faces = ("face", [(("uint", "ushort"), "vertex_index")], [([0, 1, 2],), ([2, 3, 0],), ([1, 2, 4],)])
    _, triangles = read_mesh(write_ply(tmp_path / "a.ply", form, [("vertex", XYZ, CORNERS), faces]))
    assert triangles.tolist() == [[0, 1, 2], [2, 3, 0], [1, 2, 4]]


def test_colours_are_interpolated_over_a_mesh(tmp_path: Path):
    properties = [*XYZ, ("uchar", "red"), ("uchar", "green"), ("uchar", "blue")]
    rows = [(0.0, 0.0, 0.0, 0, 0, 0), (1.0, 0.0, 0.0, 255, 0, 0), (0.0, 1.0, 0.0, 0, 255, 0)]
    faces = ("face", [(("uchar", "int"), "vertex_indices")], [([0, 1, 2],)])
    path = write_ply(tmp_path / "a.ply", "ascii", [("vertex", properties, rows), faces])
    data = read_cloud(path, 20, generator(0))
    torch.testing.assert_close(data.rgb, data.pos)


def test_windows_line_ends(tmp_path: Path):
    path = write_ply(tmp_path / "a.ply", "ascii", [("vertex", XYZ, CORNERS)])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_cloud(path).pos.tolist() == [list(c) for c in CORNERS]


@pytest.mark.parametrize("form", FORMATS)
def test_cut_off(tmp_path: Path, form: str):
    faces = ("face", [(("uchar", "int"), "vertex_indices")], [([0, 1, 2],), ([2, 3, 0],)])
    path = write_ply(tmp_path / "a.ply", form, [("vertex", XYZ, CORNERS), faces])
    whole = path.read_bytes()
    start = whole.index(b"end_header\n") + 11
    row = 12 if form != "ascii" else len(b"0.0 0.0 0.0 \n")
    path.write_bytes(whole[: start + 3 * row + 2])
    with pytest.raises(CloudError, match=r"a\.ply: expected 5 points, file ends after 3"):
        read_cloud(path)
    path.write_bytes(whole[:-2] if form != "ascii" else whole[:-4])
    with pytest.raises(CloudError, match="expected 2 faces, file ends after 1"):
        read_cloud(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("hello", "begins with ply"),
        ("ply\x1a\nformat ascii 1.0\n", "begins with ply"),
        ("plyformat ascii 1.0\n", "begins with ply"),
        ("ply", "no end_header"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n\x0c1", "line 6: expected plain text"),
        ("ply\nformat ascii 1.0\nelement vertex 3\n", "no end_header"),
        ("ply\nelement vertex 1\nproperty float x\nend_header\n1", "no line 'format"),
        ("ply\nformat ascii 1.0\nelement vertex many\nend_header\n", "number of rows of vertex, found 'many'"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\nend_header\n1", "header line 'property quad x'"),
        ("ply\nformat ascii 1.0\nproperty float x\nend_header\n1", "header line 'property float x'"),
        (
            "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1",
            "expected columns x, y, z; found x",
        ),
        ("ply\nformat ascii 1.0\nelement face 0\nend_header\n", "expected an element vertex"),
        ("ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n", "expected columns x, y, z"),
        (
            "ply\nformat binary_little_endian 1.0\nelement vertex 99999999999999\nproperty int x\nend_header\n",
            "after 0",
        ),
    ],
)
def test_bad_headers(tmp_path: Path, header: str, message: str):
    (tmp_path / "a.ply").write_text(header)
    with pytest.raises(CloudError, match=message):
        read_cloud(tmp_path / "a.ply")


@pytest.mark.parametrize("form", FORMATS)
def test_no_points_and_bad_corners(tmp_path: Path, form: str):
    with pytest.raises(CloudError, match="empty|columns x, y, z"):
        read_cloud(write_ply(tmp_path / "a.ply", form, [("vertex", XYZ, [])]))
    faces = ("face", [(("uchar", "int"), "vertex_indices")], [([0, 1, 5],)])
    path = write_ply(tmp_path / "b.ply", form, [("vertex", XYZ, CORNERS), faces])
    for read in (read_cloud, read_mesh):
        with pytest.raises(CloudError, match=r"b\.ply: a face refers to vertex 5 .* the file has 5"):
            read(path)


def test_big_clouds_do_not_loop_over_points(tmp_path: Path):
    pos = np.random.default_rng(0).standard_normal((200_000, 3)).astype("<f4")
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 200000\n" + "".join(
        f"property float {n}\n" for n in "xyz"
    )
    (tmp_path / "a.ply").write_bytes(head.encode() + b"end_header\n" + pos.tobytes())
    assert np.array_equal(read_cloud(tmp_path / "a.ply").pos.numpy(), pos)


@pytest.mark.parametrize("form", FORMATS)
def test_lines_that_end_in_carriage_returns(tmp_path: Path, form: str):
    path = write_ply(tmp_path / "a.ply", form, [("vertex", XYZ, CORNERS)])
    head, mark, body = path.read_bytes().partition(b"end_header\n")
    body = body.replace(b"\n", b"\r") if form == "ascii" else body
    path.write_bytes((head + mark).replace(b"\n", b"\r") + body)
    assert read_cloud(path).pos.tolist() == [list(c) for c in CORNERS]
    if form == "binary_little_endian":  # a line feed in the data does not end a line; the zeros after them are padding
        first = struct.pack("<f", struct.unpack("<f", b"\0\x0a\x80\x3e")[0])
        path.write_bytes(path.read_bytes()[: -len(body)] + first + body[4:] + bytes(16))
        assert read_cloud(path).pos[0].tolist() == [struct.unpack("<f", first)[0], 0, 0]


def test_a_comment_may_say_end_header(tmp_path: Path):
    path = write_ply(tmp_path / "a.ply", "ascii", [("vertex", XYZ, CORNERS)])
    path.write_bytes(path.read_bytes().replace(b"made by a test", b"no end_header here"))
    assert len(read_cloud(path).pos) == 5


@pytest.mark.parametrize("form", FORMATS)
def test_strips_become_triangles_that_face_one_side(tmp_path: Path, form: str):
    strips = ("tristrips", [(("int", "int"), "vertex_indices")], [([0, 1, 3, 2, -1, 4, 3, 3, 2, 1],)])
    _, faces = read_mesh(write_ply(tmp_path / "a.ply", form, [("vertex", XYZ, CORNERS), strips]))
    assert faces.tolist() == [[0, 1, 3], [3, 1, 2], [3, 2, 1]]
    strips = ("tristrips", [(("int", "int"), "vertex_indices")], [([0, 1, 5],)])
    with pytest.raises(CloudError, match="vertex 5"):
        read_mesh(write_ply(tmp_path / "a.ply", form, [("vertex", XYZ, CORNERS), strips]))


@pytest.mark.parametrize(
    ("kind", "most"), [("uchar", 255), ("ushort", 65535), ("int", 255), ("float", 1), ("double", 1)]
)
def test_the_declared_type_says_what_full_light_is(tmp_path: Path, kind: str, most: int):
    properties = [*XYZ, (kind, "red"), (kind, "green"), (kind, "blue")]
    rows = [(0.0, 0.0, 0.0, 1, 1, 0), (1.0, 0.0, 0.0, 0, 1, 0)]
    colours = [read_cloud(write_ply(tmp_path / "a.ply", form, [("vertex", properties, rows)])).rgb for form in FORMATS]
    for rgb in colours:
        assert rgb.equal(colours[0])
        torch.testing.assert_close(rgb, torch.tensor([[1, 1, 0], [0, 1, 0]]) / most)


@pytest.mark.parametrize("form", FORMATS)
def test_more_data_than_declared(tmp_path: Path, form: str):
    path = write_ply(tmp_path / "a.ply", form, [("vertex", XYZ, CORNERS)])
    path.write_bytes(path.read_bytes().replace(b"vertex 5", b"vertex 4"))
    with pytest.raises(CloudError, match=r"a\.ply: (3 numbers|12 bytes) are left over"):
        read_cloud(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("element vertex 5", "element vertex " + "1" * 5000, "number of rows of vertex"),
        ("element vertex 5", "element vertex 5_0", "number of rows of vertex"),
        ("list uchar int", "list float int", "length of type float"),
        ("1.0 0.0 0.0 \n1.0", "1.0 0.0 0.01.0", "row 1 of vertex .counted from 0. ends within a line|expected numbers"),
        (
            "1.0 0.0 0.0 \n1.0 1.0 0.0",
            "1.0 0.0 \n0.0 1.0 1.0 0.0",
            "row 1 of vertex .counted from 0. ends within a line",
        ),
        ("3 0 1 2 \n3", "3 0 1 2 3", "row 0 of face .counted from 0. ends within a line"),
        ("3 0 1 2", "nan 0 1 2", "length of nan"),
        ("3 0 1 2", "-3 0 1 2", "length of -3"),
        ("3 0 1 2", "3 0 1_0 2", "found '1_0'"),
        ("3 0 1 2", "3 0 1.5 2", "whole numbers"),
        ("0.5 0.5 2.0", "0.5 0.5 " + "2" * 200_000, "200000 characters"),
        ("property float y", "property float x", "expected columns x, y, z"),
        ("property float z", "property float z\nproperty float z", "ends within a line"),
        ("element face", "element vertex", "several elements vertex"),
    ],
)
def test_damaged_text(tmp_path: Path, old: str, new: str, message: str):
    faces = ("face", [(("uchar", "int"), "vertex_indices")], [([0, 1, 2],), ([2, 3, 0],)])
    path = write_ply(tmp_path / "a.ply", "ascii", [("vertex", XYZ, CORNERS), faces])
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CloudError, match=message) as caught:
        read_cloud(path)
    assert "a.ply" in str(caught.value) and len(str(caught.value)) < 400


def test_a_list_of_negative_length(tmp_path: Path):
    faces = ("face", [(("char", "int"), "vertex_indices")], [([0, 1, 2],), ([2, 3, 0, 1],)])
    path = write_ply(tmp_path / "a.ply", "binary_little_endian", [("vertex", XYZ, CORNERS), faces])
    content = path.read_bytes()
    path.write_bytes(content[:-17] + b"\xff" + content[-16:])
    with pytest.raises(CloudError, match="length of -1"):
        read_cloud(path)


@pytest.mark.parametrize("lines", ["format ascii 1", "format ascii 1.1", "format ascii 1.0\nformat ascii 1.0"])
def test_another_version_or_two_formats_are_refused(tmp_path: Path, lines: str):
    body = "element vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 1\n"
    (tmp_path / "a.ply").write_text(f"ply\n{lines}\n{body}")
    with pytest.raises(CloudError, match="cannot understand the header line 'format"):
        read_cloud(tmp_path / "a.ply")


@pytest.mark.parametrize(
    "line", ["property float\rx", "\rproperty float x", "element vert\rex 5", "end_\rheader", "\rend_header"]
)
def test_a_carriage_return_within_a_header_line_is_damage(tmp_path: Path, line: str):
    path = write_ply(tmp_path / "a.ply", "binary_little_endian", [("vertex", XYZ, CORNERS)])
    plain = line.replace("\r", " ").strip() if "float" in line else line.replace("\r", "")
    assert plain.encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(plain.encode(), line.encode()))
    with pytest.raises(CloudError, match="a carriage return within the header line"):
        read_cloud(path)


def test_no_vertices_are_no_points_whatever_else_they_would_have(tmp_path: Path):
    properties = [*XYZ, ("short", "quality")]
    path = write_ply(tmp_path / "a.ply", "ascii", [("vertex", properties, [])])
    with pytest.raises(CloudError, match=r"a\.ply: the cloud is empty"):
        read_cloud(path)
