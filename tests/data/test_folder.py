import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geo3d.cloud import collate
from geo3d.data import Folder
from geo3d.data.targets import Classes, target_named
from geo3d.data.tree import files_below
from geo3d.errors import CloudError, ConfigError
from geo3d.io import read_cloud, write_cloud
from geo3d.seeds import generator

SAMPLE = Path(__file__).parents[2] / "datasets" / "folder" / "sample"


def cloud(num_points: int, key: str) -> Data:
    return Data(pos=torch.randn(num_points, 3, generator=generator("folder test", key)))


def test_the_sample():
    data = Folder(str(SAMPLE))
    assert [file.name for file in data.files] == ["ball.ply", "box.pcd", "cone.npz"]
    assert len(data) == 3 and data.labels is None and data.classes == []
    for item, file in zip(data, data.files, strict=True):
        assert item.pos.equal(read_cloud(file).pos) and "y" not in item
    batch = collate(list(data))
    assert batch.ptr.tolist() == [0, 200, 320, 470] and "normal" not in batch


def test_y_up_files_are_turned():
    turned, straight = Folder(str(SAMPLE), up="y")[0], Folder(str(SAMPLE))[0]
    for key in ("pos", "normal"):
        x, y, z = straight[key].unbind(1)
        assert turned[key].equal(torch.stack([x, -z, y], 1))
    assert turned.rgb.equal(straight.rgb)


def test_classes_are_the_subfolders_if_all_files_lie_in_one(tmp_path: Path):
    for name in ("table/b.ply", "chair/a.npz", "table/a.ply"):
        write_cloud(tmp_path / name, cloud(9, name))
    data = Folder(str(tmp_path))
    assert data.classes == ["chair", "table"] and data.labels.tolist() == [0, 1, 1]
    assert [int(item.y) for item in data] == [0, 1, 1] and data[0].y.shape == (1,)
    assert data.manifest()["classes"] == {"chair": 1, "table": 2}
    shutil.copy(tmp_path / "chair" / "a.npz", tmp_path / "loose.npz")
    with pytest.warns(UserWarning, match=r"loose\.npz \(1 in all\) left out"):
        assert Folder(str(tmp_path)).labels.tolist() == [0, 1, 1]
    (tmp_path / "loose.npz").unlink()
    shutil.rmtree(tmp_path / "table")
    assert Folder(str(tmp_path)).labels is None and Folder(str(tmp_path)).classes == []


def test_labels_in_files_do_not_mix_with_those_of_folders(tmp_path: Path):
    write_cloud(tmp_path / "a.npz", Data(pos=torch.eye(3), y=torch.tensor([7]), point_y=torch.arange(3)))
    item = Folder(str(tmp_path))[0]
    assert "y" not in item and item.point_y.tolist() == [0, 1, 2]


def test_splits(tmp_path: Path):
    write_cloud(tmp_path / "train" / "a.ply", cloud(5, "a"))
    assert len(Folder(str(tmp_path))) == 1
    with pytest.raises(CloudError, match="no split 'test'; put the files into subfolders train and test"):
        Folder(str(tmp_path), "test")
    for name in ("one/b.ply", "two/c.ply"):
        write_cloud(tmp_path / "test" / name, cloud(6, name))
    assert len(Folder(str(tmp_path), "train")) == 1 and Folder(str(tmp_path), "train").labels is None
    with pytest.raises(CloudError, match="one, two have no folder"):  # their numbers would mean nothing
        Folder(str(tmp_path), "test")
    with pytest.raises(ConfigError, match="'val'"):
        Folder(str(tmp_path), "val")


def test_an_hdf5_file_of_many(tmp_path: Path):
    many = np.random.default_rng(0).standard_normal((5, 20, 3)).astype("f4")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"], file["label"] = many, np.arange(5)
        file["normal"] = many / np.linalg.norm(many, axis=2, keepdims=True)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["pos"] = many[0, :7]
    write_cloud(tmp_path / "a.ply", cloud(4, "a"))
    data = Folder(str(tmp_path))
    assert len(data) == 7 and len(data[0].pos) == 4 and len(data[6].pos) == 7 and "y" not in data[1]
    for i in (4, 1, 5, 2, 3, 4):
        assert np.array_equal(data[i].pos.numpy(), many[i - 1])
        torch.testing.assert_close(data[i].normal.norm(dim=1), torch.ones(20))
    assert sorted(data.read_with(2)) == [1, 2, 3, 4, 5] and sorted(data.read_with(0)) == [0]
    small = Folder(str(tmp_path))
    small.memory = 100  # less than the file: clouds are read one by one
    for i in range(7):
        assert small[i].pos.equal(data[i].pos) and list(small.read_with(i)) == [i]


def test_num_points_caps_by_name(tmp_path: Path):
    for name in ("a.ply", "b.ply", "small.ply"):
        write_cloud(tmp_path / name, cloud(5 if name == "small.ply" else 200, "same"))
    first, second, small = (item.pos for item in Folder(str(tmp_path), num_points=50))
    whole = Folder(str(tmp_path))[0].pos
    assert len(first) == 50 and len(small) == 5 and not first.equal(second)
    assert all((whole == point).all(1).any() for point in first) and len(first.unique(dim=0)) == 50
    again = Folder(str(tmp_path), num_points=50, pattern="b*")
    assert len(again) == 1 and again[0].pos.equal(second)


def test_meshes_are_sampled(tmp_path: Path):
    for name in ("a.off", "b.off"):
        (tmp_path / name).write_text("OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")
    whole = Folder(str(tmp_path))
    assert whole[0].pos.shape == (4096, 3) and whole[0].normal.unique(dim=0).tolist() == [[0, 0, 1]]
    assert not whole[0].pos.equal(whole[1].pos)
    assert Folder(str(tmp_path), num_points=64)[0].pos.shape == (64, 3)
    assert Folder(str(tmp_path))[1].pos.equal(whole[1].pos)


def test_broken_files_are_named_when_they_are_read(tmp_path: Path):
    write_cloud(tmp_path / "a.ply", cloud(5, "a"))
    content = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(content[:-3])
    (tmp_path / "c.txt").write_text("see a.ply\n")
    data = Folder(str(tmp_path))
    assert len(data) == 3 and len(data[0].pos) == 5
    with pytest.raises(CloudError, match=r"b\.ply: expected 5 points, file ends after 4"):
        data[1]
    with pytest.raises(CloudError, match=r"c\.txt: expected"):
        data[2]
    (tmp_path / "d.h5").write_bytes(b"HDF")
    with pytest.raises(CloudError, match=r"d\.h5: expected an HDF5 file"):
        Folder(str(tmp_path))[3]
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["data"] = np.where(np.arange(24).reshape(2, 4, 3) == 20, np.nan, 1)
    with pytest.raises(CloudError, match=r"d\.h5, cloud 1: 1 of 4 points have NaN"):
        Folder(str(tmp_path))[4]
    assert Folder(str(tmp_path))[3].pos.tolist() == [[1, 1, 1]] * 4  # the sound clouds of the file can be used


def test_nothing_to_read(tmp_path: Path):
    with pytest.raises(CloudError, match="no such folder"):
        Folder(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(CloudError, match="file: expected a folder, found a file"):
        Folder(str(tmp_path / "file"))
    (tmp_path / "file").unlink()
    for name in ("a.jpg", "b.jpg", "c.e57", ".hidden.ply"):
        (tmp_path / name).touch()
    with pytest.raises(CloudError, match="looked for .ply .pcd .*; found 3 files .e57 .jpg"):
        Folder(str(tmp_path))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((0, 4, 3))
    with pytest.raises(CloudError, match=r"a\.h5: the file holds no clouds"):
        Folder(str(tmp_path))


def test_hidden_folders_are_left_out(tmp_path: Path):
    for name in ("a/x.ply", ".cache/y.ply", "a/.z.ply"):
        write_cloud(tmp_path / name, cloud(5, name))
    assert [file.name for file in Folder(str(tmp_path)).files] == ["x.ply"]
    assert len(Folder(str(tmp_path), pattern="*/x.*")) == 1


def test_the_manifest():
    manifest = json.loads(json.dumps(Folder(str(SAMPLE), num_points=7).manifest()))
    assert manifest["num_clouds"] == 3 and manifest["num_points"] == 7 and manifest["split"] == "train"
    assert sorted(manifest["files"]) == ["ball.ply", "box.pcd", "cone.npz"] and manifest["folder"] == "sample"


def test_indices_outside():
    data = Folder(str(SAMPLE))
    for index in (3, -4):
        with pytest.raises(IndexError):
            data[index]


def test_the_training_classes_number_those_of_the_test_split(tmp_path: Path):
    for name in ("train/a/0.ply", "train/b/0.ply", "train/c/0.ply", "test/b/0.ply", "test/c/0.ply"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_cloud(tmp_path / name, cloud(9, name))
    test = Folder(str(tmp_path), split="test")
    assert test.classes == ["a", "b", "c"] and test.labels.tolist() == [1, 2]
    (tmp_path / "test" / "d").mkdir()
    write_cloud(tmp_path / "test" / "d" / "0.ply", cloud(9, "d"))
    with pytest.raises(CloudError, match="classes d have no folder"):
        Folder(str(tmp_path), split="test")


def classes(root: Path, *folders: str, number: int = 2) -> None:
    for name in folders:
        for i in range(number):
            write_cloud(root / name / f"{i}.ply", cloud(5, f"{name}{i}"))


def test_links_to_folders_are_folders(tmp_path: Path):
    classes(tmp_path / "elsewhere", "cup")
    classes(tmp_path / "data", "bowl")
    (tmp_path / "data" / "cup").symlink_to(tmp_path / "elsewhere" / "cup")
    (tmp_path / "data" / "cup" / "back").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "bowl" / "again").symlink_to(tmp_path / "data" / "bowl")
    data = Folder(str(tmp_path / "data"), pattern="*/*.ply")
    assert data.classes == ["bowl", "cup"] and data.labels.tolist() == [0, 0, 1, 1]
    everything = [file.relative_to(tmp_path / "data").as_posix() for file in files_below(tmp_path / "data")]
    assert everything == ["bowl/0.ply", "bowl/1.ply", "cup/0.ply", "cup/1.ply"]


def test_a_link_to_nothing_is_named(tmp_path: Path):
    classes(tmp_path, "bowl", "cup")
    (tmp_path / "cup" / "2.ply").symlink_to(tmp_path / "gone.ply")
    data = Folder(str(tmp_path))
    assert len(data) == 5
    with pytest.raises(CloudError, match=r"2\.ply: no such file"):
        data[4]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    classes(tmp_path, "bowl", "cup")
    real = os.scandir

    def closed(path):
        if Path(path).name == "cup":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(CloudError, match="cup: the folder cannot be read: Permission denied; check its permissions"):
        Folder(str(tmp_path))


@pytest.mark.parametrize("name", ["README.txt", "LICENSE.txt", "labels.csv", "cup/old/notes.txt"])
def test_a_stray_file_is_named_and_does_not_dissolve_the_classes(tmp_path: Path, name: str):
    for split in ("train", "test"):
        classes(tmp_path / split, "bowl", "cup")
    (tmp_path / "train" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "train" / name).write_text("Scans of the kitchen.\n")
    with pytest.warns(UserWarning, match=rf"{name} \(1 in all\) left out, as they lie in none of the class folders"):
        data = Folder(str(tmp_path))
    assert data.classes == ["bowl", "cup"] and data.labels.tolist() == [0, 0, 1, 1] and len(data) == 4
    assert Folder(str(tmp_path), "test").labels.tolist() == [0, 0, 1, 1]


def test_more_files_elsewhere_are_no_strays(tmp_path: Path):
    classes(tmp_path, "bowl", "cup", number=1)
    classes(tmp_path, ".", number=3)
    with pytest.warns(
        UserWarning, match="read without labels, as 0.ply, 1.ply, 2.ply .3 in all. do not lie one folder"
    ):
        data = Folder(str(tmp_path))
    assert data.labels is None and len(data) == 5


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_train_and_val_without_test(tmp_path: Path, name: str):
    classes(tmp_path / "train", "bowl", "cup")
    classes(tmp_path / name, "bowl", "cup", number=1)
    with pytest.warns(UserWarning, match=f"no folder test beside train; {name} is taken for the test split"):
        train, test = Folder(str(tmp_path)), Folder(str(tmp_path), "test")
    assert len(train) == 4 and len(test) == 2 and test.labels.tolist() == [0, 1]
    assert not any(name in file.parts for file in train.files)
    classes(tmp_path / "test", "bowl", "cup", number=3)
    assert len(Folder(str(tmp_path), "test")) == 6 and len(Folder(str(tmp_path))) == 4
    classes(tmp_path / "Train", "bowl")
    with pytest.raises(CloudError, match="one folder for the split train, found Train, train"):
        Folder(str(tmp_path))


def test_splits_without_training(tmp_path: Path):
    for name in ("test", "val"):
        classes(tmp_path / name, "bowl", "cup")
    with pytest.raises(CloudError, match="expected a folder train beside test and val, found none"):
        Folder(str(tmp_path))


def test_a_class_may_be_called_train(tmp_path: Path):
    classes(tmp_path, "bus", "train", "car")
    assert Folder(str(tmp_path)).classes == ["bus", "car", "train"]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("**/*", 4), ("**/*.ply", 4), ("*/0.*", 2), ("cup/*", 2), ("*", 0), ("**", 4), ("./cup/[0]*", 1)],
)
def test_patterns(tmp_path: Path, pattern: str, count: int):
    classes(tmp_path, "bowl", "cup")
    if count:
        assert len(Folder(str(tmp_path), pattern=pattern)) == count
    else:
        with pytest.raises(CloudError, match="no file to read among"):
            Folder(str(tmp_path), pattern=pattern)


@pytest.mark.parametrize("pattern", ["", "/x", "../*", "a**", "."])
def test_patterns_that_are_none(tmp_path: Path, pattern: str):
    classes(tmp_path, "bowl", "cup")
    with pytest.raises(ConfigError, match="Folder.pattern: .* is not a glob"):
        Folder(str(tmp_path), pattern=pattern)


def test_a_compressed_file_is_read_cloud_by_cloud_if_it_becomes_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=np.arange(6000.0).reshape(20, 100, 3) % 7, compression="gzip")
    data = Folder(str(tmp_path))
    data.memory = 20_000  # more than the file, less than its clouds
    assert (tmp_path / "a.h5").stat().st_size < data.memory
    assert len(data[3].pos) == 100 and list(data.read_with(3)) == [3]


def test_labels_of_points_are_a_target_if_they_have_names(tmp_path):
    for i in range(2):
        write_cloud(tmp_path / f"{i}.ply", Data(pos=torch.rand(5, 3), point_y=torch.tensor([0, 1, -1, 1, 0])))
    assert Folder(tmp_path).targets == {} and "point_classes" not in Folder(tmp_path).manifest()
    with pytest.raises(CloudError, match=r"Folder: the labels of points need names; give data.point_classes=\[NAME"):
        target_named(Folder(tmp_path), "point_y")
    named = Folder(tmp_path, point_classes=["floor", "wall"])
    assert named.targets == {"point_y": Classes(("floor", "wall"), ignore=-1)}
    assert named.manifest()["point_classes"] == ["floor", "wall"] and named[1].point_y.tolist() == [0, 1, -1, 1, 0]
