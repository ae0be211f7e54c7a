from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geo3d.cloud import collate
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


@pytest.mark.parametrize("suffix", ["npz", "ply"])
def test_several_clouds_are_refused(suffix, tmp_path):
    cloud = Data(pos=torch.randn(5, 3, generator=generator("several")), frame=torch.eye(4, dtype=torch.float64))
    for batch in (collate([cloud, cloud]), collate([Data(pos=cloud.pos)] * 2)):
        with pytest.raises(CloudError, match="expected one cloud, found a batch of 2"):
            write_cloud(tmp_path / f"a.{suffix}", batch)
    assert not list(tmp_path.iterdir())


def test_joints_and_frames_of_any_precision_come_back(tmp_path):
    draw = generator("joints")
    pos, joints = torch.randn(9, 3, generator=draw), torch.randn(21, 3, generator=draw)
    frame = torch.eye(4)
    frame[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    for cloud in (Data(pos=pos, joints=joints, frame=frame), collate([Data(pos=pos, joints=joints, frame=frame)])):
        write_cloud(tmp_path / "a.npz", cloud)
        back = read_cloud(tmp_path / "a.npz")
        assert torch.equal(back.joints, joints) and torch.equal(back.frame, frame.double())


def test_joints_far_away_are_moved_with_the_points(tmp_path):
    pos = torch.randn(9, 3, generator=generator("far"), dtype=torch.float64).numpy() + 5e6
    np.savez(tmp_path / "a.npz", pos=pos, joints=pos[:4])
    back = read_cloud(tmp_path / "a.npz")
    assert torch.equal(back.joints, back.pos[:4]) and back.pos.abs().max() < 100
    np.savez(tmp_path / "b.npz", pos=pos, joints=pos[:4, :2])
    with pytest.raises(CloudError, match=r"b.npz: expected joints of shape \(J, 3\), found \(4, 2\)"):
        read_cloud(tmp_path / "b.npz")


def test_two_arrays_of_labels_are_not_mixed_up(tmp_path):
    np.savez(tmp_path / "a.npz", pos=np.zeros((4, 3)) + np.arange(4)[:, None], label=np.arange(4), segment=np.ones(4))
    back = read_cloud(tmp_path / "a.npz")
    assert back.point_y.tolist() == [0, 1, 2, 3] and "y" not in back
