"""Limited reconstructions and annotations: lists of scenes, and of vertices whose labels are kept."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scannet_files import write_data_set, write_pointcept

from geo3d.data import ScanNet
from geo3d.data.scannet.limits import CONVERT, kept_points
from geo3d.errors import CloudError

LISTS = Path(__file__).parents[2] / "datasets" / "scannet" / "sample_lists"
POINTS = {"scene0000_00": [0, 30, 80], "scene0001_00": [174]}


@pytest.fixture
def root(tmp_path):
    return str(write_data_set(tmp_path / "scannet"))


def written(tmp_path, content, name="list.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(path)


@pytest.mark.parametrize("form", ["txt", "json"])
def test_only_the_listed_scenes_are_kept_in_training(root, tmp_path, form):
    names = ["scene0001_00", "scene0000_00"]
    path = written(tmp_path, names if form == "json" else "\n".join(names).encode(), f"few.{form}")
    scenes = ScanNet(root, scenes=path)
    assert [Path(scenes.source(i)).name for i in range(len(scenes))] == ["scene0000_00", "scene0001_00"]
    assert scenes.manifest()["sha256"] != ScanNet(root).manifest()["sha256"]
    assert len(ScanNet(root, "test", scenes=path)) == 1


@pytest.mark.parametrize("form", ["json", "npz"])
def test_only_the_listed_labels_are_kept_in_training(root, tmp_path, form):
    if form == "npz":
        np.savez(tmp_path / "few.npz", **{name: np.array(rows, np.int32) for name, rows in POINTS.items()})
    path = str(tmp_path / "few.npz") if form == "npz" else written(tmp_path, POINTS)
    scenes, whole = ScanNet(root, points=path), ScanNet(root)
    labels = scenes[0].point_y
    assert labels[[0, 30, 80]].equal(whole[0].point_y[[0, 30, 80]]) and int((labels >= 0).sum()) == 3
    assert bool((scenes[1].point_y == -1).all())  # a scene that is not in the list
    assert torch.equal(scenes[0].pos, whole[0].pos)
    assert ScanNet(root, "test", points=path)[0].point_y.equal(ScanNet(root, "test")[0].point_y)
    assert scenes.manifest()["points"] and "points" not in whole.manifest()


def test_both_lists_work_with_the_folders_of_pointcept(tmp_path):
    root = str(write_pointcept(tmp_path / "pointcept"))
    scenes = ScanNet(root, scenes=written(tmp_path, ["scene0001_00"], "a.json"), points=written(tmp_path, POINTS))
    assert len(scenes) == 1 and bool((scenes[0].point_y == -1).all())  # vertex 174 has no label
    scenes = ScanNet(root, points=written(tmp_path, {"scene0001_00": [0]}))
    assert scenes[1].point_y[0] == 1 and int((scenes[1].point_y >= 0).sum()) == 1


def test_unknown_scenes_are_refused(root, tmp_path):
    with pytest.raises(CloudError, match="few.txt: 1 of its 2 scenes are no training scenes, scene0002_00 first"):
        ScanNet(root, scenes=written(tmp_path, b"scene0000_00\nscene0002_00\n", "few.txt"))
    with pytest.raises(CloudError, match="list.json: 1 of its 1 scenes are no training scenes, scene9 first"):
        ScanNet(root, points=written(tmp_path, {"scene9": [1]}))


def test_indices_outside_of_the_mesh_are_refused(root, tmp_path):
    scenes = ScanNet(root, points=written(tmp_path, {"scene0000_00": [0, 175]}))
    with pytest.raises(CloudError, match=r"list.json: lists vertex 175 of scene0000_00, which has 175 \(from 0 on\)"):
        scenes[0]


@pytest.mark.parametrize("rows", [[-1], [1.5], [True], ["1"], 3, [2**60], None])
def test_indices_that_are_none_are_refused(tmp_path, rows):
    with pytest.raises(CloudError, match="list.json: a: expected a list of integers from 0 on, the indices of vert"):
        kept_points(written(tmp_path, {"a": rows}), {"a"})


@pytest.mark.parametrize("array", [np.array([-1]), np.array([1.0]), np.array([[1]]), np.array([2**63], np.uint64)])
def test_arrays_that_hold_no_indices_are_refused(tmp_path, array):
    np.savez(tmp_path / "few.npz", a=array)
    with pytest.raises(CloudError, match="few.npz: a: expected a list of integers from 0 on"):
        kept_points(tmp_path / "few.npz", {"a"})


def test_pickled_files_are_refused_and_the_message_says_how_to_convert_them(root, tmp_path):
    torch.save({"scene0000_00": torch.tensor([1])}, tmp_path / "points.pth")
    (tmp_path / "points.json").write_bytes((tmp_path / "points.pth").read_bytes())
    (tmp_path / "old.npz").write_bytes(pickle.dumps({"scene0000_00": [1]}))
    (tmp_path / "names.txt").write_bytes(pickle.dumps(["scene0000_00"]))
    for name in ("points.pth", "points.json", "old.npz"):
        with pytest.raises(
            CloudError, match=rf"{name}: a pickled file is not read; convert it to JSON, .*torch.load\(FIL"
        ):
            ScanNet(root, points=str(tmp_path / name))
    with pytest.raises(CloudError, match="names.txt: a pickled file is not read"):
        ScanNet(root, scenes=str(tmp_path / "names.txt"))


def test_the_conversion_in_the_message_works(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"scene0000_00": torch.tensor([1, 5])}, "points.pth")
    exec(CONVERT, {"json": json, "torch": torch, "FILE": "points.pth"})
    assert kept_points("points.json", {"scene0000_00"})["scene0000_00"].tolist() == [1, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": [1', "expected JSON; damaged or cut off"),
        (b"[1, 2]", "expected scenes with the indices of vertices, as JSON or NPZ"),
        (b"{}", "expected scenes with the indices of vertices"),
        (b'{"a": [1], "a": [2]}', "expected every scene once, found 2 entries of 1 names"),
        (b"", "the file is empty"),
    ],
)
def test_damaged_lists_of_points_are_refused(tmp_path, content, message):
    with pytest.raises(CloudError, match=f"list.json: {message}"):
        kept_points(written(tmp_path, content), {"a"})


@pytest.mark.parametrize("content", [b"a a", b"../a", b"  \n", b".hidden"])
def test_lists_of_scenes_that_are_none_are_refused(root, tmp_path, content):
    with pytest.raises(CloudError, match="few.txt: expected the name of a scene in each line, each once"):
        ScanNet(root, scenes=written(tmp_path, content, "few.txt"))


def test_the_samples_fit_the_sample():
    root = str(LISTS.parent / "sample")
    scenes = ScanNet(root, scenes=LISTS / "scenes.txt", points=LISTS / "points.json")
    assert len(scenes) == 2 and [int((scenes[i].point_y >= 0).sum()) for i in range(2)] == [3, 2]
