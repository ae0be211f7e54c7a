"""ScanNet as it is downloaded: labels of vertices, and each trap that users of the data set fell into."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scannet_files import PIECES, objects, room, write_data_set, write_ply, write_scene

from geo3d.data import ScanNet
from geo3d.data.check import check
from geo3d.data.scannet.labels import CLASSES, NUMBERS
from geo3d.errors import CloudError
from geo3d.geometry.frame import to_source

SAMPLE = Path(__file__).parents[2] / "datasets" / "scannet" / "sample"
EXPECTED = {"floor": 1, "wall": 0, "desk": 12, "office chair": 4, "whiteboard": -1, None: -1}


@pytest.fixture
def root(tmp_path):
    return write_data_set(tmp_path / "scannet")


def change(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


def aggregation(root, name="scene0000_00"):
    return root / "scans" / name / f"{name}.aggregation.json"


def test_the_benchmark_has_these_classes():
    assert (*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39) == NUMBERS and len(CLASSES) == 20


def test_vertices_have_the_classes_of_their_objects(root):
    scenes = ScanNet(str(root))
    assert len(scenes) == 3 and len(ScanNet(str(root), "test")) == 1 and scenes.source(2).endswith("scene0001_00")
    points, _, segments = room(1)
    cloud = scenes[1]
    assert torch.equal(cloud.pos, torch.from_numpy(points)) and cloud.rgb.shape == (175, 3)
    expected = [EXPECTED[PIECES[(segment - 3) // 10]] for segment in segments]
    assert cloud.point_y.tolist() == expected
    assert scenes.targets["point_y"].names == CLASSES and scenes.targets["point_y"].ignore == -1
    found = dict(check(scenes))
    assert found["clouds"] == "3"


def test_instances_count_from_one_and_both_walls_are_one(root):
    instance = ScanNet(str(root))[0].instance.view(7, 25)
    assert instance[:, 0].tolist() == [1, 2, 2, 3, 4, 5, 0] and bool((instance == instance[:, :1]).all())


def test_the_labelled_mesh_may_be_used_instead(root):
    scenes = ScanNet(str(root), label_source="ply")
    assert scenes[0].point_y.tolist() == ScanNet(str(root))[0].point_y.tolist()
    assert "instance" not in scenes[0]
    points, faces, _ = room(0)
    path = root / "scans" / "scene0000_00" / "scene0000_00_vh_clean_2.labels.ply"
    numbers = np.full(len(points), 2)
    numbers[:3] = [50, 149, 0]  # numbers that do not exist, in scene0270_00 and scene0384_00
    write_ply(path, points, faces, numbers)
    assert scenes[0].point_y[:5].tolist() == [-1, -1, -1, 1, 1]
    write_ply(path, points[:60], faces[:10], numbers[:60])
    with pytest.raises(CloudError, match="labels.ply: expected a label for each of 175 vertices; found 60 vertices"):
        scenes[0]
    write_ply(path, points, faces)
    with pytest.raises(CloudError, match="for each of 175 vertices; found no labels"):
        scenes[0]


def test_a_list_of_objects_that_is_repeated_counts_once(root):
    before = ScanNet(str(root))[0].point_y
    repeated = [dict(group, segments=[3]) for group in objects()[2:]]  # as in scene0217_00, and wrong
    change(aggregation(root), segGroups=objects() + repeated)
    assert torch.equal(ScanNet(str(root))[0].point_y, before)


def test_the_files_of_the_other_mesh_are_refused(root):
    change(aggregation(root), segmentsFile="scannet.scene0000_00_vh_clean.segs.json")
    with pytest.raises(CloudError, match=r"aggregation.json: belongs to another mesh \(.*_vh_clean.segs.json\)"):
        ScanNet(str(root))[0]
    segments = root / "scans" / "scene0000_01" / "scene0000_01_vh_clean_2.0.010000.segs.json"
    change(segments, segIndices=[3] * 400)
    with pytest.raises(CloudError, match="the mesh has 175 vertices, the segments are of 400"):
        ScanNet(str(root))[1]


def test_raw_categories_that_are_not_in_the_table_are_listed(root):
    groups = [
        dict(group, label={"desk": "hovercraft", "wall": "eel"}.get(group["label"], group["label"]))
        for group in objects()
    ]
    change(aggregation(root), segGroups=groups)
    with pytest.raises(
        CloudError, match="the raw categories eel, hovercraft are not in the table of labels; .*unknown=ig"
    ):
        ScanNet(str(root))[0]
    found = ScanNet(str(root), unknown="ignore")
    assert found[0].point_y.view(7, 25)[:, 0].tolist() == [1, -1, -1, -1, 4, -1, -1]
    assert found[0].instance.view(7, 25)[:, 0].tolist() == [1, 2, 2, 3, 4, 5, 0]


def test_rooms_are_aligned_if_asked_for_and_lead_back(tmp_path):
    c, s = np.cos(0.3), np.sin(0.3)
    write_data_set(tmp_path, train=("a",), val=("b",))
    text = f"{c:.6f} {-s:.6f} 0.000000 1.500000 {s:.6f} {c:.6f} 0 -2.5 0 0 1 0.25 0.000000 0.000000 0.000000 1.000000 "
    write_scene(tmp_path, "turned", alignment=text)
    (tmp_path / "scannetv2_train.txt").write_text("turned\na\n")
    plain, aligned = ScanNet(str(tmp_path)), ScanNet(str(tmp_path), align=True)
    matrix = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    expected = plain[0].pos.double() @ matrix.T + torch.tensor([1.5, -2.5, 0.25])
    torch.testing.assert_close(aligned[0].pos.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(to_source(aligned[0].pos, aligned[0].frame), plain[0].pos.double(), rtol=0, atol=1e-5)
    assert torch.equal(aligned[1].pos, plain[1].pos)  # a scene without a matrix stays as it is
    for wrong, message in (
        ("1 2 3", "expected 16 numbers, found '1 2 3'"),
        ("2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", "expected a rotation and a shift"),
        (text.replace("1.500000", "nan"), "expected a rotation and a shift"),
        ("1 0 0 0 0 1 0 0 0 0 -1 0 0 0 0 1", "expected a rotation and a shift"),
    ):
        (tmp_path / "scans" / "turned" / "turned.txt").write_text(f"axisAlignment = {wrong}\n")
        with pytest.raises(CloudError, match=f"turned.txt: axisAlignment: {message}"):
            aligned[0]


def test_what_is_missing_or_damaged_is_named(root):
    scene = root / "scans" / "scene0000_00"
    aggregation(root).write_text(aggregation(root).read_text()[:100])
    with pytest.raises(CloudError, match="aggregation.json: damaged or cut off"):
        ScanNet(str(root))[0]
    change_list = root / "scannetv2_train.txt"
    aggregation(root).write_text("[]")
    with pytest.raises(CloudError, match="expected a JSON object, found a list"):
        ScanNet(str(root))[0]
    aggregation(root).write_text(json.dumps({"segGroups": [{"objectId": 0}]}))
    with pytest.raises(CloudError, match="expected segGroups with objectId, label and segments"):
        ScanNet(str(root))[0]
    (scene / "scene0000_00_vh_clean_2.ply").unlink()
    with pytest.raises(CloudError, match=r"scene0000_00_vh_clean_2.ply: no such file"):
        ScanNet(str(root))[0]
    change_list.write_text("scene0000_00\nscene0009_00\n")
    with pytest.raises(CloudError, match="1 of the 2 scenes of scannetv2_train.txt are missing, scene0009_00 first"):
        ScanNet(str(root))
    change_list.write_text("a\na\n")
    with pytest.raises(CloudError, match="expected the name of a scene in each line, each once"):
        ScanNet(str(root))
    (root / "scannetv2-labels.combined.tsv").write_text("raw_category\tcategory\nwall\twall\n")
    change_list.write_text("scene0000_01\n")
    with pytest.raises(CloudError, match="expected a table with the columns raw_category and nyu40id; found raw_c"):
        ScanNet(str(root))
    (root / "scannetv2_val.txt").unlink()
    with pytest.raises(CloudError, match=r"scannetv2_val.txt: no such file"):
        ScanNet(str(root), "test")


def test_the_sample_is_sound():
    for split, count in (("train", 3), ("test", 1)):
        found = dict(check(ScanNet(str(SAMPLE), split)))
        assert found["clouds"] == str(count)
