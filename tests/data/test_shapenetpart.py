"""ShapeNetPart in both layouts: what is read, how parts are numbered, and what is refused."""

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.shapenetpart_files import MUG, PAIRS, TABLE, write_hdf5, write_text

from geo3d.data import ShapeNetPart
from geo3d.data.check import check
from geo3d.errors import CloudError
from geo3d.geometry.frame import to_source

SAMPLES = Path(__file__).parents[2] / "datasets" / "shapenetpart"
FORMS = {"hdf5": write_hdf5, "text": write_text}


@pytest.fixture(params=FORMS)
def root(request, tmp_path):
    return FORMS[request.param](tmp_path / request.param)


@pytest.fixture
def hdf5(tmp_path):
    return write_hdf5(tmp_path / "hdf5")


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text")


def put(path, name, value):
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value


def refused(message, root, **options):
    with pytest.raises(CloudError, match=message) as error:
        for cloud in ShapeNetPart(str(root), **options):
            assert cloud
    assert "\n" not in str(error.value)


def test_classes_and_parts_are_numbered_as_published(root):
    targets = ShapeNetPart(str(root)).targets
    names, groups = targets["point_y"].names, targets["point_y"].groups
    assert len(targets["y"].names) == 16 and targets["y"].names == tuple(sorted(targets["y"].names))
    assert [group[0] for group in groups] == [0, 4, 6, 8, 12, 16, 19, 22, 24, 28, 30, 36, 38, 41, 44, 47]
    assert [label for group in groups for label in group] == list(range(50)) and len(set(names)) == 50
    assert names[0] == "airplane part 1" and names[35] == "motorbike part 6" and names[49] == "table part 3"


def test_train_includes_the_validation_list_unless_told_otherwise(root):
    assert ShapeNetPart(str(root)).labels.tolist() == [TABLE, MUG, TABLE, MUG]
    assert ShapeNetPart(str(root), val_in_train=False).labels.tolist() == [TABLE, MUG, TABLE]
    for both in (True, False):
        assert ShapeNetPart(str(root), "test", val_in_train=both).labels.tolist() == [TABLE, MUG]


def test_hdf5_clouds_are_those_of_the_files(hdf5):
    clouds = ShapeNetPart(str(hdf5))
    assert clouds.form == "hdf5" and clouds.source(2).endswith("ply_data_train1.h5, cloud 0")
    with h5py.File(hdf5 / "ply_data_train1.h5") as file:
        data, parts = file["data"][0], file["pid"][0]
    cloud = clouds[2]
    assert cloud.pos.tolist() == np.stack([data[:, 0], -data[:, 2], data[:, 1]], 1).tolist()
    assert cloud.point_y.tolist() == parts.tolist() and cloud.point_y.dtype == torch.int64 and "normal" not in cloud
    torch.testing.assert_close(to_source(cloud.pos, cloud.frame).float(), torch.from_numpy(data))
    assert ShapeNetPart(str(hdf5), up="z")[2].pos.tolist() == data.tolist()
    assert clouds[-1].y.tolist() == [MUG] and len(pickle.dumps(clouds)) < 5000
    with pytest.raises(IndexError):
        clouds[4]


def test_text_clouds_are_those_of_the_files_and_normals_turn_with_them(text):
    clouds = ShapeNetPart(str(text), "test")
    assert clouds.form == "text" and clouds.source(0).endswith(f"test0a{TABLE}.txt")
    rows = np.loadtxt(clouds.source(0), dtype="f4")
    table = clouds[0]
    for vectors, place in ((table.pos, 0), (table.normal, 3)):
        x, y, z = rows[:, place : place + 3].T
        assert vectors.tolist() == np.stack([x, -z, y], 1).tolist()
    assert table.point_y.tolist() == rows[:, 6].tolist() and table.y.tolist() == [TABLE]
    top = table.point_y == 47
    assert bool((table.normal[top] == torch.tensor([0.0, 0.0, 1.0])).all())
    assert float(table.pos[top, 2].min()) >= float(table.pos[~top, 2].max())


def test_labels_need_no_cloud(root, monkeypatch):
    clouds = ShapeNetPart(str(root))
    monkeypatch.setattr("geo3d.data.stacked.Stacked.read", None)
    monkeypatch.setattr("geo3d.data.shapenetpart.archive.Archive.read", None)
    assert clouds.labels.tolist() == [TABLE, MUG, TABLE, MUG]
    described = clouds.manifest()
    assert described["classes"]["mug"] == 2 and described["num_clouds"] == 4 and described["up"] == "y"


def test_a_file_is_read_once_even_if_it_is_damaged(hdf5, monkeypatch):
    clouds, opened = ShapeNetPart(str(hdf5), "test"), []
    read = clouds._clouds.read
    monkeypatch.setattr(clouds._clouds, "read", lambda *words: opened.append(words) or read(*words))
    assert clouds[0].y != clouds[1].y and len(opened) == 1
    path = hdf5 / "ply_data_test0.h5"
    broken = ShapeNetPart(str(hdf5), "test")
    assert len(broken.labels) == 2
    path.write_bytes(path.read_bytes()[:-100])
    opened.clear()
    read_broken = broken._clouds.read
    monkeypatch.setattr(broken._clouds, "read", lambda *words: opened.append(words) or read_broken(*words))
    for index in (0, 1, 0):
        with pytest.raises(CloudError, match=r"ply_data_test0.h5: expected an HDF5 file; it is damaged"):
            broken[index]
    assert len(opened) == 1


def test_clouds_in_memory_are_not_sent_to_other_processes(hdf5):
    clouds = ShapeNetPart(str(hdf5))
    before, first = len(pickle.dumps(clouds)), clouds[0]
    size = len(pickle.dumps(clouds))
    assert size < before + 1000 and pickle.loads(pickle.dumps(clouds))[0].pos.equal(first.pos)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pid", None, "train0.h5: expected the keys data, label, pid; found data, label"),
        ("data", np.zeros((2, 48, 4), "f4"), r"expected data \(n, P, 3\) of float32; found \(2, 48, 4\)"),
        ("data", np.zeros((2, 48, 3), "i4"), r"expected data .* of float32; found \(2, 48, 3\) of int32"),
        ("data", np.zeros((0, 48, 3), "f4"), r"expected label \(0\) of whole numbers; found \(2, 1\)"),
        ("label", np.array([15], "u1"), r"expected label \(2\) of whole numbers; found \(1,\)"),
        ("label", np.array([15, 16], "u1"), "train0.h5, label: expected labels from 0 to 15; found 16"),
        ("pid", np.zeros((2, 47), "u1"), r"expected pid \(2, 48\) of whole numbers; found \(2, 47\)"),
        ("pid", np.full((2, 48), 46), "cloud 0: expected the parts 47 to 49 in a cloud of table; found 46"),
        ("data", np.full((2, 48, 3), np.nan, "f4"), "train0.h5, cloud 0: 48 of 48 points have NaN"),
        ("data", np.full((2, 48, 3), 1e9) + np.eye(48, 3), "train0.h5, cloud 0: the coordinates reach 1000000001"),
    ],
)
def test_damaged_hdf5_files_are_named(name, value, message, hdf5):
    put(hdf5 / "ply_data_train0.h5", name, value)
    refused(message, hdf5)


def test_lists_and_tables_of_the_hdf5_form_are_checked(hdf5):
    (hdf5 / "train_hdf5_file_list.txt").write_text("ply_data_train0.h5\nother/ply_data_train0.h5\n")
    refused("expected every file once in the lists of train and val", hdf5)
    (hdf5 / "train_hdf5_file_list.txt").write_text("ply_data_train7.h5\n")
    refused("ply_data_train7.h5: no such file", hdf5)
    (hdf5 / "val_hdf5_file_list.txt").unlink()
    refused("val_hdf5_file_list.txt: no such file", hdf5)
    names = hdf5 / "all_object_categories.txt"
    before = names.read_text()
    names.write_text(before.replace("Mug", "Cup"))
    refused("expected Mug 03797390 as entry 12 of 16; found Cup 03797390", hdf5, split="test")
    names.write_text("\n".join(reversed(before.splitlines())))
    refused("expected Airplane 02691156 as entry 1 of 16; found Table 04379243", hdf5, split="test")
    names.write_text(before + "Toad\t00000000\n")
    refused("found 17 lines", hdf5, split="test")
    names.unlink()
    assert len(ShapeNetPart(str(hdf5), "test")) == 2


def test_other_numbers_of_parts_are_refused(hdf5):
    table, inverse = hdf5 / "overallid_to_catid_partid.json", hdf5 / "catid_partid_to_overallid.json"
    table.write_text(json.dumps([PAIRS[4], *PAIRS[1:4], PAIRS[0], *PAIRS[5:]]))
    refused("partid.json: expected part 0 in airplane; found it in 02773838_1", hdf5)
    table.write_text(json.dumps(PAIRS[:49]))
    refused("expected each of the parts 0 to 49 once; found 49 entries", hdf5)
    table.write_text(json.dumps(PAIRS)[:-5])
    refused("partid.json: damaged or cut off", hdf5)
    table.write_text("{}")
    refused("expected a list of 50 pairs of synset and part", hdf5)
    table.write_text(json.dumps([PAIRS[1], PAIRS[0], *PAIRS[2:]]))
    refused("overallid.json: expected the inverse of overallid_to_catid_partid.json; found other numbers", hdf5)
    table.unlink()
    inverse.write_text(json.dumps({"04379243_1": 0}))
    refused("overallid.json: expected each of the parts 0 to 49 once; found 1 entries", hdf5)
    inverse.unlink()
    assert len(ShapeNetPart(str(hdf5))) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 0 0 0 0 1", r"line 41: expected rows of numbers of the same length, 7"),
        ("0 0 0 0 0 1 12", "expected the parts 47 to 49 in a cloud of table; found 12"),
        ("0 0 0 0 0 1 47.5", "column 7: expected labels that are whole numbers"),
        ("0 0 0 0 0 1 nan", "column 7: expected labels that are whole numbers"),
        ("0 inf 0 0 0 1 47", "1 of 41 points have NaN"),
    ],
)
def test_damaged_text_files_are_named(row, message, text):
    path = Path(ShapeNetPart(str(text)).source(0))
    path.write_text(path.read_text() + row + "\n")
    refused(f"{path.name}.*{message}", text)


def test_text_files_have_no_header_and_are_not_empty(text):
    path = Path(ShapeNetPart(str(text)).source(0))
    for content in ("x y z nx ny nz label\n0 0 0 0 0 1 47\n", "1\n0 0 0 0 0 1 47\n", "# nothing\n"):
        path.write_text(content)
        refused("expected rows of 7 numbers and nothing above them", text)


def test_lists_of_the_text_form_are_checked(text):
    path = text / "train_test_split" / "shuffled_train_file_list.json"
    entries = json.loads(path.read_text())
    for wrong in ("shape_data/../etc", f"{entries[0]}/x", "shape_data/12345678/a", 7):
        path.write_text(json.dumps([wrong]))
        refused("train_file_list.json: expected shape_data/SYNSET/NAME", text)
    path.write_text(json.dumps(entries + entries[:1]))
    refused("expected every object once in the lists train and val", text)
    path.write_text("[]")
    refused(r"expected a list of entries shape_data/SYNSET/NAME; found \[\]", text)
    path.write_text(json.dumps([*entries, f"{entries[0]}b", f"{entries[0]}c"]))
    refused(r"train0a15b.txt: missing, as are 1 other files of shuffled_train_file_list.json", text)
    names = text / "synsetoffset2category.txt"
    names.write_text("\n".join(reversed(names.read_text().splitlines())))
    assert len(ShapeNetPart(str(text), "test")) == 2
    names.write_text(names.read_text().replace("Mug\t03797390\n", ""))
    refused("mug 03797390 is missing or added", text, split="test")


def test_a_folder_of_neither_form_or_of_both_is_refused(tmp_path, hdf5):
    (tmp_path / "other").mkdir()
    refused("expected either train_hdf5_file_list.txt, .* found nothing", tmp_path / "other")
    refused("no such folder; expected either train_hdf5_file_list.txt", tmp_path / "nowhere")
    (hdf5 / "synsetoffset2category.txt").write_text("")
    refused("found both", hdf5)


@pytest.mark.parametrize("form", FORMS)
def test_the_samples_are_sound(form):
    for split, count in (("train", 4), ("test", 2)):
        rows = dict(check(ShapeNetPart(str(SAMPLES / f"sample_{form}"), split)))
        assert rows["clouds"] == str(count) and rows["form"] == form
