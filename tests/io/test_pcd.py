from pathlib import Path

import numpy as np
import pytest
import torch
from support.pcd_files import FORMS, cloud, lzf_compress, write_pcd

from geo3d.errors import CloudError
from geo3d.io import read_cloud
from geo3d.io.pcd import _reached, lzf_decompress
from geo3d.seeds import numpy_generator


def test_lzf_against_its_packer():
    draws = numpy_generator("lzf")
    cases = [b"a", b"abc" * 400, bytes(2000), draws.bytes(3000), bytes(draws.integers(0, 3, 20_000, dtype=np.uint8))]
    for raw in cases:
        packed = lzf_compress(raw)
        assert lzf_decompress(packed, len(raw)) == raw
    assert len(lzf_compress(bytes(2000))) < 60


def test_lzf_by_hand():
    # literal "ab", then a copy of 3 bytes from 2 back, which repeats its own output; then a long copy of one byte
    assert lzf_decompress(bytes([1, 97, 98, 1 << 5, 1]), 5) == b"ababa"
    assert lzf_decompress(bytes([0, 122, 7 << 5, 10, 0]), 20) == b"z" * 20
    assert lzf_decompress(bytes([0, 122, 1 << 5, 9]), 9) == b"z"


@pytest.mark.parametrize("form", FORMS)
def test_all_fields(tmp_path: Path, form: str):
    rows = cloud()
    data = read_cloud(write_pcd(tmp_path / "a.pcd", rows, form))
    assert np.array_equal(data.pos.numpy(), np.stack([rows[n] for n in "xyz"], 1).astype("f4"))
    bits = rows["rgb"].view("<u4")
    expected = np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], 1) / 255
    torch.testing.assert_close(data.rgb, torch.from_numpy(expected.astype("f4")))
    assert data.normal.unique(dim=0).tolist() == [[0, 1, 0]]
    assert np.array_equal(data.point_y.numpy(), rows["label"])
    assert np.array_equal(data.x.numpy(), np.column_stack([rows["intensity"], rows["hist"]]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["<f4", "<f8", "<i1", "<u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"])
def test_every_type(tmp_path: Path, form: str, kind: str):
    rows = np.array([(1, 2, 3), (4, 5, 100)], [(n, kind) for n in "xyz"])
    assert read_cloud(write_pcd(tmp_path / "a.pcd", rows, form)).pos.tolist() == [[1, 2, 3], [4, 5, 100]]


@pytest.mark.parametrize("form", FORMS)
def test_colours_packed_into_an_integer(tmp_path: Path, form: str):
    rows = np.array([(1, 2, 3, 0xFF3300FF)], [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgba", "<u4")])
    rgb = read_cloud(write_pcd(tmp_path / "a.pcd", rows, form)).rgb
    torch.testing.assert_close(rgb, torch.tensor([[0.2, 0.0, 1.0]]))


def test_lines_that_may_be_missing(tmp_path: Path):
    rows = np.array([(1, 2, 3)] * 6, [(n, "<f4") for n in "xyz"])
    changes = {"COUNT": "", "POINTS": "", "WIDTH": "3", "HEIGHT": "2"}
    assert read_cloud(write_pcd(tmp_path / "a.pcd", rows, "binary", changes)).pos.shape == (6, 3)


@pytest.mark.parametrize("form", FORMS)
def test_missing_measurements_are_counted(tmp_path: Path, form: str):
    rows = np.array([(1, 2, 3)] * 6, [(n, "<f4") for n in "xyz"])
    rows["z"][2:4] = np.nan
    with pytest.raises(CloudError, match=r"a\.pcd: 2 of 6 points have NaN"):
        read_cloud(write_pcd(tmp_path / "a.pcd", rows, form))


def test_cut_off(tmp_path: Path):
    rows = np.array([(i, 2, 3) for i in range(9)], [(n, "<f4") for n in "xyz"])
    for form, rest in (("ascii", len("8.0 2.0 3.0\n") + 6), ("binary", 14)):
        path = write_pcd(tmp_path / "a.pcd", rows, form)
        path.write_bytes(path.read_bytes()[:-rest])
        with pytest.raises(CloudError, match=r"a\.pcd: expected 9 points, file ends after 7"):
            read_cloud(path)
    path = write_pcd(tmp_path / "a.pcd", rows, "binary_compressed")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CloudError, match=r"expected 9 points, file ends after \d"):
        read_cloud(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"FIELDS": "x y"}, "FIELDS, SIZE, TYPE and COUNT of the same length"),
        ({"FIELDS": "x y w"}, "expected columns x, y, z; found x, y, w"),
        ({"SIZE": "4 4 3"}, "field z of type 'F', size '3'"),
        ({"COUNT": "1 1 0"}, "field z .* count '0'"),
        ({"POINTS": "some"}, "number of points in POINTS"),
        ({"POINTS": "0", "WIDTH": "0"}, "12 bytes are left over"),
        ({"POINTS": "0"}, "expected WIDTH x HEIGHT points, 1; found POINTS 0"),
        ({"DATA": "zipped"}, "found 'zipped'"),
    ],
)
def test_bad_headers(tmp_path: Path, changes: dict[str, str], message: str):
    rows = np.array([(1, 2, 3)], [(n, "<f4") for n in "xyz"])
    with pytest.raises(CloudError, match=message):
        read_cloud(write_pcd(tmp_path / "a.pcd", rows, "binary", changes))


def test_no_header(tmp_path: Path):
    (tmp_path / "a.pcd").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(CloudError, match="cannot understand the header line '1 2 3'"):
        read_cloud(tmp_path / "a.pcd")


@pytest.mark.parametrize("form", FORMS)
def test_more_data_than_declared(tmp_path: Path, form: str):
    rows = np.array([(i, 2, 3) for i in range(9)], [(n, "<f4") for n in "xyz"])
    path = write_pcd(tmp_path / "a.pcd", rows, form, {"POINTS": "8", "WIDTH": "8"})
    with pytest.raises(CloudError, match=r"a\.pcd: (12 bytes are left over|expected 8 points(, each| of 12 bytes))"):
        read_cloud(path)
    if form != "ascii":  # old programs fill the last page of memory
        path = write_pcd(tmp_path / "a.pcd", rows, form)
        whole = path.read_bytes()
        path.write_bytes(whole + bytes(-len(whole) % 4096))
        assert len(read_cloud(path).pos) == 9
        path.write_bytes(whole + b"\0")  # may be a byte of the data, pushed out by an inserted one
        with pytest.raises(CloudError, match="1 bytes are left over"):
            read_cloud(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"POINTS": "1" * 5000}, "number of points in POINTS"),
        ({"WIDTH": "1" * 5000}, "number of points in WIDTH"),
        ({"COUNT": "1 1 " + "1" * 5000}, "number of values of z"),
        ({"COUNT": "1 1 99999999"}, "at most 1048576 values a point"),
        ({"WIDTH": "2"}, "WIDTH x HEIGHT points, 2; found POINTS 1"),
        ({"VIEWPOINT": "0\nCOUNX 1 1 1"}, "cannot understand the header line 'COUNX 1 1 1'"),
        ({"FIELDS": "x x z"}, "expected columns x, y, z"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_damaged_headers(tmp_path: Path, form: str, changes: dict[str, str], message: str):
    rows = np.array([(1, 2, 3)], [(n, "<f4") for n in "xyz"])
    with pytest.raises(CloudError, match=message) as caught:
        read_cloud(write_pcd(tmp_path / "a.pcd", rows, form, changes))
    assert len(str(caught.value)) < 400


def test_few_compressed_bytes_cannot_be_many_points(tmp_path: Path):
    rows = np.array([(1, 2, 3)], [(n, "<f4") for n in "xyz"])
    path = write_pcd(tmp_path / "a.pcd", rows, "binary_compressed", {"POINTS": "300000000", "WIDTH": "300000000"})
    content = path.read_bytes()
    at = content.index(b"DATA binary_compressed\n") + len(b"DATA binary_compressed\n")
    path.write_bytes(content[: at + 4] + np.array([3_600_000_000], "<u4").tobytes() + content[at + 8 :])
    with pytest.raises(CloudError, match="compressed bytes cannot hold them"):
        read_cloud(path)


def test_a_control_character_among_the_numbers_of_a_text(tmp_path: Path):
    rows = np.array([(1, 2, 3)], [(n, "<f4") for n in "xyz"])
    path = write_pcd(tmp_path / "a.pcd", rows, "ascii")
    path.write_bytes(path.read_bytes().replace(b"2.0 ", b"2.0\x0b"))
    with pytest.raises(CloudError, match="line 12: expected plain text, found a byte of value 11"):
        read_cloud(path)


def test_packed_colours_that_are_nan_in_text_have_lost_their_bits(tmp_path: Path):
    rows = np.array([(1, 2, 3, np.nan)], [(n, "<f4") for n in ("x", "y", "z", "rgb")])
    with pytest.raises(CloudError, match="packed colours that are NaN in text"):
        read_cloud(write_pcd(tmp_path / "a.pcd", rows, "ascii"))


def test_a_point_of_a_text_is_a_line(tmp_path: Path):
    rows = np.array([(1, 2, 3), (4, 5, 6)], [(n, "<f4") for n in "xyz"])
    path = write_pcd(tmp_path / "a.pcd", rows, "ascii")
    path.write_bytes(path.read_bytes().replace(b"3.0\n4.0", b"3.0 4.0\n"))
    with pytest.raises(CloudError, match="each a line of 3 numbers; found 6 numbers or lines of other lengths"):
        read_cloud(path)


@pytest.mark.parametrize(("size", "points"), [(0, 0), (79, 0), (80, 0), (84, 1), (100, 5), (119, 9), (120, 10)])
def test_of_fields_that_lie_one_after_another_a_point_needs_the_last(size: int, points: int):
    assert _reached(size, [("x", "f4", 1), ("y", "f4", 1), ("z", "f4", 1)], 10) == points
