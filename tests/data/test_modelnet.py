import json
import logging
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from geo3d.data import ModelNet
from geo3d.errors import CloudError, ConfigError
from geo3d.io import read_mesh

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "data" / "modelnet10_voxel"
FORMS = {"hdf5": "sample_hdf5", "off": "sample_off", "resampled": "sample_resampled"}


@pytest.fixture
def sample(tmp_path: Path):
    """A function that copies one of the samples to where it can be broken."""

    def copy(form: str) -> Path:
        shutil.copytree(REPOSITORY / "datasets" / "modelnet" / FORMS[form], tmp_path / form)
        shutil.rmtree(tmp_path / form / ".geo3d_cache", ignore_errors=True)
        return tmp_path / form

    return copy


@pytest.mark.parametrize("form", FORMS)
def test_each_form(sample, form: str):
    root = sample(form)
    up = "z" if form == "off" else "y"
    size = {"hdf5": 128, "off": 2048, "resampled": 64}[form]
    for split, number in (("train", 6), ("test", 3)):
        data = ModelNet(str(root), split, up=up)
        assert data.form == form and len(data) == number and data.classes == ["ball", "box", "cone"]
        assert data.pos.shape == (number, size, 3) and data.pos.dtype == torch.float32
        assert torch.bincount(data.labels).tolist() == [number // 3] * 3 and data.labels.dtype == torch.int64
        for i, cloud in enumerate(data):
            assert cloud.pos.equal(data.pos[i]) and cloud.y.equal(data.labels[i : i + 1])
            torch.testing.assert_close(cloud.normal.norm(dim=1), torch.ones(size), atol=1e-3, rtol=0)
    assert i == number - 1 and data[-1].pos.equal(data[number - 1].pos)


@pytest.mark.parametrize("form", FORMS)
def test_up_is_z(sample, form: str):
    # cones stand on their base, whose normals point down, and have the wide end below
    data = ModelNet(str(sample(form)), "train", up="z" if form == "off" else "y")
    cones = [cloud for cloud in data if int(cloud.y) == 2]
    assert len(cones) == 2
    for cone in cones:
        base = cone.normal[:, 2] < -0.99
        assert 0.1 < base.float().mean() < 0.6
        torch.testing.assert_close(cone.pos[base, 2], cone.pos[:, 2].min().expand(int(base.sum())))


@pytest.mark.parametrize("form", FORMS)
def test_num_points_takes_the_first(sample, form: str):
    root = str(sample(form))
    assert ModelNet(root, num_points=50).pos.equal(ModelNet(root).pos[:, :50])
    assert ModelNet(root, num_points=50, cache=False).pos.equal(ModelNet(root).pos[:, :50])
    with pytest.raises(CloudError, match="points; num_points=5000 is too many"):
        _ = ModelNet(root, num_points=5000).pos
    with pytest.raises(CloudError, match="points; num_points=5000 is too many"):
        _ = ModelNet(root, num_points=5000, cache=False).pos


def test_meshes_are_sampled_on_their_surface_by_name(sample):
    root = sample("off")
    data = ModelNet(str(root), "test", up="z", cache=False)
    vertices, _ = read_mesh(root / "box" / "test" / "box_0003.off")
    box = data[1]
    assert int(box.y) == 1
    torch.testing.assert_close(box.pos.abs().amax(0), vertices.amax(0), atol=0.01, rtol=0.01)
    assert (box.pos.abs() - vertices.amax(0)).abs().amin(1).max() < 1e-5
    shutil.rmtree(root / "ball")
    assert ModelNet(str(root), "test", up="z", cache=False).pos[0].equal(box.pos)


@pytest.mark.parametrize("form", ["off", "resampled"])
def test_the_cache_is_used_and_never_for_other_files(sample, form: str):
    root = sample(form)
    first = ModelNet(str(root)).pos
    (stored,) = (root / ".geo3d_cache").iterdir()
    with h5py.File(stored, "r+") as file:
        file["data"][0, 0] = 7
    assert ModelNet(str(root), up="z").pos[0, 0].tolist() == [7, 7, 7]
    changed = root / ("ball/train/ball_0001.off" if form == "off" else "ball/ball_0001.txt")
    changed.write_text(changed.read_text() + "\n")
    assert ModelNet(str(root)).pos.equal(first)
    assert len(list((root / ".geo3d_cache").iterdir())) == 2


@pytest.mark.parametrize("form", ["off", "resampled"])
def test_without_a_cache_nothing_is_written(sample, form: str):
    root = sample(form)
    assert ModelNet(str(root), cache=False).pos.equal(ModelNet(str(root)).pos)
    shutil.rmtree(root / ".geo3d_cache")
    _ = ModelNet(str(root), cache=False).pos
    assert not (root / ".geo3d_cache").exists()


def test_a_folder_that_cannot_be_written_is_said_once(sample, monkeypatch, caplog):
    root = sample("off")
    # the super-user may write anywhere, so the question itself is answered with no
    monkeypatch.setattr("os.access", lambda path, mode: mode != 2)
    data = ModelNet(str(root))
    with caplog.at_level(logging.WARNING):
        assert data.pos.shape == (6, 2048, 3) and data.pos is data.pos
    assert len(caplog.records) == 1 and "kept in memory only" in caplog.text
    assert not (root / ".geo3d_cache").exists()


def test_reading_waits_until_it_is_needed_and_survives_pickling(sample):
    root = sample("hdf5")
    data = ModelNet(str(root))
    assert len(pickle.dumps(data)) < 5000
    again = pickle.loads(pickle.dumps(data))
    assert again[3].pos.equal(data[3].pos)
    assert pickle.loads(pickle.dumps(data)).pos.equal(data.pos)


def test_several_files_keep_their_order(sample):
    root = sample("hdf5")
    data = ModelNet(str(root), up="z")
    at = 0
    for name in ("ply_data_train0.h5", "ply_data_train1.h5"):
        with h5py.File(root / name) as file:
            number = len(file["data"])
            assert np.array_equal(data.pos[at : at + number].numpy(), file["data"][()])
            assert np.array_equal(data.labels[at : at + number].numpy(), file["label"][()].ravel())
        at += number
    with h5py.File(root / "ply_data_train1.h5", "r+") as file:
        flat = file["label"][()].ravel()
        del file["label"], file["normal"]
        file["label"] = flat
    without = ModelNet(str(root), up="z")
    assert without.normal is None and "normal" not in without[0] and without.labels.equal(data.labels)


def test_ten_or_forty_classes(sample):
    root = str(sample("resampled"))
    assert len(ModelNet(root)) == 6 and ModelNet(root, num_classes=40).classes == ["ball", "box", "cone"]
    ten = ModelNet(root, num_classes=10)
    assert ten.classes == ["ball", "box"] and ten.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("form", FORMS)
def test_the_manifest_says_what_was_read(sample, form: str):
    data = ModelNet(str(sample(form)), num_points=32)
    manifest = json.loads(json.dumps(data.manifest()))
    assert manifest["form"] == form and manifest["split"] == "train" and manifest["up"] == "y"
    assert manifest["num_clouds"] == 6 and manifest["num_points"] == 32 and manifest["folder"] == form
    assert manifest["classes"] == {"ball": 2, "box": 2, "cone": 2}
    assert manifest["num_files"] == len(data.files) == len(manifest["files"]) and len(manifest["sha256"]) == 64
    assert manifest["sha256"] != ModelNet(data.root, "test").manifest()["sha256"]


def rewrite(file: Path, **changes: np.ndarray | None) -> None:
    with h5py.File(file, "r+") as stored:
        for key, values in changes.items():
            del stored[key]
            if values is not None:
                stored[key] = values


def clouds(n: int = 3, points: int = 128) -> np.ndarray:
    return np.ones((n, points, 3), "f4")


BROKEN = {
    "no folder": (lambda r: shutil.rmtree(r), "no such folder"),
    "nothing": (lambda r: [f.unlink() for f in r.iterdir()], "found nothing"),
    "no names": (lambda r: (r / "shape_names.txt").unlink(), "shape_names.txt: missing"),
    "no list": (lambda r: (r / "test_files.txt").unlink(), "test_files.txt: missing"),
    "empty list": (lambda r: (r / "test_files.txt").write_text("\n"), "test_files.txt: the file has no entry"),
    "no data file": (lambda r: (r / "ply_data_test0.h5").unlink(), "ply_data_test0.h5: missing"),
    "no keys": (lambda r: rewrite(r / "ply_data_test0.h5", label=None), "expected the keys data and label"),
    "labels": (
        lambda r: rewrite(r / "ply_data_test0.h5", label=np.array([0, 1, 3])),
        "test0.h5: label 3 is out of range",
    ),
    "negative": (lambda r: rewrite(r / "ply_data_test0.h5", label=np.array([0, -1, 2])), "test0.h5: label -1 is out"),
    "few labels": (lambda r: rewrite(r / "ply_data_test0.h5", label=np.array([0, 1])), "test0.h5: expected 3 labels"),
    "fractions": (lambda r: rewrite(r / "ply_data_test0.h5", label=np.zeros(3)), "test0.h5: expected 3 labels"),
    "shape": (lambda r: rewrite(r / "ply_data_test0.h5", data=np.ones((3, 9))), r"test0.h5: expected data of shape"),
    "normals": (lambda r: rewrite(r / "ply_data_test0.h5", normal=clouds(2)), "test0.h5: normal has the shape"),
    "nan": (
        lambda r: rewrite(r / "ply_data_test0.h5", data=clouds() * np.array([1, np.nan, 1])[:, None, None]),
        "test0.h5, cloud 1: 128 of 128 points have NaN",
    ),
    "far": (
        lambda r: rewrite(r / "ply_data_test0.h5", data=clouds() * 5e6 + np.arange(3)[:, None, None] * np.eye(128, 3)),
        "test0.h5, cloud 1: the coordinates reach 5000001 over an extent of 1,",
    ),
    "no clouds": (
        lambda r: rewrite(r / "ply_data_test0.h5", data=clouds(0), normal=clouds(0), label=np.zeros(0, int)),
        "test0.h5: no clouds",
    ),
    "cut off": (
        lambda r: (r / "ply_data_test0.h5").write_bytes((r / "ply_data_test0.h5").read_bytes()[:5000]),
        "test0.h5: expected an HDF5 file",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_hdf5(sample, what: str):
    root = sample("hdf5")
    destroy, message = BROKEN[what]
    destroy(root)
    with pytest.raises(CloudError, match=message) as caught:
        data = ModelNet(str(root), "test")
        _ = len(data), data.pos
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(CloudError, match="file: expected a folder, found a file; expected either train_files"):
        ModelNet(str(tmp_path / "file"))


@pytest.mark.parametrize("form", FORMS)
def test_sources(sample, form: str):
    root = sample(form)
    data = ModelNet(str(root))
    last = {"hdf5": "ply_data_train1.h5, cloud 1", "off": "cone/train/cone_0002.off"}.get(form, "cone/cone_0002.txt")
    assert data.source(5) == f"{root}/{last}"


def test_files_of_different_sizes(sample):
    root = sample("hdf5")
    rewrite(root / "ply_data_train1.h5", data=clouds(2, 100), normal=clouds(2, 100))
    with pytest.raises(CloudError, match=r"one size in all files, found \[100, 128\]"):
        _ = ModelNet(str(root)).pos
    assert ModelNet(str(root), num_points=100).pos.shape == (6, 100, 3)


def test_broken_trees(sample):
    root = sample("off")
    (root / "cone" / "train" / "cone_0001.off").write_text("OFF\n9 9 0\n0 0 0\n")
    for cache in (True, False):
        with pytest.raises(CloudError, match=r"cone_0001\.off: expected 9 points, file ends after 1"):
            _ = ModelNet(str(root), cache=cache).pos
    assert list((root / ".geo3d_cache").iterdir()) == []
    (root / "cone" / "train" / "cone_0001.off").write_text("OFF\n1 0 0\n0 0 0\n")
    with pytest.raises(CloudError, match=r"cone_0001\.off: expected a mesh with faces"):
        _ = ModelNet(str(root)).pos
    shutil.rmtree(root / "cone" / "test")
    with pytest.raises(CloudError, match="no .off file in cone/test"):
        ModelNet(str(root), "test")


def test_broken_text(sample):
    root = sample("resampled")
    file = root / "box" / "box_0002.txt"
    rows = file.read_text().splitlines()
    file.write_text("\n".join(rows[:40]))
    with pytest.raises(CloudError, match=r"box_0002\.txt: expected 64 points.*found 40"):
        _ = ModelNet(str(root)).pos
    file.write_text("\n".join(row.rsplit(",", 3)[0] for row in rows))
    with pytest.raises(CloudError, match=r"box_0002\.txt: expected rows x,y,z,nx,ny,nz"):
        _ = ModelNet(str(root)).pos
    file.unlink()
    with pytest.raises(CloudError, match=r"box_0002\.txt: missing, as are 0 other files"):
        ModelNet(str(root))
    (root / "modelnet40_train.txt").write_text("chair_0001\n")
    message = "modelnet40_train.txt: the class of chair_0001 is not in modelnet40_shape_names.txt"
    with pytest.raises(CloudError, match=message):
        ModelNet(str(root))


def test_options_that_do_not_exist(tmp_path: Path):
    for options, message in (
        ({"split": "val"}, "'val'"),
        ({"up": "x"}, "'x'"),
        ({"num_points": 0}, "num_points: 0 is"),
    ):
        with pytest.raises(ConfigError, match=message):
            ModelNet(str(tmp_path), **options)
    (tmp_path / "readme.md").touch()
    with pytest.raises(CloudError, match="no ModelNet found; expected either train_files.txt.* found readme.md"):
        ModelNet(str(tmp_path))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real ModelNet10 clouds are not beside the repository")
def test_real_clouds():
    data = ModelNet(str(REAL), "test", up="z", num_points=256)
    assert len(data) == 794 and len(data.classes) == 10 and data.pos.shape == (794, 256, 3)
    assert data[0].pos.norm(dim=1).max() <= 1.001
