from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from geo3d.errors import CloudError, Geo3dError
from geo3d.io import read_cloud, write_cloud
from geo3d.seeds import generator


def cloud() -> Data:
    draws = generator("written")
    pos, normal = torch.randn(2, 30, 3, generator=draws)
    rgb = torch.randint(256, (30, 3), generator=draws) / 255
    return Data(pos=pos, normal=normal, rgb=rgb, x=torch.randn(30, 4, generator=draws), point_y=torch.arange(30) - 1)


@pytest.mark.parametrize("suffix", [".ply", ".npz", ".PLY"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str):
    data = cloud()
    write_cloud(tmp_path / "deep" / f"a{suffix}", data)
    again = read_cloud(tmp_path / "deep" / f"a{suffix}")
    assert set(again.keys()) == set(data.keys())
    for key in ("pos", "normal", "rgb", "x", "point_y"):
        assert again[key].equal(data[key]) and again[key].dtype == data[key].dtype, key
    assert [file.name for file in (tmp_path / "deep").iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".ply", ".npz"])
def test_coordinates_are_enough(tmp_path: Path, suffix: str):
    write_cloud(str(tmp_path / f"a{suffix}"), Data(pos=torch.eye(3, requires_grad=True)))
    again = read_cloud(tmp_path / f"a{suffix}")
    assert again.pos.equal(torch.eye(3)) and set(again.keys()) == {"pos"}


def test_what_cannot_be_written(tmp_path: Path):
    with pytest.raises(CloudError, match="as .ply or .npz, not as '.pcd'"):
        write_cloud(tmp_path / "a.pcd", cloud())
    for pos, message in ((torch.zeros(0, 3), "empty"), (torch.full((2, 3), torch.nan), "2 of 2 points")):
        with pytest.raises(CloudError, match=message):
            write_cloud(tmp_path / "a.ply", Data(pos=pos))
    (tmp_path / "b.ply").mkdir()
    with pytest.raises(Geo3dError, match="found a folder"):
        write_cloud(tmp_path / "b.ply", cloud())
    assert [file.name for file in tmp_path.iterdir()] == ["b.ply"]
