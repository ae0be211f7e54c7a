"""DexYCB: what is read of the sample, its setups, mirrored left hands, and what is refused."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.hand_files import (
    SERIALS,
    check_joints_in_box,
    check_joints_in_picture,
    check_points,
    frame,
    write_dexycb,
    write_labels,
    write_meta,
)

from geo3d.cloud import collate
from geo3d.data import DexYCB
from geo3d.data.check import check
from geo3d.data.hands.dexycb_setups import SERIALS as CAMERAS
from geo3d.data.hands.dexycb_setups import SETUPS
from geo3d.data.hands.skeleton import JOINTS
from geo3d.data.targets import Joints
from geo3d.errors import CloudError, ConfigError
from geo3d.geometry.frame import to_source

SAMPLE = Path(__file__).parents[3] / "datasets" / "dexycb" / "sample"
ONE, EIGHT = "20200709-subject-01", "20201002-subject-08"
RIGHT, LEFT, LATER = f"{ONE}/20200709_140000", f"{EIGHT}/20201002_140000", f"{EIGHT}/20201002_141443"
FIRST, LAST = SERIALS


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder in this layout that was written just now, and what is true of its frames."""
    root = tmp_path_factory.mktemp("dexycb") / "made"
    return root, write_dexycb(root)


@pytest.fixture
def root(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "dexycb")
    return tmp_path / "dexycb"


def hands(root, split="train", **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return DexYCB(str(root), split, **keywords)


def sequences(frames):
    """Sequences and cameras of the frames."""
    return [(Path(path).parent.parent.name, Path(path).parent.name) for path in map(frames.source, range(len(frames)))]


def test_frames_are_the_generated_hands(written):
    root, truth = written
    known = {name for name, made in truth.items() if made is not None}
    read = set()
    for split in ("train", "test"):
        part = hands(root, split)
        for i, cloud in enumerate(part):
            path = Path(part.source(i))
            name = path.relative_to(root).as_posix()
            made, camera = truth[name], SERIALS[path.parent.name]
            read.add(name)
            assert cloud.pos.dtype == cloud.joints.dtype == torch.float32
            pos, joints = cloud.pos.double(), cloud.joints.double()
            if name.startswith(LEFT):
                pos, joints = to_source(cloud.pos, cloud.frame), to_source(cloud.joints, cloud.frame)
            torch.testing.assert_close(joints, torch.from_numpy(made.joints), rtol=0, atol=1e-6)
            with Image.open(path) as image:
                depth = np.asarray(image).astype(int)
            assert np.array_equal(depth, made.depth)
            check_points(pos, np.where(depth == 1400, 0, depth), camera, made.joints.mean(0), 0.125)
            check_joints_in_box(cloud)
            check_joints_in_picture(made.joints, np.where(made.hand, depth, 0), camera)
    assert read == known and len(known) == 6


def test_joints_are_in_the_order_of_geo3d(written):
    root, truth = written
    frames = hands(root, setup="s1")
    assert frames.targets == {"joints": Joints(JOINTS)} and frames.classes == () and frames.labels is None
    made = truth[f"{RIGHT}/{FIRST}/aligned_depth_to_color_000000.png"].joints
    assert frames[0].joints[JOINTS.index("index_tip")].tolist() == pytest.approx(made[8].tolist(), abs=1e-6)


def test_left_hands_are_mirrored_and_lead_back(written):
    root, _ = written
    frames = hands(root, side="left")
    assert len(frames) == 2 and {name for name, _ in sequences(frames)} == {Path(LEFT).name}
    cloud = frames[0]
    assert cloud.frame.dtype == torch.float64 and cloud.frame.tolist() == np.diag([-1.0, 1, 1, 1]).tolist()
    unmirrored = frame(43, (0.03, 0.05, 0.9), SERIALS[FIRST], (640, 480))  # the right hand that the sample mirrors
    torch.testing.assert_close(cloud.joints.double(), torch.from_numpy(unmirrored.joints), rtol=0, atol=1e-6)
    stored = np.load(Path(frames.source(0)).parent / "labels_000000.npz")["joint_3d"][0]
    assert np.array_equal(to_source(cloud.joints, cloud.frame).numpy(), stored.astype(float))
    assert float(cloud.joints[:, 0].mean()) > 0 > stored[:, 0].mean()
    clouds = [hands(root, side="right")[0], cloud]
    assert "frame" not in clouds[0]
    batch = collate(clouds)
    assert torch.equal(batch.frame[0], torch.eye(4, dtype=torch.float64)) and torch.equal(batch.frame[1], cloud.frame)


def test_frames_without_a_hand_and_other_hands_are_counted():
    both, right, left = (hands(SAMPLE, side=side) for side in ("both", "right", "left"))
    assert (len(both), both.without_hand, both.other_side) == (4, 2, 0)
    assert (len(right), right.without_hand, right.other_side) == (2, 2, 2)
    assert (len(left), left.without_hand, left.other_side) == (2, 0, 4)
    described = json.loads(json.dumps(right.manifest()))
    assert (described["num_clouds"], described["without_hand"], described["other_side"]) == (2, 2, 2)
    assert described["data"] == "dexycb" and described["setup"] == "s0" and described["num_files"] == 2
    with pytest.raises(CloudError, match="no frame of the split test of setup s0 is left; 0 have no hand, 2 the other"):
        hands(SAMPLE, "test", side="left")


def test_the_setups_divide_the_sample():
    right, left, later = (Path(name).name for name in (RIGHT, LEFT, LATER))
    expected = {
        ("s0", "train"): [(right, FIRST), (right, LAST), (left, FIRST), (left, LAST)],
        ("s0", "test"): [(later, FIRST), (later, LAST)],
        ("s1", "train"): [(right, FIRST), (right, LAST)],
        ("s1", "test"): [(left, FIRST), (left, LAST), (later, FIRST), (later, LAST)],
        ("s2", "train"): [(right, FIRST), (left, FIRST), (later, FIRST)],
        ("s2", "test"): [(right, LAST), (left, LAST), (later, LAST)],
        ("s3", "train"): [(right, FIRST), (right, LAST), (left, FIRST), (left, LAST)],
        ("s3", "test"): [(later, FIRST), (later, LAST)],
    }
    for (setup, split), names in expected.items():
        frames = hands(SAMPLE, split, setup=setup)
        assert sequences(frames) == names
        assert dict(check(frames))["clouds"] == str(len(names))


def test_the_setups_are_those_of_the_toolkit():
    sizes = {"s0": (800, 160, 8, 8), "s1": (700, 200, 8, 8), "s2": (1000, 1000, 6, 1), "s3": (750, 150, 8, 8)}
    for setup, (train, test, cameras, test_cameras) in sizes.items():
        parts = [SETUPS[setup][split] for split in ("train", "test")]
        assert [len(part.people) * len(part.sequences) for part in parts] == [train, test]
        assert [len(part.serials) for part in parts] == [cameras, test_cameras]
        tried = [
            {(person, place, serial) for person in part.people for place in part.sequences for serial in part.serials}
            for part in parts
        ]
        assert not tried[0] & tried[1]
    assert len(CAMERAS) == 8 and SETUPS["s2"]["test"].serials == ("932122062010",)
    assert {4, 39, 99} <= set(SETUPS["s0"]["test"].sequences) and {35, 39, 79} <= set(SETUPS["s3"]["test"].sequences)
    assert 15 not in SETUPS["s3"]["train"].sequences and 15 not in SETUPS["s3"]["test"].sequences


def test_only_the_points_of_the_hand(written):
    root, truth = written
    whole, hand = hands(root)[0], hands(root, only_hand=True)[0]
    made = truth[f"{RIGHT}/{FIRST}/aligned_depth_to_color_000000.png"]
    check_points(hand.pos.double(), np.where(made.hand, made.depth, 0), SERIALS[FIRST], made.joints.mean(0), 0.125)
    assert 1000 < len(hand.pos) < len(whole.pos) and torch.equal(hand.joints, whole.joints)


def test_the_cube_may_be_around_the_nearest_points():
    by_points, by_joints = hands(SAMPLE, center="points")[0], hands(SAMPLE)[0]
    assert torch.equal(by_points.joints, by_joints.joints) and float(by_points.pos[:, 2].max()) < 1.2
    assert len(hands(SAMPLE, cut=0.05)[0].pos) < len(by_joints.pos)


def test_people_that_are_missing_are_said():
    with pytest.warns(UserWarning, match="sample: subject-02, .* subject-10 missing; results are not those of the ben"):
        DexYCB(str(SAMPLE))


def test_setups_by_order_need_all_sequences(root):
    for path in sorted((root / ONE).iterdir())[1:]:
        shutil.rmtree(path)
    with pytest.raises(
        CloudError, match=f"{ONE}: expected 100 sequences, .* found 1; complete the folder, or give set"
    ):
        hands(root)
    assert len(hands(root, setup="s1")) == 2 and len(hands(root, setup="s2")) == 3
    shutil.rmtree(root / EIGHT)
    with pytest.raises(CloudError, match="dexycb: expected subject-08, subject-09; there is none; give another split"):
        hands(root, "test", setup="s1")
    with pytest.raises(ConfigError, match="DexYCB.setup: 's4' is not s0, s1, s2 or s3"):
        hands(root, setup="s4")
    with pytest.raises(CloudError, match="nowhere: no such folder; expected 20200709-subject-01/SEQUENCE/SERIAL"):
        hands(root / "nowhere")


def test_no_frame_is_opened_before_it_is_asked_for(root):
    for path in [*root.rglob("*.png"), *root.rglob("labels_*.npz")]:
        path.unlink()
    frames = hands(root)
    assert len(frames) == 4
    with pytest.raises(CloudError, match=r"labels_000000.npz: no such file"):
        frames[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_frames: 2", "frames: 2", r"meta.yml: expected serials .*, num_frames and mano_sides .* and \['right'\]"),
        ("- right", "- both", r"mano_sides \(\[right\] or \[left\]\); found"),
        (f"- '{LAST}'", "- '123'", r"expected serials \(of the eight cameras\)"),
        ("num_frames: 2", "num_frames: 3", r"pose.npz: expected pose_m of shape \(3, 1, 51\), .* found \(2, 1, 51\)"),
        ("serials:", "serials: [", "meta.yml: expected YAML of plain values; it is damaged or another"),
        ("ycb_ids:", "ycb_ids: !!python/object/apply:os.getcwd []\nx:", "meta.yml: expected YAML of plain values"),
    ],
)
def test_damaged_descriptions_are_named(old, new, message, root):
    path = root / RIGHT / "meta.yml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CloudError, match=message) as error:
        hands(root)
    assert "\n" not in str(error.value)


def test_a_list_is_no_description(root):
    (root / RIGHT / "meta.yml").write_text("- 1\n")
    with pytest.raises(CloudError, match=r"meta.yml: expected a mapping of names to values, found '\[1\]'"):
        hands(root)


def test_missing_descriptions_are_named(root):
    (root / RIGHT / "pose.npz").unlink()
    with pytest.raises(CloudError, match=r"pose.npz: no such file"):
        hands(root)
    np.savez(root / RIGHT / "pose.npz", pose_y=np.zeros(3))
    with pytest.raises(CloudError, match=r"pose.npz: expected pose_m of shape \(2, 1, 51\), .* found None"):
        hands(root)
    (root / RIGHT / "meta.yml").unlink()
    with pytest.raises(CloudError, match=r"meta.yml: no such file"):
        hands(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "836212060125_640x480.yml: no such file"),
        ("depth: {fx: 1}", "expected color with the numbers fx, fy, ppx, ppy; found None"),
        ("color: {fx: 600, fy: 600, ppx: 320}", "expected color with the numbers fx, fy, ppx, ppy; found {'fx': 600"),
        ("color: {fx: 600, fy: x, ppx: 320, ppy: 240}", "expected color with the numbers"),
        ("color: {fx: 600, fy: -600, ppx: 320, ppy: 240}", "wrong intrinsics: .* 640x480 pixels; found .* fy -600"),
        ("color: {fx: 600, fy: 600, ppx: 4000, ppy: 240}", "wrong intrinsics: .* cx 4000"),
        ("color: {fx: .nan, fy: 600, ppx: 320, ppy: 240}", "wrong intrinsics: .* fx nan"),
    ],
)
def test_other_cameras_are_refused(text, message, root):
    path = root / "calibration" / "intrinsics" / f"{FIRST}_640x480.yml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(CloudError, match=message):
        hands(root)


def labels(**changes):
    """Changes of an archive of labels; None leaves an array out."""

    def change(path):
        arrays = {**dict(np.load(path)), **changes}
        np.savez(path, **{name: value for name, value in arrays.items() if value is not None})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            labels(joint_3d=None),
            r"expected joint_3d of shape \(1, 21, 3\) and floats; found the arrays \['joint_2d', 'pose_m'",
        ),
        (labels(joint_3d=np.zeros((21, 3), np.float32)), r"found \(21, 3\) of float32"),
        (
            labels(joint_3d=np.full((1, 21, 3), -1, np.float32)),
            "all joints are -1, so there is no hand, but pose.npz has",
        ),
        (labels(joint_3d=np.full((1, 21, 3), np.nan, np.float32)), "color_000000.png: 21 of 21 joints are NaN"),
        (labels(joint_3d=np.full((1, 21, 3), 500, np.float32)), r"no point within 0.125 m of \(500, 500, 500\)"),
        (labels(seg=None), r"expected seg of shape \(480, 640\), found none; give only_hand=false"),
        (labels(seg=np.zeros((48, 64), np.uint8)), r"expected seg of shape \(480, 640\), found \(48, 64\)"),
        (labels(seg=np.ones((480, 640), np.uint8)), "no pixel of seg is 255, the hand's label; give only_hand=false"),
        (lambda path: path.write_bytes(path.read_bytes()[:700]), "labels_000000.npz: expected NumPy arrays of numbers"),
    ],
)
def test_damaged_labels_are_named(change, message, root):
    change(root / RIGHT / FIRST / "labels_000000.npz")
    frames = hands(root, only_hand=True)
    with pytest.raises(CloudError, match=message) as error:
        frames[0]
    assert "\n" not in str(error.value)
    assert len(frames[1].pos)


def test_other_pictures_are_refused(root):
    path = root / RIGHT / FIRST / "aligned_depth_to_color_000000.png"
    frames = hands(root)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CloudError, match="color_000000.png: the image is damaged or cut off"):
        frames[0]
    for image, message in (
        (np.zeros((480, 640), np.uint8), "expected a PNG of one channel of 16 bits, found PNG L"),
        (np.zeros((480, 640, 3), np.uint8), "expected a PNG of one channel of 16 bits, found PNG RGB"),
        (np.zeros((240, 320), np.uint16), "expected a picture of 640x480 pixels, found 320x240"),
        (np.zeros((480, 640), np.uint16), "all 307200 depths are 0"),
    ):
        Image.fromarray(image).save(path)
        with pytest.raises(CloudError, match=f"color_000000.png: {message}"):
            frames[0]


def test_a_sequence_of_fewer_cameras_has_those_it_names(root):
    write_meta(root / RIGHT, 2, "right", (True, True), serials=(LAST,))
    made = frame(41, (0.03, 0.05, 0.92), SERIALS[LAST], (640, 480))
    seg = np.where(made.hand, 255, 0).astype(np.uint8)
    write_labels(root / RIGHT / LAST / "labels_000001.npz", seg, made.joints, SERIALS[LAST])
    Image.fromarray(made.depth).save(root / RIGHT / LAST / "aligned_depth_to_color_000001.png")
    frames = hands(root, setup="s1")
    assert sequences(frames) == [(Path(RIGHT).name, LAST)] * 2 and frames.without_hand == 0
    torch.testing.assert_close(frames[1].joints.double(), torch.from_numpy(made.joints), rtol=0, atol=1e-6)
    assert frames.source(1).endswith("aligned_depth_to_color_000001.png") and frames.source(-1) == frames.source(1)
