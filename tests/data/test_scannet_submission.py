import pytest
import torch
from support.scannet_files import write_data_set

from geo3d.data.scannet import write_submission
from geo3d.data.scannet.labels import NUMBERS
from geo3d.errors import CloudError


@pytest.fixture
def scans(tmp_path):
    return write_data_set(tmp_path / "scannet") / "scans"


def test_each_vertex_gets_a_line_with_the_number_of_its_class(scans, tmp_path):
    classes = torch.arange(175) % 20
    paths = write_submission(tmp_path / "out", {"scene0000_00": classes, "scene0001_00": classes.flip(0)}, scans)
    assert [path.name for path in paths] == ["scene0000_00.txt", "scene0001_00.txt"]
    assert sorted(tmp_path.joinpath("out").iterdir()) == paths  # no temporary file is left
    lines = paths[0].read_text().splitlines()
    assert len(lines) == 175 and [int(line) for line in lines[:20]] == list(NUMBERS) and lines[12] == "14"
    assert paths[1].read_text().splitlines() == lines[::-1]


def test_nothing_is_written_if_one_prediction_does_not_fit(scans, tmp_path):
    sound, out = torch.zeros(175, dtype=torch.int64), tmp_path / "out"
    for classes, message in (
        (sound[:174], r"expected 175 classes, one per vertex; found \(174,\) of torch.int64"),
        (sound[:, None], r"expected 175 classes, one per vertex; found \(175, 1\)"),
        (sound.float(), ".* found .* of torch.float32"),
        (sound - 1, "expected classes from 0 to 19, found -1 to -1"),
        (sound + 20, "expected classes from 0 to 19, found 20 to 20"),
    ):
        with pytest.raises(CloudError, match=rf"scene0001_00_vh_clean_2.ply: {message}"):
            write_submission(out, {"scene0000_00": sound, "scene0001_00": classes}, scans)
    with pytest.raises(CloudError, match="scene7_vh_clean_2.ply: no such file"):
        write_submission(out, {"scene7": sound}, scans)
    with pytest.raises(CloudError, match="expected the name of a scene, found '../x'"):
        write_submission(out, {"../x": sound}, scans)
    with pytest.raises(CloudError, match="expected the predictions of at least one scene, found none"):
        write_submission(out, {}, scans)
    assert not out.exists()
