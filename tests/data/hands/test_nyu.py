"""The hands of New York University: what is read of the sample, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.hand_files import (
    NYU_CAMERA,
    check_joints_in_box,
    check_joints_in_picture,
    check_points,
    nyu_joints,
    nyu_png,
    pixels,
    save_joints,
    write_nyu,
)

from geo3d.data import NYU
from geo3d.data.check import check
from geo3d.data.hands.nyu import JOINTS, read_depth, read_joints
from geo3d.data.targets import Joints
from geo3d.errors import CloudError
from geo3d.io.matlab import read_matlab

SAMPLE = Path(__file__).parents[3] / "datasets" / "nyu" / "sample"
REAL = Path(__file__).parents[4] / "shared" / "data" / "hands_nyu" / "nyu_test_uvd.npz"
PLACES = [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder in this layout that was written just now, and what is true of its frames."""
    root = tmp_path_factory.mktemp("nyu") / "made"
    return root, write_nyu(root)


@pytest.fixture
def root(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "nyu")
    return tmp_path / "nyu"


def slow_depth(path):
    """(480, 640) millimetres of a picture."""
    with Image.open(path) as image:
        channels = np.asarray(image).astype(int)
    return channels[..., 1] * 256 + channels[..., 2]


def test_frames_are_the_generated_hands(written):
    root, truth = written
    parts = [NYU(str(root), split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [3, 2] and len(truth) == 5
    for part in parts:
        for i, cloud in enumerate(part):
            path = Path(part.source(i))
            made = truth[path.relative_to(root).as_posix()]
            assert cloud.pos.dtype == cloud.joints.dtype == torch.float32 and set(cloud.keys()) == {"pos", "joints"}
            expected = torch.from_numpy(nyu_joints(made.joints)[PLACES])
            torch.testing.assert_close(cloud.joints.double(), expected, rtol=0, atol=1e-6)
            depth = slow_depth(path)
            assert np.array_equal(depth, made.depth) and depth.max() == 1900
            check_points(cloud.pos.double(), depth, NYU_CAMERA, expected.mean(0).tolist(), 0.15)
            check_joints_in_box(cloud)
            check_joints_in_picture(cloud.joints, np.where(depth == 1900, 0, 1000 * read_depth(path)), NYU_CAMERA)


def test_joints_are_in_the_order_of_their_names(written):
    root, truth = written
    frames = NYU(str(root), "test")
    assert frames.targets == {"joints": Joints(JOINTS)} and frames.classes == () and frames.labels is None
    assert len(JOINTS) == 14 and JOINTS[:2] == ("little_tip", "little_mid") and JOINTS[-1] == "palm"
    made, joints = truth["test/depth_1_0000002.png"].joints, dict(zip(JOINTS, frames[1].joints.tolist(), strict=True))
    for finger, tip in (("little", 20), ("ring", 16), ("middle", 12), ("index", 8), ("thumb", 4)):
        assert joints[f"{finger}_tip"] == pytest.approx(made[tip].tolist(), abs=1e-6)
        if finger != "thumb":
            assert joints[f"{finger}_mid"] == pytest.approx(made[tip - 2].tolist(), abs=1e-6)
    assert joints["thumb_mid"] == pytest.approx(((made[4] + made[3]) / 2).tolist(), abs=1e-6)
    assert joints["thumb_root"] == pytest.approx(made[2].tolist(), abs=1e-6)
    wrist = (np.array(joints["wrist_1"]) + joints["wrist_2"]) / 2
    assert wrist.tolist() == pytest.approx(made[0].tolist(), abs=1e-6)
    assert joints["palm"] == pytest.approx(((made[0] + made[9]) / 2).tolist(), abs=1e-6)


def test_joints_project_to_the_pixels_of_the_file():
    path = SAMPLE / "train" / "joint_data.mat"
    uvd = read_matlab(path, ["joint_uvd"])["joint_uvd"][0][:, PLACES]
    for joints, stored in zip(read_joints(path).double().numpy(), uvd, strict=True):
        np.testing.assert_allclose(pixels(joints, NYU_CAMERA), stored, atol=1e-3)


def test_the_cube_may_be_around_the_nearest_points():
    by_points, by_joints = NYU(str(SAMPLE), center="points")[0], NYU(str(SAMPLE))[0]
    assert torch.equal(by_points.joints, by_joints.joints) and float(by_points.pos[:, 2].max()) < 1.2
    assert len(NYU(str(SAMPLE), cut=0.05)[0].pos) < len(by_joints.pos)


def test_the_check_and_the_manifest():
    frames = NYU(str(SAMPLE))
    assert dict(check(frames))["clouds"] == "3"
    described = json.loads(json.dumps(frames.manifest()))
    assert described["data"] == "nyu" and described["num_clouds"] == 3 and described["cut"] == 0.15
    assert described["num_files"] == 4 and "train/joint_data.mat" in described["files"]


def test_no_picture_is_opened_before_its_frame(root):
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(CloudError, match="depth_1_0000001.png: the file is empty"):
        NYU(str(root))[0]


def test_missing_files_are_named(root):
    with pytest.raises(CloudError, match=r"nowhere: no such folder; expected train/ and test/, with joint_data.mat"):
        NYU(str(root / "nowhere"))
    (root / "train" / "depth_1_0000002.png").unlink()
    with pytest.raises(CloudError, match=r"train: expected .* each of the 3 frames of joint_data.mat; found 2; compl"):
        NYU(str(root))
    shutil.copy(root / "train" / "depth_1_0000003.png", root / "train" / "depth_1_0000004.png")
    with pytest.raises(CloudError, match="expected depth_1_0000001.png to depth_1_0000003.png; found .*000004.png"):
        NYU(str(root))
    (root / "test" / "joint_data.mat").unlink()
    with pytest.raises(CloudError, match=r"test/joint_data.mat: no such file"):
        NYU(str(root), "test")
    shutil.rmtree(root / "test")
    with pytest.raises(CloudError, match=r"test: no such folder; expected train/ and test/"):
        NYU(str(root), "test")


def test_other_pictures_beside_them_do_not_matter(root):
    for name in ("depth_2_0000001.png", "rgb_1_0000001.png", "synthdepth_1_0000001.png"):
        shutil.copy(root / "train" / "depth_1_0000001.png", root / "train" / name)
    assert len(NYU(str(root))) == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"joint_uvd": np.zeros((3, 3, 36, 3))}, "expected the arrays joint_xyz; found joint_names, joint_uvd"),
        ({"joint_xyz": np.zeros((3, 3, 31, 3))}, r"shape \(3, frames, 36, 3\) and floats; found \(3, 3, 31, 3\)"),
        ({"joint_xyz": np.zeros((1, 3, 36, 3))}, r"found \(1, 3, 36, 3\) of float64"),
        ({"joint_xyz": np.zeros((3, 3, 36, 3), np.int32)}, "of int32"),
        ({"joint_xyz": np.zeros((3, 2, 36, 3))}, "each of the 2 frames of joint_data.mat; found 3"),
    ],
)
def test_other_joint_files_are_refused(arrays, message, root):
    save_joints(root / "train" / "joint_data.mat", **arrays)
    with pytest.raises(CloudError, match=message):
        NYU(str(root))


def test_damaged_joint_files_are_refused(root):
    path = root / "train" / "joint_data.mat"
    content = path.read_bytes()
    for damaged in (content[:200], content[: len(content) // 2], b"x" * 400, b""):
        path.write_bytes(damaged)
        with pytest.raises(CloudError, match="joint_data.mat: expected") as error:
            NYU(str(root))
        assert "\n" not in str(error.value)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(400))
    with pytest.raises(CloudError, match="MATLAB's version 7.3 is not read; save the arrays with"):
        NYU(str(root))


def test_joints_that_are_no_numbers_are_named_with_their_frame(root):
    path = root / "train" / "joint_data.mat"
    xyz = read_matlab(path, ["joint_xyz"])["joint_xyz"]
    xyz[0, 1, 3, 1] = np.nan
    xyz[1] = np.nan  # the other cameras are not read
    save_joints(path, joint_xyz=xyz)
    frames = NYU(str(root))
    with pytest.raises(CloudError, match="depth_1_0000002.png: 1 of 14 joints are NaN or infinite"):
        frames[1]
    assert len(frames[0].pos)


def test_joints_of_another_unit_are_refused(root):
    path = root / "train" / "joint_data.mat"
    xyz = read_matlab(path, ["joint_xyz"])["joint_xyz"]
    save_joints(path, joint_xyz=xyz / 1000)
    with pytest.raises(CloudError, match=r"0000001.png: no point within 0.15 m of .*; check units and intrinsics"):
        NYU(str(root))[0]


def test_other_pictures_are_refused(root):
    path = root / "train" / "depth_1_0000001.png"
    frames, depth = NYU(str(root)), slow_depth(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CloudError, match="depth_1_0000001.png: the image is damaged or cut off"):
        frames[0]
    Image.fromarray(depth.astype(np.uint16)).save(path)
    with pytest.raises(CloudError, match="0000001.png: expected an image with three channels of 8 bits, found I;16"):
        frames[0]
    nyu_png(depth[:240].astype(np.uint16)).save(path)
    with pytest.raises(CloudError, match="0000001.png: expected a picture of 640x480 pixels, found 640x240"):
        frames[0]
    nyu_png(np.zeros_like(depth)).save(path)
    with pytest.raises(CloudError, match="0000001.png: all 307200 depths are 0"):
        frames[0]


@pytest.mark.skipif(not REAL.is_file(), reason="the real joints are not here")
def test_real_joints_have_the_lengths_of_hands():
    uvd = np.load(REAL)["groundtruth"].astype(float)
    z = uvd[..., 2] / 1000
    x, y = ((uvd[..., i] - NYU_CAMERA[2 + i]) * z / NYU_CAMERA[i] for i in range(2))
    joints = dict(zip(JOINTS, np.stack([x, y, z], -1).transpose(1, 0, 2), strict=True))

    def length(first, second):
        return float(np.median(np.linalg.norm(joints[first] - joints[second], axis=1)))

    for finger in ("little", "ring", "middle", "index"):
        assert 0.03 < length(f"{finger}_tip", f"{finger}_mid") < 0.06
        assert length("palm", f"{finger}_mid") < length("wrist_1", f"{finger}_mid")
    assert length("thumb_tip", "thumb_mid") < length("thumb_tip", "thumb_root")
    assert 0.02 < length("wrist_1", "wrist_2") < 0.08
