from pathlib import Path

import numpy as np
import pytest
import torch

from geo3d.errors import CloudError
from geo3d.io import read_cloud
from geo3d.io.pcd import _reached, lzf_decompress
from geo3d.seeds import numpy_generator

FORMS = ["ascii", "binary", "binary_compressed"]


def lzf_compress(raw: bytes) -> bytes:
    """A plain LZF packer: the longest earlier match at each place, else a literal."""
    out, literals, at = bytearray(), bytearray(), 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            piece = literals[start : start + 32]
            out.append(len(piece) - 1)
            out.extend(piece)
        literals.clear()

    seen: dict[bytes, int] = {}
    while at < len(raw):
        key = raw[at : at + 3]
        origin = seen.get(key, -1)
        seen[key] = at
        if len(key) < 3 or origin < 0 or at - origin > 8192:
            literals.append(raw[at])
            at += 1
            continue
        length = 3
        while length < 264 and at + length < len(raw) and raw[origin + length] == raw[at + length]:
            length += 1
        flush()
        distance, rest = at - origin - 1, length - 2
        if rest < 7:
            out.extend([rest << 5 | distance >> 8, distance & 255])
        else:
            out.extend([7 << 5 | distance >> 8, rest - 7, distance & 255])
        at += length
    flush()
    return bytes(out)


def write_pcd(path: Path, rows: np.ndarray, form: str, changes: dict[str, str] | None = None) -> Path:
    """A structured array as PCD."""
    assert rows.dtype.names is not None
    kinds = [rows.dtype[name] for name in rows.dtype.names]
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(name.rstrip("0") for name in rows.dtype.names),
        "SIZE": " ".join(str(kind.base.itemsize) for kind in kinds),
        "TYPE": " ".join(kind.base.kind.upper() for kind in kinds),
        "COUNT": " ".join(str(int(np.prod(kind.shape, dtype=int))) for kind in kinds),
        "WIDTH": str(len(rows)),
        "HEIGHT": "1",
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(len(rows)),
        "DATA": form,
    }
    lines = {key: value for key, value in (lines | (changes or {})).items() if value}
    header = "# .PCD v0.7 - Point Cloud Data file format\n" + "".join(f"{k} {v}\n" for k, v in lines.items())
    if form == "ascii":
        words = [[repr(v.item()) for name in rows.dtype.names for v in np.ravel(row[name])] for row in rows]
        body = "".join(" ".join(w) + "\n" for w in words).encode()
    elif form == "binary":
        body = rows.tobytes()
    else:
        raw = b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in rows.dtype.names)
        packed = lzf_compress(raw)
        body = np.array([len(packed), len(raw)], "<u4").tobytes() + packed
    path.write_bytes(header.encode() + body)
    return path


def cloud(num_points: int = 40) -> np.ndarray:
    kinds = [("x", "<f4"), ("y", "<f8"), ("_", "u1", (4,)), ("z", "<f4"), ("rgb", "<f4"), ("normal_x", "<f4")]
    kinds += [("normal_y", "<f4"), ("normal_z", "<f4"), ("label", "<u2"), ("intensity", "<f4"), ("hist", "<f4", (3,))]
    rows, draws = np.zeros(num_points, kinds), numpy_generator("pcd")
    for name in "xyz":
        rows[name] = draws.integers(-8, 8, num_points) / 4
    bits = 0x7F000000 | draws.integers(0, 256**3, num_points) & 0x7FFFFF
    rows["rgb"] = bits.astype("<u4").view("<f4")
    rows["normal_y"] = 1
    rows["label"], rows["intensity"] = np.arange(num_points) % 7, 0.5
    rows["hist"] = draws.integers(0, 9, (num_points, 3))
    return rows


def test_lzf_against_its_packer():
    draws = numpy_generator("lzf")
    cases = [b"a", b"abc" * 400, bytes(2000), draws.bytes(3000), bytes(draws.integers(0, 3, 20_000, dtype=np.uint8))]
    for raw in cases:
        packed = lzf_compress(raw)
        assert lzf_decompress(packed, len(raw)) == raw
    assert len(lzf_compress(bytes(2000))) < 60


def test_lzf_by_hand():
    # literal "ab", then 3 bytes from 2 back, which reaches into what it writes; then a long copy of one byte
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
        path.write_bytes(whole + b"\0")  # which a byte put in before would have pushed out of the data
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
