"""ScanObjectNN: which file each variant is, with and without background, and what is refused."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.scanobjectnn_files import BOX, CHAIR, LABELS, TABLE, scan, write, write_data_set

from geo3d.data import ScanObjectNN
from geo3d.data.check import check
from geo3d.errors import CloudError, ConfigError
from geo3d.geometry.frame import to_source

SAMPLE = Path(__file__).parents[2] / "datasets" / "scanobjectnn" / "sample"
FILES = {
    "obj_bg": "main_split/training_objectdataset.h5",
    "obj_only": "main_split_nobg/training_objectdataset.h5",
    "pb_t25": "main_split/training_objectdataset_augmented25_norot.h5",
    "pb_t25_r": "main_split/training_objectdataset_augmented25rot.h5",
    "pb_t50_r": "main_split/training_objectdataset_augmentedrot.h5",
    "pb_t50_rs": "main_split/training_objectdataset_augmentedrot_scale75.h5",
}


@pytest.fixture
def root(tmp_path):
    return write_data_set(tmp_path / "data")


def refused(message, root, **options):
    with pytest.raises(CloudError, match=message) as error:
        for cloud in ScanObjectNN(str(root), **options):
            assert cloud
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("variant", FILES)
def test_each_variant_has_its_file(variant, tmp_path):
    for above in ("plain", "plain/h5_files"):
        for name in FILES.values():
            write(tmp_path / above / name, (BOX,), "nobg" not in name)
        clouds = ScanObjectNN(str(tmp_path / "plain"), variant=variant)
        assert clouds.file == tmp_path / above / FILES[variant] and clouds.source(0) == f"{clouds.file}, cloud 0"
        shutil.rmtree(tmp_path / above)
    with pytest.raises(ConfigError, match=r"ScanObjectNN\.variant: 'hardest' is not obj_bg, obj_only, pb_t25"):
        ScanObjectNN(str(tmp_path), variant="hardest")


def test_clouds_are_those_of_the_file_and_z_is_up(root):
    clouds = ScanObjectNN(str(root))
    assert clouds.labels.tolist() == [BOX, CHAIR, TABLE, BOX] and clouds.targets["y"].names[CHAIR] == "chair"
    assert len(clouds.classes) == 15 and (clouds.classes[0], clouds.classes[14]) == ("bag", "toilet")
    points = torch.from_numpy(scan(TABLE, [0, 2], True)[0].astype("f4"))
    cloud = clouds[2]
    assert cloud.pos.equal(torch.stack([points[:, 0], -points[:, 2], points[:, 1]], 1)) and cloud.y.tolist() == [TABLE]
    torch.testing.assert_close(to_source(cloud.pos, cloud.frame).float(), points)
    assert ScanObjectNN(str(root), up="z")[2].pos.equal(points) and clouds[-2].pos.equal(cloud.pos)
    test = ScanObjectNN(str(root), "test", "pb_t50_rs")
    assert test.labels.tolist() == [TABLE, CHAIR] * 2 and test.manifest()["classes"]["table"] == 2
    with pytest.raises(IndexError):
        clouds[4]


def test_the_folder_of_a_variant_may_be_given_but_not_that_of_the_other_background(root):
    assert len(ScanObjectNN(str(root / "main_split"), variant="pb_t50_rs")) == 8
    assert len(ScanObjectNN(str(root / "main_split_nobg"), variant="obj_only")) == 4
    refused("main_split/.*: expected clouds without background", root / "main_split", variant="obj_only")
    refused("main_split_nobg/.*: expected clouds with background; give the folder main_split", root / "main_split_nobg")
    write(root / "main_split" / "training_objectdataset.h5", (BOX,), True, masked=False)  # the name alone says enough
    refused("main_split/.*: expected clouds without background", root / "main_split", variant="obj_only")
    assert len(ScanObjectNN(str(root / "main_split"))) == 1


@pytest.mark.parametrize("background", [True, False])
def test_in_a_folder_of_another_name_the_mask_decides(background, tmp_path):
    path = tmp_path / "objects" / "training_objectdataset.h5"
    right, wrong = ("obj_bg", "obj_only") if background else ("obj_only", "obj_bg")
    write(path, LABELS["training"], background)
    assert len(ScanObjectNN(str(path.parent), variant=right)) == 4
    refused(f"expected clouds with{'out' if background else ''} background", path.parent, variant=wrong)
    write(path, LABELS["training"], background, masked=False)
    refused("no mask says which points are background", path.parent, variant=right)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("label", None, "expected the keys data, label; found data, mask"),
        ("label", np.array([0, 1, 2, 15]), "label: expected labels from 0 to 14; found 15"),
        ("label", np.array([0, 1, 2]), r"expected label \(4\) of whole numbers; found \(3,\)"),
        ("data", np.zeros((4, 48, 2), "f4"), r"expected data \(n, P, 3\) of float32; found \(4, 48, 2\)"),
        ("data", np.full((4, 48, 3), np.inf, "f4"), "cloud 0: 48 of 48 points have NaN or infinite"),
    ],
)
def test_damaged_files_are_named(name, value, message, root):
    with h5py.File(root / "main_split" / "training_objectdataset.h5", "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value
    refused(f"training_objectdataset.h5.*{message}", root)


def test_a_missing_file_is_named(root):
    refused("no training_objectdataset_augmented25rot.h5; expected it in main_split", root, variant="pb_t25_r")
    refused("no such folder", root / "nowhere")
    path = root / "main_split" / "test_objectdataset.h5"
    path.write_bytes(path.read_bytes()[:-9])
    refused("test_objectdataset.h5: expected an HDF5 file; it is damaged", root, split="test")


def test_the_sample_is_sound():
    for variant, count in (("obj_bg", 4), ("obj_only", 4), ("pb_t50_rs", 8)):
        for split in ("train", "test"):
            rows = dict(check(ScanObjectNN(str(SAMPLE), split, variant)))
            assert rows["clouds"] == str(count if split == "train" else count // 2)
