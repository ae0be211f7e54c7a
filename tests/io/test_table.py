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
        ("3\x1f\n1 2 3\n4 5 6\n", "line 1: expected plain text, found a byte of value 31"),
        ("3%\n1 2 3\n4 5 6\n", "line 1: expected 3 names separated by blanks, as the numbers are; found 1"),
        ('1\t2\t3\n4\t"1"5\t6\n', "line 2: expected rows of numbers of the same length, 3 separated by tabs"),
        ("1,2,3,4\n4,5,6,#7\n", "line 2: expected rows of numbers separated by ','; found '#7'"),
        ("1,2,3\n4,5,6\x0b\n", "line 2: expected plain text, found a byte of value 11"),
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


@pytest.mark.parametrize(
    "text",
    [
        "Point ID,X,Y,Z\n7,1,2,3\n8,4,5,6.5\n",
        "//Roughness (0.1);X;Y;Z\n0.5;1;2;3\n0.5;4;5;6.5\n",
        "//X;Y;Z;Roughness (0.1)\n2\n1;2;3;0.5\n4;5;6.5;0.5\n",
        "id\tEasting (m)\tNorthing (m)\tHeight (m)\n7\t1\t2\t3\n8\t4\t5\t6.5\n",
        "# exported on Monday, in Rome\n# X [m],Y [m],Z [m],id\n1,2,3,7\n4,5,6.5,8\n",
        "# columns: id x y z\n7 1 2 3\n8 4 5 6.5\n",
        ",Coord. X,Coord. Y,Coord. Z,n\n0,1,2,3,7\n1,4,5,6.5,8\n",
        '"point, number";"x coordinate";"y coordinate";"z coordinate"\n7;1;2;3\n8;4;5;6.5\n',
        "E N elevation id\r1 2 3 7\r4 5 6.5 8\r",
        "north,east,alt,id\n2,1,3,7\n5,4,6.5,8\n",
    ],
)
def test_names_are_split_like_the_numbers(tmp_path: Path, text: str):
    assert read_cloud(written(tmp_path / "a.asc", text)).pos.tolist() == ROWS


@pytest.mark.parametrize(
    "text", ["1,0;2,0;3,0\n4,0;5,0;6,5\n", "1\t2\t3\n4\t5\t6,5\n", "1 2 3\n4,0 5,00 6,5\n", "X;Y;Z\n1;2;3\n4;5;6,5"]
)
def test_decimal_commas_where_they_separate_nothing(tmp_path: Path, text: str):
    assert read_cloud(written(tmp_path / "a.txt", text)).pos.tolist() == ROWS


def test_an_empty_field_is_nan(tmp_path: Path):
    data = read_cloud(written(tmp_path / "a.csv", "x,y,z,t\n1,2,3,\n4,5,6.5,8\n"))
    assert data.pos.tolist() == ROWS and data.x[1].tolist() == [8] and bool(data.x[0].isnan())
    with pytest.raises(CloudError, match="1 of 2 points have NaN or infinite coordinates"):
        read_cloud(written(tmp_path / "b.csv", "t,x,y,z\n1,,2,3\n2,4,5,6\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("intensity,a,b,c\n9,1,2,3\n", "expected columns x, y, z; found intensity, a, b, c"),
        ("//intensity;a;b;c\n9;1;2;3\n", "line 1: expected 4 names, x, y, z among them; found intensity, a, b, c"),
        ("# id X YZ\n9 1 2 3\n", "line 1: expected 4 names, x, y, z among them; found id, x, yz"),
        ("//id;X;Y'Z\n9;1;2;3\n", "line 1: expected 4 names"),
        ("Point ID X Y Z\n9 1 2 3\n", "line 1: expected 4 names separated by blanks, as the numbers are; found 5"),
        ("x,y,z,x\n1,2,3,4\n", "expected one column called x, found 2"),
        ("easting,east,northing,height\n1,2,3,4\n", "expected columns x, y, z"),
        ("Easting (m),Northing (m),Height (ft)\n1,2,3\n", "one unit, found m, m, ft"),
        ("3x0.1 0.2 0.3\n1 2 3\n4 5 6\n", "line 1: expected rows of numbers separated by blanks; found '3x0.1'"),
        ("1 2 3\n4 5_0 6\n", "line 2: expected rows of numbers separated by blanks; found '5_0'"),
        ("1 2 3\n4 5 6 7\n", "line 2: expected rows of numbers of the same length, 3 .* found 4"),
        ("1\n1 2 3\n4 5 6\n", "expected 1 points, found 2"),
        ("x,y,z\n3\n1,2,3\n4,5,6\n", "expected 3 points, file ends after 2"),
        ("1,5,2,5,3,5\n4,5,5,5,6,5\n", "may separate 6 whole numbers, or be the decimal commas of 3;"),
        ("1,5, 2,5, 3,5\n4,5, 5,5, 6,5\n", "may separate 6 whole numbers, or be the decimal commas of 3;"),
        ("1.000,5;2;3\n", "both '.' and ','"),
        ("x,y,z,label,label\n1,2,3,0,1\n", "expected one column called label, found 2; rename the others"),
        ("1;2;3\n4,5,6\n", "line 2|line 1"),
        ("1" * 5000 + "\n1 2 3\n", "1"),
        ('x,y,z\n1,2,"' + "3" * 200_000 + '"\n', "1"),
    ],
)
def test_nothing_is_guessed(tmp_path: Path, text: str, message: str):
    for suffix in ("txt", "pts"):
        with pytest.raises(CloudError, match=message) as caught:
            read_cloud(written(tmp_path / f"bad.{suffix}", text))
        assert f"bad.{suffix}" in str(caught.value) and len(str(caught.value)) < 500


def test_colours_of_zeros_and_ones_may_be_either(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"a\.txt: colours of 0 and 1 alone .* left out"):
        data = read_cloud(written(tmp_path / "a.txt", "x y z r g b\n1 2 3 1 1 0\n4 5 6.5 0 1 0\n"))
    assert data.pos.tolist() == ROWS and "rgb" not in data


def test_whole_numbers_in_six_columns_are_read_where_commas_are_clear(tmp_path: Path):
    for text in ("x,y,z,r,g,b\n1,2,3,255,0,9\n", "1, 2, 3, 255, 0, 9\n", "1,2,3,255,0,9\n-1,-2,3,0,0,0\n"):
        assert read_cloud(written(tmp_path / "a.csv", text)).rgb[0, 0] == 1


def test_nan_in_a_column_that_nobody_uses(tmp_path: Path):
    data = read_cloud(written(tmp_path / "a.csv", "x,y,z,nx,ny,nz,t\n1,2,3,0,0,1,nan\n4,5,6.5,nan,nan,nan,1\n"))
    assert data.pos.tolist() == ROWS and bool(data.x[0].isnan()) and bool(data.normal[1].isnan().all())


@pytest.mark.parametrize("names", ["easting,y,z", "x,northing,z", "x,n,h"])
def test_axes_of_two_kinds_are_refused(tmp_path: Path, names: str):
    (tmp_path / "a.csv").write_text(f"{names}\n1,2,3\n4,5,7\n")
    with pytest.raises(CloudError, match="expected columns x, y, z; found"):
        read_cloud(tmp_path / "a.csv")


@pytest.mark.parametrize("names", ["x,y,elevation", "easting,northing,z", "E,N,H"])
def test_the_height_may_be_called_either_way(tmp_path: Path, names: str):
    (tmp_path / "a.csv").write_text(f"{names}\n1,2,3\n4,5,7\n")
    assert read_cloud(tmp_path / "a.csv").pos.tolist() == [[1, 2, 3], [4, 5, 7]]


def test_a_mark_within_a_word_is_damage(tmp_path: Path):
    (tmp_path / "a.xyz").write_text("0 0 1 # first\n1 2 3\n4 5 6#7\n")
    with pytest.raises(CloudError, match=r"a\.xyz, line 3"):
        read_cloud(tmp_path / "a.xyz")
