import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geo3d.data import Folder, ModelNet, Shapes, folder
from geo3d.data.check import check
from geo3d.errors import CloudError
from geo3d.io import write_cloud
from geo3d.seeds import generator

SAMPLES = Path(__file__).parents[2] / "datasets"


def test_a_sound_data_set():
    rows = dict(check(ModelNet(str(SAMPLES / "modelnet" / "sample_hdf5"))))
    assert rows["data set"] == "ModelNet" and rows["form"] == "hdf5" and rows["clouds"] == "6"
    assert rows["up"].startswith("y (as stated); the shapes ")
    assert rows["points per cloud"] == "128 / 128 / 128 (min / median / max)"
    assert rows["labels"] == "0 to 2 for 3 classes" and rows["class cone"] == "2 clouds"
    assert rows["repeated points"] == "0.00%"


def test_figures(tmp_path: Path):
    for name, size in (("a", 4), ("b", 8), ("c", 12)):
        pos = torch.zeros(size, 3)
        pos[0] = torch.tensor([3.0, -4.0, 12.0])
        write_cloud(tmp_path / f"{name}.npz", Data(pos=pos))
    rows = dict(check(Folder(str(tmp_path))))
    assert rows["points per cloud"] == "4 / 8 / 12 (min / median / max)"
    assert rows["bounding box"] == "(0, -4, 0) to (3, 0, 12)"
    assert rows["diagonal"].startswith("13 / 13 / 13")
    assert rows["repeated points"] == f"{18 / 24:.2%}" and rows["labels"] == "none"


@pytest.mark.parametrize("up", "xyz")
def test_standing_things_show_which_way_is_up(tmp_path: Path, up: str):
    for i in range(4):
        draws = generator("table", i)
        top, legs = torch.rand(400, 3, generator=draws), torch.rand(100, 3, generator=draws)
        top[:, 2] = 1
        legs[:, :2] = legs[:, :2].round()
        pos = torch.cat([top, legs])
        write_cloud(tmp_path / f"{i}.npz", Data(pos=pos.roll("xyz".index(up) + 1, 1)))
    for stated in "yz":  # the guess is about the files, whatever was stated about them
        rows = dict(check(Folder(str(tmp_path), up=stated)))
        assert rows["up, by shape"].startswith(f"perhaps {up} ")
        cure = {stated: ", too", "x": ": turn the files, as up must be y or z"}.get(up, f": give up={up}")
        assert rows["up"] == f"{stated} (as stated); the shapes look {up}-up in the files{cure}"


def test_what_looks_alike_from_all_sides_is_unclear(tmp_path: Path):
    write_cloud(tmp_path / "a.npz", Data(pos=torch.randn(5000, 3, generator=generator("ball"))))
    rows = dict(check(Folder(str(tmp_path))))
    assert rows["up, by shape"].startswith("unclear") and rows["up"] == "z (as stated); the shapes leave it unclear"


class Clouds(list):
    """The least that a data set is."""

    classes: list[str] = ["a", "b"]
    labels: torch.Tensor | None = None


def test_what_is_broken_is_an_error(tmp_path: Path):
    good, bad = Data(pos=torch.eye(3)), Data(pos=torch.full((3, 3), torch.nan))
    assert dict(check(Clouds([good])))["clouds"] == "1"
    for clouds, message in (
        (Clouds(), "no cloud"),
        (Clouds([good, bad]), "cloud 1: 3 of 3 points have NaN"),
        (Clouds([good, Data(pos=torch.zeros(0, 3))]), "cloud 1: the cloud is empty"),
        (Clouds([good, Data(pos=torch.ones(4, 3))]), "Clouds, cloud 1: its 4 points all lie in one place"),
    ):
        with pytest.raises(CloudError, match=message):
            list(check(clouds))
    write_cloud(tmp_path / "a.ply", good)
    (tmp_path / "b.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:-1])
    with pytest.raises(CloudError, match=r"b\.ply: expected 3 points"):
        list(check(Folder(str(tmp_path))))


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0], [0], [0, 1, 1]])
def test_labels_that_do_not_fit(labels: list[int]):
    clouds = Clouds([Data(pos=torch.eye(3))] * 2)
    clouds.labels = torch.tensor(labels)
    with pytest.raises(CloudError, match="labels"):
        list(check(clouds))


def checked(dataset) -> tuple[list[tuple[str, str]], str]:
    """The rows up to the error, and the error."""
    rows: list[tuple[str, str]] = []
    with pytest.raises(CloudError) as caught:
        rows.extend(check(dataset))
    return rows, str(caught.value)


def test_all_that_is_broken_is_listed_with_its_file(tmp_path: Path):
    write_cloud(tmp_path / "a.ply", Data(pos=torch.eye(3)))
    for i in range(23):
        (tmp_path / f"b{i:02}.xyz").write_text("1 2 nan\n")
    rows, error = checked(Folder(str(tmp_path)))
    listed = [text for name, text in rows if name == "broken"]
    assert len(listed) == 21 and listed[-1] == "and 3 more"
    for i, text in enumerate(listed[:20]):
        assert text.startswith(f"{tmp_path / f'b{i:02}.xyz'}: 1 of 1 points have NaN")
    names = "; ".join(str(tmp_path / f"b0{i}.xyz") for i in range(3))
    assert error == f"23 broken clouds or files: {names} and 20 more; mend or remove them"
    assert dict(rows)["clouds"] == "24" and dict(rows)["points per cloud"].startswith("3 / 3 / 3")


def test_broken_clouds_of_hdf5_files_are_read_in_one_pass(tmp_path: Path, monkeypatch):
    many = np.random.default_rng(0).standard_normal((6, 5, 3))
    many[1], many[4, 2] = 7, np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = many
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"], file["normal"] = many, np.ones((6, 5, 2))
    (tmp_path / "c.h5").write_bytes(b"HDF")
    reads = []
    real = folder.read_hdf5_clouds
    monkeypatch.setattr(folder, "read_hdf5_clouds", lambda path: reads.append(path.name) or real(path))
    rows, error = checked(Folder(str(tmp_path)))
    listed = [text for name, text in rows if name == "broken"]
    assert reads == ["a.h5", "b.h5"]
    messages = (
        "a.h5, cloud 1: its 5 points all lie in one place",
        "a.h5, cloud 4: 1 of 5 points have NaN",
        "b.h5, cloud 0: expected normal of shape",
        "c.h5: expected an HDF5 file",
    )
    assert len(listed) == 4
    for text, message in zip(listed, messages, strict=True):
        assert text.startswith(f"{tmp_path}/{message}")
    assert error.startswith("4 broken clouds or files: ")
    assert error.endswith("b.h5, cloud 0 and 1 more; mend or remove them")


def test_a_folder_of_nothing_sound(tmp_path: Path):
    (tmp_path / "a.xyz").write_text("1 2 3\n")
    rows, error = checked(Folder(str(tmp_path)))
    assert error == f"{tmp_path / 'a.xyz'}: its 1 points all lie in one place" == dict(rows)["broken"]
    assert "diagonal" not in dict(rows)


def test_modelnet_names_the_file_of_a_cloud(tmp_path: Path):
    root = tmp_path / "modelnet"
    shutil.copytree(SAMPLES / "modelnet" / "sample_hdf5", root)
    with h5py.File(root / "ply_data_train1.h5", "r+") as file:
        values = file["data"][()]
        values[1] = 2
        file["data"][...] = values
    rows, error = checked(ModelNet(str(root)))
    assert error == f"{root / 'ply_data_train1.h5'}, cloud 1: its 128 points all lie in one place"
    assert dict(rows)["clouds"] == "6"


def test_generated_shapes_are_looked_at_in_part():
    rows = dict(check(Shapes(size=260, num_points=8)))
    assert rows["clouds"] == "260; only the first 256 were checked" and "up" not in rows
    assert dict(check(Shapes(size=3, num_points=8)))["clouds"] == "3"


def test_files_that_no_reader_takes_are_counted(tmp_path: Path):
    write_cloud(tmp_path / "a.ply", Data(pos=torch.eye(3)))
    (tmp_path / "b.asc").write_text("1 2 3\n4 5 6\n")
    for name in ("c.jpg", "d.jpg", "e.png", "notes", ".hidden.jpg"):
        (tmp_path / name).touch()
    rows = dict(check(Folder(str(tmp_path))))
    assert rows["clouds"] == "2" and rows["not read"] == "1 without suffix, 2 .jpg, 1 .png files"
    (tmp_path / "sub").mkdir()
    write_cloud(tmp_path / "sub" / "a.ply", Data(pos=torch.eye(3)))
    assert "not read" not in dict(check(Folder(str(tmp_path / "sub"))))


def test_nan_beside_the_coordinates_is_counted(tmp_path: Path):
    write_cloud(tmp_path / "a.npz", Data(pos=torch.eye(3), x=torch.full((3, 1), torch.nan), normal=torch.eye(3)))
    write_cloud(tmp_path / "b.npz", Data(pos=torch.eye(3), x=torch.ones(3, 1)))
    rows = dict(check(Folder(str(tmp_path))))
    assert rows["NaN in x"].startswith("1 clouds") and "NaN in normal" not in rows
