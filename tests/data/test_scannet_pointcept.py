"""ScanNet in Pointcept's layout, and each way in which an array can be wrong."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scannet_files import write_data_set, write_pointcept

from geo3d.data import ScanNet
from geo3d.data.check import check
from geo3d.errors import CloudError, ConfigError

SAMPLE = Path(__file__).parents[2] / "datasets" / "scannet" / "sample_pointcept"


@pytest.fixture
def root(tmp_path):
    return write_pointcept(tmp_path / "pointcept")


def test_the_arrays_give_the_same_clouds_as_the_downloaded_files(root, tmp_path):
    names = ("scene0000_00", "scene0001_00")
    downloaded = write_data_set(tmp_path / "downloaded", names)
    for label_set in ("scannet20", "scannet200"):
        ours = ScanNet(str(root), label_set=label_set)
        theirs = ScanNet(str(downloaded), label_set=label_set)
        assert len(ours) == len(theirs) == 2
        for i in range(2):
            for key in ("pos", "rgb", "point_y", "instance"):
                torch.testing.assert_close(ours[i][key], theirs[i][key], msg=f"{key} {label_set}")
    assert ours[0].normal.tolist()[3] == [0, 0, 1] and ours.source(1).endswith("train/scene0001_00")
    assert ScanNet(str(root), "test").source(0).endswith("val/scene0002_00")


@pytest.mark.parametrize("name", ["normal", "instance"])
def test_normals_and_instances_may_be_missing_and_are_then_left_out(name, root):
    (root / "train" / "scene0000_00" / f"{name}.npy").unlink()
    assert name not in ScanNet(str(root))[0] and name in ScanNet(str(root))[1]


def test_instances_of_another_number_of_points_are_refused(root):
    np.save(root / "train" / "scene0000_00" / "instance.npy", np.zeros(3, np.int64))
    with pytest.raises(CloudError, match=r"instance.npy: expected integers of shape \(175,\), found int64 \(3,\)"):
        ScanNet(str(root))[0]


WRONG = {
    "coord": [
        (np.zeros((175, 4), np.float32), r"coord.npy: expected floats of shape \(N, 3\), found float32 \(175, 4\)"),
        (np.zeros((175, 3), np.int64), r"expected floats of shape \(N, 3\), found int64 \(175, 3\)"),
        (np.full((175, 3), np.nan, np.float32), "coord.npy: 175 of 175 points have NaN or infinite coordinates"),
        (np.zeros((0, 3), np.float32), "the cloud is empty"),
    ],
    "color": [
        (np.zeros((174, 3), np.uint8), r"color.npy: expected uint8 of shape \(175, 3\), found uint8 \(174, 3\)"),
        (np.zeros((175, 3), np.float32), r"expected uint8 of shape \(175, 3\), found float32"),
        (np.zeros((175, 3), np.uint16), r"expected uint8 of shape \(175, 3\), found uint16"),
    ],
    "normal": [
        (np.zeros((175, 2), np.float32), r"normal.npy: expected floats of shape \(175, 3\), found float32 \(175, 2\)"),
        (np.full((175, 3), np.nan, np.float32), "normal.npy: some normals are NaN or infinite"),
    ],
    "segment20": [
        (np.zeros(100, np.int64), r"segment20.npy: expected integers of shape \(175,\), found int64 \(100,\)"),
        (np.zeros(175, np.float32), r"expected integers of shape \(175,\), found float32"),
        (np.full(175, 20), "segment20.npy: expected numbers from -1 to 19, found 20 to 20"),
        (np.full(175, -2), "expected numbers from -1 to 19, found -2 to -2"),
    ],
}


@pytest.mark.parametrize(("name", "array", "message"), [(name, *each) for name, all_ in WRONG.items() for each in all_])
def test_arrays_of_another_kind_are_refused(root, name, array, message):
    np.save(root / "train" / "scene0000_00" / f"{name}.npy", array)
    with pytest.raises(CloudError, match=message):
        ScanNet(str(root))[0]


def test_damaged_and_missing_arrays_are_named(root):
    folder, scenes = root / "train" / "scene0000_00", ScanNet(str(root))
    path = folder / "segment20.npy"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CloudError, match=r"segment20.npy: the array declares 1400 bytes \(175,\), and 372 are stored"):
        scenes[0]
    np.save(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(CloudError, match="segment20.npy: expected an array of numbers, found Python objects"):
        scenes[0]
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(CloudError, match="segment20.npy: expected a NumPy array of numbers; the file is damaged"):
        scenes[0]
    path.unlink()
    with pytest.raises(CloudError, match="segment20.npy: no such file"):
        scenes[0]
    (folder / "coord.npy").unlink()
    with pytest.raises(
        CloudError, match=r"train: expected a folder with coord.npy for each scene; scene0000_00 has none"
    ):
        ScanNet(str(root))


def test_what_does_not_fit_the_layout_is_refused(root):
    for keywords, option in (({"align": True}, "align=true"), ({"label_source": "ply"}, "label_source=ply")):
        with pytest.raises(ConfigError, match=f"{option} needs the downloaded scenes; .* is in Pointcept's layout"):
            ScanNet(str(root), **keywords)
    (root / "scans").mkdir()
    with pytest.raises(CloudError, match=r"expected scans/ or Pointcept's train/ and val/, found both; move one away"):
        ScanNet(str(root))


def test_a_missing_split_is_named(tmp_path):
    write_pointcept(tmp_path, val=())
    with pytest.raises(CloudError, match=r"val: no such folder; expected train/SCENE and val/SCENE with coord.npy"):
        ScanNet(str(tmp_path), "test")


def test_the_sample_is_sound():
    for split, count in (("train", 2), ("test", 1)):
        assert dict(check(ScanNet(str(SAMPLE), split)))["clouds"] == str(count)
