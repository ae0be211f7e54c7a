from pathlib import Path

import pytest
import torch

from geo3d.errors import CloudError
from geo3d.io import read_cloud

ROWS = [[1, 2, 3], [4, 5, 6.5]]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3\n4 5 6.5\n",
        "1,2,3\n4,5,6.5",
        "1, 2, 3,\n4, 5, 6.5,\n",
        "1;2;3\n4;5;6.5\n",
        "\n1\t2\t3\r\n\r\n4\t5\t6.5\r\n",
        "# made by hand\n1 2 3 # first\n// more\n4 5 6.5\n",
        "x y z\n1 2 3\n4 5 6.5\n",
        '\ufeff"X","Y","Z"\n1,2,3\n4,5,6.5\n',
        "//X Y Z\n1 2 3\n4 5 6.5\n",
        "z,x,y\n3,1,2\n6.5,4,5\n",
        "2\n1 2 3\n4 5 6.5\n",
        "1e0 2.0E0 +3\n4 5 65e-1\n",
    ],
)
@pytest.mark.parametrize("suffix", [".xyz", ".txt", ".pts", ".csv", ".XYZ"])
def test_separators_headers_and_comments(tmp_path: Path, text: str, suffix: str):
    data = read_cloud(written(tmp_path / f"a{suffix}", text))
    assert data.pos.tolist() == ROWS and set(data.keys()) == {"pos"}


def test_one_point(tmp_path: Path):
    assert read_cloud(written(tmp_path / "a.xyz", "1 2 3")).pos.tolist() == [[1, 2, 3]]


def test_six_columns_are_normals_if_they_are_unit_vectors_else_colours(tmp_path: Path):
    normal = read_cloud(written(tmp_path / "n.txt", "1 2 3 0 0.6 0.8\n4 5 6 -1 0 0\n"))
    assert "rgb" not in normal
    torch.testing.assert_close(normal.normal, torch.tensor([[0, 0.6, 0.8], [-1, 0, 0]]))
    colour = read_cloud(written(tmp_path / "c.txt", "1 2 3 0 51 255\n4 5 6 255 0 0\n"))
    assert "normal" not in colour
    torch.testing.assert_close(colour.rgb, torch.tensor([[0, 0.2, 1], [1, 0, 0]]))
    fraction = read_cloud(written(tmp_path / "f.txt", "1 2 3 0.5 0.5 0.25\n4 5 6 1 1 0\n"))
    torch.testing.assert_close(fraction.rgb, torch.tensor([[0.5, 0.5, 0.25], [1, 1, 0]]))
    neither = read_cloud(written(tmp_path / "x.txt", "1 2 3 -4 700 1.5\n"))
    assert neither.x.tolist() == [[-4, 700, 1.5]] and set(neither.keys()) == {"pos", "x"}


def test_other_columns(tmp_path: Path):
    assert read_cloud(written(tmp_path / "a.txt", "1 2 3 7\n4 5 6 8\n")).x.tolist() == [[7], [8]]
    part = read_cloud(written(tmp_path / "b.txt", "1 2 3 0 0 1 7\n4 5 6 1 0 0 8\n"))
    assert part.normal.tolist() == [[0, 0, 1], [1, 0, 0]] and part.x.tolist() == [[7], [8]]
    scan = read_cloud(written(tmp_path / "c.pts", "2\n1 2 3 -900 255 0 0\n4 5 6 12 0 255 0\n"))
    assert scan.rgb.tolist() == [[1, 0, 0], [0, 1, 0]] and scan.x.tolist() == [[-900], [12]]


def test_names_decide(tmp_path: Path):
    text = "label,x,y,z,red,green,blue,intensity\n3,1,2,3,255,0,51,0.5\n"
    data = read_cloud(written(tmp_path / "a.csv", text))
    assert data.pos.tolist() == [[1, 2, 3]] and data.point_y.tolist() == [3] and data.x.tolist() == [[0.5]]
    torch.testing.assert_close(data.rgb, torch.tensor([[1, 0, 0.2]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 bytes"),
        ("\n\n", "file ends after 0"),
        ("# nothing\n", "file ends after 0"),
        ("x y z\n", "file ends after 0"),
        ("3\x1f\n1 2 3\n4 5 6\n", "line 1: expected 3 names separated by blanks, as the numbers are; found 1"),
        ("3\n1 2 3\n4 5 6\n", "expected 3 points, file ends after 2"),
        ("1 2\n3 4\n", "three or more columns, found 2"),
        ("1 2 3\n4 5\n", "same length"),
        ("1 2 3\n4 five 6\n", "rows of numbers"),
        ("1.5;2,5;3,5\n", "both '.' and ',' in numbers separated by ';'"),
        ("1 2 nan\n4 5 6\n", "1 of 2 points have NaN"),
        ("label,x,y,z\n0.5,1,2,3\n", "labels that are whole"),
        ("x y z red green blue\n1 2 3 -1 0 0\n", "expected colours"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str):
    with pytest.raises(CloudError, match=message) as caught:
        read_cloud(written(tmp_path / "bad.txt", text))
    assert "bad.txt" in str(caught.value)
