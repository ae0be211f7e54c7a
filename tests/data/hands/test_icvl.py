"""The hands of Imperial College: what is read of the sample, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.hand_files import (
    FAR,
    ICVL_CAMERA,
    check_joints_in_box,
    check_joints_in_picture,
    check_points,
    icvl_joints,
    write_icvl,
)

from geo3d.data import ICVL
from geo3d.data.check import check
from geo3d.data.hands.icvl import CHUNK, JOINTS, metric, read_list
from geo3d.data.targets import Joints
from geo3d.errors import CloudError

SAMPLE = Path(__file__).parents[3] / "datasets" / "icvl" / "sample"
FIRST = "201403121135/image_0000.png"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder in this layout that was written just now, and what is true of its frames."""
    root = tmp_path_factory.mktemp("icvl") / "made"
    return root, write_icvl(root)


@pytest.fixture
def root(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "icvl")
    return tmp_path / "icvl"


def slow_depth(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_frames_are_the_generated_hands(written):
    root, truth = written
    parts = [ICVL(str(root), split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [3, 2] and len(truth) == 5
    for part in parts:
        for i, cloud in enumerate(part):
            path = Path(part.source(i))
            made = truth[path.relative_to(root).as_posix()]
            assert cloud.pos.dtype == cloud.joints.dtype == torch.float32 and set(cloud.keys()) == {"pos", "joints"}
            expected = torch.from_numpy(icvl_joints(made.joints))
            torch.testing.assert_close(cloud.joints.double(), expected, rtol=0, atol=5e-6)
            depth = slow_depth(path)
            assert depth.max() == FAR and np.array_equal(np.where(depth == FAR, 0, depth), made.depth)
            check_points(cloud.pos.double(), depth, ICVL_CAMERA, cloud.joints.double().mean(0).tolist(), 0.125)
            check_joints_in_box(cloud)
            check_joints_in_picture(cloud.joints, made.depth, ICVL_CAMERA)


def test_joints_are_in_the_order_of_their_names(written):
    root, truth = written
    frames = ICVL(str(root))
    assert frames.targets == {"joints": Joints(JOINTS)} and frames.classes == () and frames.labels is None
    assert len(JOINTS) == 16 and JOINTS[:4] == ("palm", "thumb_root", "thumb_mid", "thumb_tip")
    made = truth[f"Training/Depth/{FIRST}"].joints
    joints = dict(zip(JOINTS, frames[0].joints.tolist(), strict=True))
    for finger, tip in (("little", 20), ("ring", 16), ("middle", 12), ("index", 8)):
        for name, place in (("tip", tip), ("mid", tip - 2), ("root", tip - 3)):
            assert joints[f"{finger}_{name}"] == pytest.approx(made[place].tolist(), abs=5e-6)
    assert joints["thumb_tip"] == pytest.approx(made[4].tolist(), abs=5e-6)


def test_pixels_and_depths_become_metres():
    joints = metric(np.array([[[160.0, 120.0, 500.0], [160.0 + 240.99, 120.0 - 240.96, 400.0]]]))
    assert joints.dtype == torch.float32
    torch.testing.assert_close(joints, torch.tensor([[[0.0, 0.0, 0.5], [0.4, -0.4, 0.4]]]))


def test_turned_copies_can_be_left_out(root):
    names = [Path(path).relative_to(SAMPLE / "Training" / "Depth").as_posix() for path in ICVL(str(SAMPLE)).files]
    assert names == [FIRST, "201403121135/image_0001.png", "22-5/201403121135/image_0000.png"]
    plain = ICVL(str(SAMPLE), rotated=False)
    assert [str(path) for path in plain.files] == [str(path) for path in ICVL(str(SAMPLE)).files[:2]]
    assert len(ICVL(str(SAMPLE), "test", rotated=False)) == 2
    path, depth = root / "Training" / "labels.txt", root / "Training" / "Depth"
    lines = path.read_text().splitlines()
    for angle in ("45", "-112-5", "180", "-90"):
        shutil.copytree(depth / "22-5", depth / angle)
        lines.append(lines[2].replace("22-5/", f"{angle}/"))
    path.write_text("\r\n".join(lines))
    assert len(ICVL(str(root))) == 7 and len(ICVL(str(root), rotated=False)) == 2
    shutil.rmtree(depth / "45")
    with pytest.raises(
        CloudError, match="labels.txt: 1 of 7 pictures are missing in Depth, 45/.* first; give rotated="
    ):
        ICVL(str(root))
    assert len(ICVL(str(root), rotated=False)) == 2


def test_both_test_sequences_are_read_in_order():
    assert [Path(path).parts[-2] for path in ICVL(str(SAMPLE), "test").files] == ["test_seq_1", "test_seq_2"]


def test_long_lists_are_read_in_parts(root):
    path = root / "Testing" / "test_seq_1.txt"
    line = path.read_text().split("\n")[0]
    numbers = line.split()[1:]
    many = CHUNK + 3
    rows = [" ".join(["test_seq_1/image_0000.png", f"{i}.5", *numbers[1:]]) for i in range(many)]
    path.write_text("\r\r\n".join(rows) + "\r\r\n")  # as line ends are in one of the published lists
    files, joints = read_list(path, True)
    assert len(files) == many and joints.shape == (many, 16, 3)
    z = float(numbers[2]) / 1000
    expected = (torch.arange(many) + 0.5 - 160) * z / 240.99
    torch.testing.assert_close(joints[:, 0, 0], expected, rtol=0, atol=1e-5)


def test_the_cube_may_be_around_the_nearest_points():
    by_points, by_joints = ICVL(str(SAMPLE), center="points")[0], ICVL(str(SAMPLE))[0]
    assert torch.equal(by_points.joints, by_joints.joints) and float(by_points.pos[:, 2].max()) < 1
    assert len(ICVL(str(SAMPLE), cut=0.05)[0].pos) < len(by_joints.pos)


def test_the_check_and_the_manifest():
    frames = ICVL(str(SAMPLE), "test")
    assert dict(check(frames))["clouds"] == "2"
    described = json.loads(json.dumps(frames.manifest()))
    assert described["data"] == "icvl" and described["num_clouds"] == 2 and described["rotated"] is True
    assert described["num_files"] == 4 and "Testing/test_seq_2.txt" in described["files"]


def test_no_picture_is_opened_before_its_frame(root):
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(CloudError, match="image_0000.png: the file is empty"):
        ICVL(str(root))[0]


def test_missing_files_are_named(root):
    with pytest.raises(CloudError, match="nowhere: no such folder; expected Training/labels.txt, Testing/test_seq_1"):
        ICVL(str(root / "nowhere"))
    (root / "Training" / "Depth" / FIRST).unlink()
    with pytest.raises(CloudError, match=f"labels.txt: 1 of 3 pictures are missing in Depth, {FIRST} first$"):
        ICVL(str(root))
    (root / "Testing" / "test_seq_2.txt").unlink()
    with pytest.raises(CloudError, match=r"Testing/test_seq_2.txt: no such file"):
        ICVL(str(root), "test")
    shutil.rmtree(root / "Training" / "Depth")
    with pytest.raises(CloudError, match=r"Training/Depth: no such folder"):
        ICVL(str(root))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda line: line.rsplit(maxsplit=1)[0],
            f"labels.txt: expected 48 numbers for {FIRST}, found 47; the file may",
        ),
        (lambda line: line + " 7", "expected 48 numbers for .*, found 49"),
        (lambda line: line.replace(".png ", ".png x", 1), "labels.txt: expected numbers, found 'x"),
        (lambda line: line.split(" ", 1)[1], "expected SEQUENCE/image_0000.png at the beginning of a line, found"),
        (lambda line: "../Depth/" + line, r"beginning of a line, found '../Depth/201403121135/image_0000.png'"),
        (lambda line: "/" + line, "beginning of a line, found '/2014"),
    ],
)
def test_damaged_lists_are_named(change, message, root):
    path = root / "Training" / "labels.txt"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([change(first.strip()), *rest]))
    with pytest.raises(CloudError, match=message):
        ICVL(str(root))


def test_empty_lists_are_named(root):
    path = root / "Training" / "labels.txt"
    path.write_text(path.read_text().splitlines()[2])
    with pytest.raises(CloudError, match="labels.txt: expected a picture and 48 numbers in each line; no line is left"):
        ICVL(str(root), rotated=False)
    path.write_text("")
    with pytest.raises(CloudError, match="labels.txt: the file is empty"):
        ICVL(str(root))


def test_joints_that_are_no_numbers_are_named_with_their_frame(root):
    path = root / "Training" / "labels.txt"
    name, _, *rest = path.read_text().split(" ")
    path.write_text(" ".join([name, "nan", *rest]))
    frames = ICVL(str(root))
    with pytest.raises(CloudError, match=f"{FIRST}: 1 of 16 joints are NaN or infinite"):
        frames[0]
    assert len(frames[1].pos)


def test_other_pictures_are_refused(root):
    path = root / "Training" / "Depth" / FIRST
    frames, depth = ICVL(str(root)), slow_depth(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CloudError, match="image_0000.png: the image is damaged or cut off"):
        frames[0]
    for image, message in (
        (Image.fromarray((depth // 256).astype(np.uint8)), "expected a PNG of one channel of 16 bits, found PNG L"),
        (Image.fromarray(depth.astype(np.uint16)[:120]), "expected a picture of 320x240 pixels, found 320x120"),
        (Image.fromarray(np.zeros((240, 320), np.uint16)), "all 76800 depths are 0"),
        (Image.fromarray(np.full((240, 320), FAR, np.uint16)), "no point within 0.125 m of .*; check units and intrin"),
    ):
        image.save(path)
        with pytest.raises(CloudError, match=f"image_0000.png: {message}") as error:
            frames[0]
        assert "\n" not in str(error.value)
