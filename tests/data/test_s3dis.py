"""S3DIS in both layouts: blocks and rooms, which area is for testing, and what is refused."""

import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.s3dis_files import ROOMS, blocks, room, write_blocks, write_rooms

from geo3d.data import S3DIS
from geo3d.data.cache import Cached
from geo3d.data.check import check
from geo3d.errors import CloudError, ConfigError

SAMPLES = Path(__file__).parents[2] / "datasets" / "s3dis"
CLASSES = "ceiling floor wall beam column window door table chair sofa bookcase board clutter"


@pytest.fixture
def stacked(tmp_path):
    return write_blocks(tmp_path / "blocks")


@pytest.fixture
def folders(tmp_path):
    return write_rooms(tmp_path / "rooms")


def change(path, name, edit):
    with h5py.File(path, "r+") as file:
        values = file[name][()]
        del file[name]
        file[name] = edit(values)


def refused(message, root, **options):
    with pytest.raises(CloudError, match=message) as error:
        for cloud in S3DIS(str(root), **options):
            assert cloud
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [write_blocks, write_rooms])
def test_each_area_can_be_the_one_to_test_on(write, tmp_path):
    root = write(tmp_path / "data")
    per_room = 2 if write is write_blocks else 1
    assert S3DIS(str(root), "test").area == 5
    for area in range(1, 7):
        train, test = (S3DIS(str(root), split, area=area) for split in ("train", "test"))
        assert len(train) == 5 * per_room and len(test) == per_room
        names = {name.replace("_office", "/office") if per_room == 1 else name for name in ROOMS}
        inside = {name: [i for i in range(len(test)) if test.source(i).endswith(name)] for name in names}
        assert [name for name, where in inside.items() if where] == [name for name in names if f"Area_{area}" in name]
        assert not any(f"Area_{area}" in train.source(i) for i in range(len(train)))
        assert " ".join(test.targets["point_y"].names) == CLASSES and test.targets["point_y"].ignore == -1
    for wrong in (0, 7, "5"):
        with pytest.raises(ConfigError, match=r"S3DIS\.area"):
            S3DIS(str(root), area=wrong)


def test_blocks_are_those_of_the_files(stacked):
    clouds = S3DIS(str(stacked), area=2)
    assert clouds.form == "blocks" and clouds.labels is None and len(pickle.dumps(clouds)) < 10_000
    assert clouds.source(2).endswith("ply_data_all_0.h5, cloud 4 of Area_3_office_2")
    assert clouds.source(3).endswith("ply_data_all_1.h5, cloud 0 of Area_3_office_2")
    for index, (number, half) in ((1, (0, 1)), (2, (2, 0)), (3, (2, 1)), (-1, (5, 1))):
        data, label = (each[half] for each in blocks(number))
        cloud = clouds[index]
        assert cloud.pos.tolist() == data[:, :3].tolist() and cloud.x.tolist() == data[:, 3:].tolist()
        assert cloud.rgb.tolist() == data[:, 3:6].tolist() and cloud.point_y.tolist() == label.tolist()
        assert cloud.x.shape == (64, 6) and cloud.pos.dtype == cloud.x.dtype == torch.float32
    with pytest.raises(IndexError):
        clouds[10]


def test_blocks_that_are_stored_together_are_read_together(stacked):
    clouds = S3DIS(str(stacked), area=1)
    # areas of the twelve blocks 1 1 2 2 3 | 3 4 4 5 5 6 6, stored by threes
    groups = [sorted(clouds.read_with(i)) for i in range(10)]
    assert groups == [[0], [1, 2], [1, 2], *[[3, 4, 5]] * 3, *[[6, 7, 8]] * 3, [9]]
    for i in range(10):
        for j, cloud in clouds.read_with(i).items():
            assert cloud.x.equal(clouds[j].x) and cloud.pos.equal(clouds[j].pos)
    cached = Cached(clouds)
    assert cached[4].pos.equal(clouds[4].pos) and sorted(cached.kept) == [3, 4, 5]


def test_a_damaged_block_does_not_stop_those_read_with_it(stacked):
    def spoil(values):
        values[1, 3, 7] = np.nan
        return values

    change(stacked / "ply_data_all_1.h5", "data", spoil)
    with h5py.File(stacked / "ply_data_all_1.h5", "r+") as file:
        values = file["data"][()]
        del file["data"]
        file.create_dataset("data", data=values, chunks=(3, 32, 3))
    clouds = S3DIS(str(stacked), area=1)
    assert sorted(clouds.read_with(3)) == [3, 5]
    with pytest.raises(CloudError, match="all_1.h5, cloud 1 of Area_4_office_1: NaN or infinite .* columns 4 to 9"):
        clouds.read_with(4)
    with pytest.raises(CloudError, match="cloud 1 of Area_4_office_1: NaN"):
        list(check(clouds))


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("data", lambda v: v[:, :, :6], r"expected data \(n, P, 9\) of float32; found \(5, 64, 6\)"),
        ("data", lambda v: v.astype("i4"), r"expected data .* found \(5, 64, 9\) of int32"),
        ("label", lambda v: v[:, :60], r"expected label \(5, 64\) of whole numbers; found \(5, 60\)"),
        ("label", lambda v: v + 12, "cloud 0 of Area_1_office_2: expected labels from 0 to 12; found 1"),
        ("data", lambda v: v * [1, 1, 1, 255, 255, 255, 1, 1, 1], "expected colours from 0 to 1 .* found"),
        ("data", lambda v: v + [np.inf, 0, 0, 0, 0, 0, 0, 0, 0], "cloud 0 of .*: 64 of 64 points have NaN"),
    ],
)
def test_damaged_hdf5_files_are_named(name, edit, message, stacked):
    change(stacked / "ply_data_all_0.h5", name, edit)
    refused(f"ply_data_all_0.h5.*{message}", stacked)


def test_lists_of_the_blocks_are_checked(stacked):
    rooms = stacked / "room_filelist.txt"
    before = rooms.read_text()
    rooms.write_text(before.rsplit("Area", 1)[0])
    refused("room_filelist.txt: expected a room for each of 12 blocks; found 11 lines", stacked)
    rooms.write_text(before.replace("Area_6_", "Area_7_"))
    refused("room_filelist.txt: expected names of rooms, .* found 'Area_7_office_1'", stacked)
    rooms.write_text(before.replace("Area_6_", "Area_5_"))
    with pytest.warns(UserWarning, match="Area_6 missing; results are not those of the benchmark"):
        assert len(S3DIS(str(stacked))) == 8
    with pytest.raises(CloudError, match=r"room_filelist.txt: expected rooms of Area_6; there are none"):
        S3DIS(str(stacked), "test", area=6)
    rooms.unlink()
    refused("room_filelist.txt: no such file", stacked)
    (stacked / "all_files.txt").write_text("a/ply_data_all_1.h5\nb/ply_data_all_1.h5\n")
    refused("all_files.txt: expected every file once", stacked)
    (stacked / "all_files.txt").write_text("ply_data_all_2.h5\n")
    refused("ply_data_all_2.h5: no such file", stacked)
    (stacked / "all_files.txt").write_text("\n \n")
    refused("all_files.txt: the file has only blank lines", stacked)


def test_rooms_are_those_of_the_folders(folders):
    points, colors, classes, objects = room(2, 66)
    normal = np.tile(np.array([0, 0.6, 0.8], "f4"), (66, 1))
    np.save(folders / "Area_3" / "office_2" / "normal.npy", normal)
    segment = folders / "Area_3" / "office_2" / "segment.npy"
    clouds = S3DIS(str(folders))
    assert clouds.form == "rooms" and clouds.source(2).endswith("Area_3/office_2")
    cloud = clouds[2]
    assert cloud.pos.tolist() == (points + np.float32(2)).tolist() and cloud.normal.tolist() == normal.tolist()
    assert cloud.rgb.tolist() == (colors.astype("f4") / 255).tolist() and "normal" not in clouds[1]
    assert cloud.point_y.tolist() == classes.tolist() and cloud.instance.tolist() == (objects + 1).tolist()
    np.save(segment, np.full(66, -1, "i8"))  # in one dimension, and without any class
    assert clouds[2].point_y.tolist() == [-1] * 66
    assert sorted(clouds.read_with(-1)) == [4] and clouds.manifest()["num_files"] == 15


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("coord", np.zeros((60, 4), "f4"), r"expected an array \(N, 3\) of float32; found \(60, 4\) of float32"),
        ("coord", np.zeros((60, 3), "i4"), r"expected an array \(N, 3\) of float32; found \(60, 3\) of int32"),
        ("coord", np.full((60, 3), np.nan, "f4"), "60 of 60 points have NaN"),
        ("coord", np.eye(60, 3) + 1e9, "the coordinates reach 1000000001"),
        ("color", np.zeros((60, 3), "f4"), r"expected an array \(60, 3\) of uint8; found \(60, 3\) of float32"),
        ("color", np.zeros((60, 3), "u2"), r"expected an array \(60, 3\) of uint8; found \(60, 3\) of uint16"),
        ("color", np.zeros((59, 3), "u1"), r"expected an array \(60, 3\) of uint8; found \(59, 3\)"),
        ("normal", np.zeros((59, 3), "f4"), r"expected an array \(60, 3\) of float32; found \(59, 3\)"),
        ("segment", np.zeros((60, 2), "i2"), r"expected an array \(60, 1\) of integers; found \(60, 2\) of int16"),
        ("segment", np.zeros(60, "f4"), r"expected an array \(60, 1\) of integers; found \(60,\) of float32"),
        ("segment", np.full(60, 13), "expected labels from 0 to 12, or -1 for none; found 13"),
        ("segment", np.full(60, -2), "expected labels from 0 to 12, or -1 for none; found -2"),
        ("segment", np.array([None] * 60), "expected an array of numbers, found Python objects"),
    ],
)
def test_damaged_rooms_are_named(name, array, message, folders):
    np.save(folders / "Area_1" / "office_2" / f"{name}.npy", array)
    refused(f"Area_1/office_2/{name}.npy: {message}", folders)


def test_rooms_that_are_not_complete_are_refused(folders):
    path = folders / "Area_2" / "office_1" / "coord.npy"
    path.write_bytes(path.read_bytes()[:-7])
    refused("coord.npy: the array declares 756 bytes", folders)
    write_rooms(folders.parent / "again")
    shutil.copy(folders.parent / "again" / "Area_2" / "office_1" / "coord.npy", path)
    (folders / "Area_2" / "office_1" / "instance.npy").unlink()
    assert "instance" not in S3DIS(str(folders))[1] and "instance" in S3DIS(str(folders))[2]
    path.unlink()
    refused("Area_2/office_1/coord.npy: missing, as are 0 other files", folders)
    shutil.rmtree(folders / "Area_4")
    with pytest.raises(CloudError, match="expected rooms of Area_4; there are none"):
        S3DIS(str(folders), "test", area=4)


def test_a_folder_of_neither_form_or_of_both_is_refused(tmp_path, folders, stacked):
    refused("no such folder; expected either all_files.txt", tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    refused("expected either all_files.txt, .* found nothing", tmp_path / "other")
    shutil.copytree(folders, stacked, dirs_exist_ok=True)
    refused("found both", stacked)


@pytest.mark.parametrize(("form", "count"), [("hdf5", 2), ("rooms", 1)])
def test_the_samples_are_sound(form, count):
    for split, number in (("train", 5 * count), ("test", count)):
        assert dict(check(S3DIS(str(SAMPLES / f"sample_{form}"), split)))["clouds"] == str(number)
