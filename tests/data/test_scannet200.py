"""ScanNet with 200 classes: the numbers of the raw categories themselves."""

import pytest
from support.scannet_files import PIECES, SEGMENT200, room, write_data_set

from geo3d.data import ScanNet
from geo3d.data.scannet.labels import LABEL_SETS
from geo3d.data.scannet.names200 import NAMES200
from geo3d.errors import CloudError, ConfigError


def test_the_benchmark_has_200_classes_in_the_order_of_their_numbers():
    assert len(NAMES200) == len(set(NAMES200.values())) == 200 and list(NAMES200) == sorted(NAMES200)
    sampled = {1: "wall", 2: "chair", 3: "floor", 52: "whiteboard", 1163: "object", 1191: "mattress"}
    assert sampled.items() <= NAMES200.items()
    assert not {12, 20, 25, 30, 37, 1177} & set(NAMES200)
    assert LABEL_SETS["scannet200"].class_of(1191) == 199 and LABEL_SETS["scannet200"].class_of(12) == -1


def test_vertices_have_the_classes_of_their_raw_categories(tmp_path):
    scenes = ScanNet(str(write_data_set(tmp_path)), label_set="scannet200")
    expected = [SEGMENT200.get(PIECES[(segment - 3) // 10], -1) for segment in room(0)[2]]
    assert scenes[0].point_y.tolist() == expected and 45 in expected and -1 in expected
    assert len(scenes.targets["point_y"].names) == 200 and scenes.targets["point_y"].names[45] == "whiteboard"
    assert scenes.categories["object"] == list(NAMES200).index(1163)  # the first of two lines
    assert scenes.manifest()["label_set"] == "scannet200"
    assert ScanNet(str(tmp_path))[0].point_y.tolist() != expected


def test_the_labelled_mesh_has_no_200_classes(tmp_path):
    root = str(write_data_set(tmp_path))
    with pytest.raises(ConfigError, match="label_source=ply: the labels of the mesh are 40 classes, not 200; give"):
        ScanNet(root, label_source="ply", label_set="scannet200")
    with pytest.raises(ConfigError, match="ScanNet.label_set: 'scannet40' is not scannet20 or scannet200"):
        ScanNet(root, label_set="scannet40")
    (tmp_path / "scannetv2-labels.combined.tsv").write_text("raw_category\tnyu40id\nwall\t1\n")
    with pytest.raises(CloudError, match="table with the columns raw_category and id; found raw_category, nyu40id"):
        ScanNet(root, label_set="scannet200")
