"""MSRA15: what is read of the sample, which person is left out, and what is refused."""

import json
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.hand_files import (
    MSRA_CAMERA,
    check_joints_in_box,
    check_joints_in_picture,
    check_points,
    depth_bin,
    write_msra,
)

from geo3d.data import MSRA15
from geo3d.data.check import check
from geo3d.data.hands.msra import read_depth
from geo3d.data.hands.skeleton import JOINTS
from geo3d.data.targets import Joints
from geo3d.errors import CloudError, ConfigError
from geo3d.tasks.datamodule import DataModule

SAMPLE = Path(__file__).parents[3] / "datasets" / "msra" / "sample"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder in this layout that was written just now, and what is true of its frames."""
    root = tmp_path_factory.mktemp("msra") / "made"
    return root, write_msra(root)


@pytest.fixture
def root(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "msra")
    return tmp_path / "msra"


def hands(root, split="train", **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return MSRA15(str(root), split, **keywords)


def slow_depth(path):
    """(240, 320) millimetres of a depth file, number by number."""
    content = path.read_bytes()
    *_, left, top, right, bottom = struct.unpack("<6i", content[:24])
    depth = np.zeros((240, 320))
    for i in range((right - left) * (bottom - top)):
        row, column = divmod(i, right - left)
        depth[top + row, left + column] = struct.unpack_from("<f", content, 24 + 4 * i)[0]
    return depth


def test_frames_are_the_generated_hands(written):
    root, truth = written
    frames = [*(hands(root, "test", subject=k) for k in range(3))]
    assert sum(map(len, frames)) == len(truth) == 12
    for part in frames:
        for i, cloud in enumerate(part):
            path = Path(part.source(i))
            made = truth[path.relative_to(root).as_posix()]
            assert cloud.pos.dtype == cloud.joints.dtype == torch.float32 and set(cloud.keys()) == {"pos", "joints"}
            torch.testing.assert_close(cloud.joints.double(), torch.from_numpy(made.joints), rtol=0, atol=1e-6)
            depth = slow_depth(path)
            assert np.array_equal(depth, made.depth)
            check_points(cloud.pos.double(), depth, MSRA_CAMERA, made.joints.mean(0), 0.125)
            check_joints_in_box(cloud)
            check_joints_in_picture(cloud.joints, 1000 * read_depth(path), MSRA_CAMERA)


def test_joints_are_in_the_order_of_their_names():
    frames = hands(SAMPLE)
    assert frames.targets == {"joints": Joints(JOINTS)} and frames.classes == () and frames.labels is None
    line = (SAMPLE / "P1" / "1" / "joint.txt").read_text().splitlines()[1]
    stored = np.array(line.split(), float).reshape(21, 3) / 1000
    joints = dict(zip(JOINTS, frames[0].joints.tolist(), strict=True))
    places = {"wrist": 0, "index_mcp": 1, "middle_tip": 8, "ring_mcp": 9, "little_tip": 16, "thumb_cmc": 17}
    for name, place in {**places, "thumb_tip": 20}.items():
        x, y, z = stored[place]
        assert joints[name] == pytest.approx([x, -y, -z], abs=1e-6)
    assert (stored[:, 2] < 0).all()


def test_one_person_is_left_out():
    for subject in range(3):
        for split in ("train", "test"):
            people = {Path(path).parts[-3] for path in hands(SAMPLE, split, subject=subject).files}
            assert people == ({f"P{subject}"} if split == "test" else {"P0", "P1", "P2"} - {f"P{subject}"})
    assert len(hands(SAMPLE)) == 8 and len(hands(SAMPLE, "test")) == 4
    with pytest.warns(UserWarning, match="sample: P3, P4, P5, P6, P7, P8 missing; results are not those of the"):
        MSRA15(str(SAMPLE))
    with pytest.raises(CloudError, match="sample: expected P5; there is none; give another split or complete it"):
        hands(SAMPLE, "test", subject=5)
    with pytest.raises(ConfigError, match="MSRA15.subject: 9 is not an int from 0 to 8"):
        hands(SAMPLE, subject=9)


def test_the_cube_may_be_around_the_nearest_points():
    by_points, by_joints = hands(SAMPLE, center="points")[0], hands(SAMPLE)[0]
    assert torch.equal(by_points.joints, by_joints.joints) and len(by_points.pos) > 400
    small = hands(SAMPLE, cut=0.04)[0]
    middle = small.joints.mean(0)
    assert 0 < len(small.pos) < len(by_joints.pos) and float((small.pos - middle).abs().max()) <= 0.04


def test_the_check_and_the_manifest():
    frames = hands(SAMPLE, "test", subject=1)
    assert dict(check(frames))["clouds"] == "4"
    described = json.loads(json.dumps(frames.manifest()))
    assert described["data"] == "msra" and described["subject"] == 1 and described["num_clouds"] == 4
    assert described["num_files"] == 6 and "P1/TIP/joint.txt" in described["files"]
    assert described != hands(SAMPLE, "test", subject=1, cut=0.1).manifest()


def test_batches_keep_joints():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data = DataModule(MSRA15, root=str(SAMPLE), num_points=200, batch_size=4, holdout=0.0)
        batch = next(iter(data.loader("train", torch.arange(4))))
    back = batch.joints.double() @ batch.frame[:, :3, :3].mT + batch.frame[:, None, :3, 3]
    torch.testing.assert_close(back.float(), hands(SAMPLE).joints[:4], rtol=0, atol=1e-6)


def test_no_depth_file_is_opened_before_its_frame(root):
    for path in root.rglob("*.bin"):
        path.write_bytes(b"")
    with pytest.raises(CloudError, match=r"000000_depth.bin: the file is empty"):
        hands(root)[0]


def test_counts_that_differ_are_all_named(root):
    path = root / "P1" / "1" / "joint.txt"
    text = path.read_text()
    path.write_text(text.replace("2\n", "3\n", 1))
    with pytest.raises(CloudError, match=r"P1/1/joint.txt: expected .* says, 3; found 2 lines and 2 depth files; comp"):
        hands(root)
    path.write_text("".join(text.splitlines(True)[:2]))
    with pytest.raises(CloudError, match="says, 2; found 1 lines and 2 depth files"):
        hands(root)
    path.write_text(text)
    shutil.copy(path.parent / "000001_depth.bin", path.parent / "000002_depth.bin")
    with pytest.raises(CloudError, match="says, 2; found 2 lines and 3 depth files"):
        hands(root)
    (path.parent / "000001_depth.bin").unlink()
    with pytest.raises(CloudError, match=r"expected 000000_depth.bin, .* without a gap; the last is 000002_depth.bin"):
        hands(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\n", "two\n", "joint.txt, line 1: expected the number of frames, found 'two'"),
        ("2\n", "2 63\n", "joint.txt, line 1: expected the number of frames, found '2 63'"),
        ("2\n", "2\n1 2 3\n", "found 3 lines"),
        (" ", "  x", "expected numbers, found 'x"),
        (" ", "", "joint.txt: expected 63 numbers for frame 0, found 62; file is cut"),
        (" ", " \0", "joint.txt, line 2: expected plain text, found a byte of value 0"),
    ],
)
def test_damaged_joints_are_named(old, new, message, root):
    path = root / "P1" / "1" / "joint.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CloudError, match=message):
        hands(root)


def test_missing_joints_are_named(root):
    (root / "P2" / "TIP" / "joint.txt").unlink()
    with pytest.raises(CloudError, match=r"P2/TIP/joint.txt: no such file"):
        hands(root)
    shutil.rmtree(root / "P2")
    (root / "P2").mkdir()
    with pytest.raises(CloudError, match="P2: expected a folder for each gesture, with joint.txt and depth files"):
        hands(root)
    with pytest.raises(CloudError, match="nowhere: no such folder; expected P0 to P8, with GESTURE/joint.txt"):
        hands(root / "nowhere")


def test_joints_that_are_no_numbers_are_named_with_their_frame(root):
    path = root / "P0" / "TIP" / "joint.txt"
    first, one, two = path.read_text().splitlines()
    path.write_text("\n".join([first, one, "nan " + two.split(" ", 1)[1]]))
    frames = hands(root, "test")
    with pytest.raises(CloudError, match=r"P0/TIP/000001_depth.bin: 1 of 21 joints are NaN or infinite"):
        frames[3]
    assert len(frames[2].pos)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-3], r"expected \d+ bytes by its header, found \d+; the file is damaged"),
        (lambda content: content + b"\0" * 4, "bytes by its header"),
        (lambda content: content[:20], "expected a header of 24 bytes, found 20; the file is cut off"),
        (lambda content: content[:24] + bytes(len(content) - 24), "all 76800 depths are 0, so there is no point"),
        (lambda content: struct.pack("<2i", 640, 480) + content[8:], r"picture of 320x240 pixels; .* \(640, 480,"),
        (lambda content: struct.pack("<6i", 320, 240, 9, 9, 9, 20) + content[24:], "header has width, height, left"),
        (lambda content: struct.pack("<6i", 320, 240, 9, 9, 400, 20) + content[24:], "header has width, height, left"),
        (lambda content: content[:-4] + struct.pack("<f", float("nan")), "expected depths from 0 on"),
    ],
)
def test_damaged_depths_are_named(change, message, root):
    path = root / "P0" / "1" / "000001_depth.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CloudError, match=f"P0/1/000001_depth.bin: .*{message}") as error:
        hands(root, "test")[1]
    assert "\n" not in str(error.value)


def test_an_empty_cube_is_named(root):
    path = root / "P0" / "1" / "000000_depth.bin"
    depth = np.zeros((240, 320))
    depth[10:20, 10:20] = 5000
    path.write_bytes(depth_bin(depth))
    with pytest.raises(
        CloudError, match=r"000000_depth.bin: no point within 0.125 m of .*; check units and intrinsics"
    ):
        hands(root, "test")[0]
