from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from geo3d import data as package
from geo3d.data import Folder, ModelNet
from geo3d.data.check import available, check
from geo3d.errors import CloudError
from geo3d.io import write_cloud
from geo3d.seeds import generator

SAMPLES = Path(__file__).parents[2] / "datasets"


def test_every_data_set_is_told_in_a_line():
    rows = available()
    assert [name for name, _ in rows] == package.__all__ and {"Folder", "ModelNet", "Shapes"} <= set(package.__all__)
    for name, line in rows:
        assert line.endswith(".") and len(line) > 20, name
        assert getattr(package, name).__doc__.startswith(line)


def test_a_sound_data_set():
    rows = dict(check(ModelNet(str(SAMPLES / "modelnet" / "sample_hdf5"))))
    assert rows["data set"] == "ModelNet" and rows["form"] == "hdf5" and rows["clouds"] == "6" and rows["up"] == "y"
    assert rows["points per cloud"] == "128 / 128 / 128 (min / median / max)"
    assert rows["labels"] == "0 to 2 for 3 classes" and rows["class cone"] == "2 clouds"
    assert rows["repeated points"] == "0.00%" and rows["not finite"] == "0"


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
    assert dict(check(Folder(str(tmp_path))))["up, by shape"].startswith(f"perhaps {up} ")


def test_what_looks_alike_from_all_sides_is_unclear(tmp_path: Path):
    write_cloud(tmp_path / "a.npz", Data(pos=torch.randn(5000, 3, generator=generator("ball"))))
    assert dict(check(Folder(str(tmp_path))))["up, by shape"].startswith("unclear")


class Clouds(list):
    """The least that a data set is."""

    classes: list[str] = ["a", "b"]
    labels: torch.Tensor | None = None


def test_it_stops_at_what_is_broken(tmp_path: Path):
    good, bad = Data(pos=torch.eye(3)), Data(pos=torch.full((3, 3), torch.nan))
    assert dict(check(Clouds([good])))["clouds"] == "1"
    for clouds, message in (
        (Clouds(), "no cloud"),
        (Clouds([good, bad]), "cloud 1: 3 of 3 points have NaN"),
        (Clouds([good, Data(pos=torch.zeros(0, 3))]), "cloud 1: the cloud is empty"),
        (Clouds([good, Data(pos=torch.ones(4, 3))]), "all points of cloud 1 lie in one place"),
    ):
        with pytest.raises(CloudError, match=message):
            check(clouds)
    write_cloud(tmp_path / "a.ply", good)
    (tmp_path / "b.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:-1])
    with pytest.raises(CloudError, match=r"b\.ply: expected 3 points"):
        check(Folder(str(tmp_path)))


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0], [0], [0, 1, 1]])
def test_labels_that_do_not_fit(labels: list[int]):
    clouds = Clouds([Data(pos=torch.eye(3))] * 2)
    clouds.labels = torch.tensor(labels)
    with pytest.raises(CloudError, match="labels"):
        check(clouds)
