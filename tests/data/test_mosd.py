"""Table-top scans: what is read, which scenes are for testing, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from geo3d.data import MOSD
from geo3d.data.check import check
from geo3d.errors import CloudError

SAMPLE = Path(__file__).parents[2] / "datasets" / "mosd" / "sample"
REAL = Path(__file__).parents[3] / "shared" / "data" / "mosd"


def test_the_sample_is_read_as_it_is_stored():
    scans = MOSD(str(SAMPLE))
    assert len(scans) == 3 and len(MOSD(str(SAMPLE), "test")) == 1 and scans.source(1).endswith("scene_1.npz")
    stored = np.load(SAMPLE / "scene_1.npz")
    cloud = scans[1]
    assert torch.equal(cloud.pos, torch.from_numpy(stored["xyz"]))
    assert torch.equal(cloud.rgb, torch.from_numpy(stored["rgb"].astype(np.float32) / 255))
    assert torch.equal(cloud.point_y, torch.from_numpy((stored["instance"] > 1).astype(np.int64)))
    expected = [0 if number < 2 else number - 1 for number in stored["instance"].tolist()]
    assert cloud.instance.tolist() == expected and max(expected) >= 1
    assert scans.targets["point_y"].names == ("table", "object")
    assert dict(check(scans))["clouds"] == "3"


def test_scenes_are_ordered_by_their_numbers(tmp_path):
    for i, number in enumerate([10, 9, 2, 0]):
        shutil.copy(SAMPLE / f"scene_{i}.npz", tmp_path / f"scene_{number}.npz")
    (tmp_path / "scene_3.npz.txt").write_text("")
    names = [Path(file).name for split in ("train", "test") for file in MOSD(str(tmp_path), split).files]
    assert names == ["scene_0.npz", "scene_2.npz", "scene_9.npz", "scene_10.npz"]


def test_points_of_neither_have_no_label(tmp_path):
    for number in range(2):
        stored = dict(np.load(SAMPLE / f"scene_{number}.npz"))
        stored["instance"][:7] = 0
        np.savez(tmp_path / f"scene_{number}.npz", **stored)
    assert (MOSD(str(tmp_path))[0].point_y[:8].tolist()) == [-1] * 7 + [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance": None}, r"scene_0.npz: expected xyz \(N, 3\), .* found instance: \['rgb', 'xyz'\]"),
        ({"rgb": np.zeros((340, 4), np.uint8)}, r"found rgb: uint8 \(340, 4\)"),
        ({"instance": np.ones(3, np.int16)}, "expected one row per point; found 340, 340 and 3"),
        ({"xyz": np.full((340, 3), np.nan, np.float32)}, "scene_0.npz: 340 of 340 points have NaN"),
    ],
)
def test_damaged_scenes_are_named(changes, message, tmp_path):
    for number in range(2):
        shutil.copy(SAMPLE / f"scene_{number}.npz", tmp_path)
    stored = {**dict(np.load(SAMPLE / "scene_0.npz")), **changes}
    np.savez(tmp_path / "scene_0.npz", **{name: value for name, value in stored.items() if value is not None})
    with pytest.raises(CloudError, match=message):
        MOSD(str(tmp_path))[0]


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(CloudError, match=r"expected scene_0.npz, scene_1.npz, ...; found 0 such files"):
        MOSD(str(tmp_path))
    with pytest.raises(CloudError, match="no such folder; expected scene_0.npz"):
        MOSD(str(tmp_path / "nowhere"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not here")
def test_the_real_scans():
    train, test = MOSD(str(REAL)), MOSD(str(REAL), "test")
    assert len(train) == 35 and len(test) == 10 and test.source(0).endswith("scene_35.npz")
    cloud = test[9]
    assert 150_000 < len(cloud.pos) < 220_000 and set(cloud.point_y.unique().tolist()) == {0, 1}
