"""Single frames of ScanNet, from .sens files and from both layouts of exported images."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support.sens_files import (
    COLOR,
    DEPTH,
    LOST,
    POSE,
    colors,
    depths,
    encoded,
    intrinsic,
    numbers,
    sens_bytes,
    text,
    write,
    write_archive,
    write_exported,
    write_frame,
    write_lists,
)

from geo3d.data import ScanNetFrames
from geo3d.data.check import check
from geo3d.data.scannet.labels import CLASSES, class_of
from geo3d.errors import CloudError
from geo3d.geometry.frame import to_source

SAMPLES = Path(__file__).parents[2] / "datasets" / "scannet"
SCENE = "scene0000_00"


def write_sens(folder, **keywords):
    keywords = {"poses": [POSE, LOST["inf"], POSE, LOST["nan"], LOST["zeros"]], **keywords}
    write(folder / f"{folder.name}.sens", sens_bytes(**keywords))


@pytest.fixture
def root(tmp_path):
    write_lists(tmp_path, [SCENE], ["scene0002_00"])
    return tmp_path


def frames(root, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ScanNetFrames(str(root), **keywords)


def expected(seed=0):
    """World coordinates, colours and classes of a frame, by a loop over the pixels of its depth image."""
    points, rgb, classes = [], [], []
    inverse = np.linalg.inv(intrinsic(DEPTH))
    for v, row in enumerate(depths(seed)):
        for u, depth in enumerate(row):
            if depth:
                z = depth / 1000
                camera = inverse @ [u * z, v * z, z, 1]
                points.append((POSE @ camera)[:3])
                place = intrinsic(COLOR) @ camera
                column, line = (int(np.floor(place[i] / z + 0.5)) for i in range(2))
                rgb.append(colors(seed)[line, column] / 255)
                classes.append(class_of(int(numbers()[line, column])))
    return torch.tensor(np.array(points)), torch.tensor(np.array(rgb)), classes


def test_frames_of_a_sens_file_have_the_points_and_colours_of_a_slow_loop(root):
    write_sens(root / "scans" / SCENE)
    clouds = frames(root, every=1)
    assert len(clouds) == 2 and clouds.skipped == 3 and clouds.targets == {}
    for i, seed in enumerate((0, 2)):
        cloud, (points, rgb, _) = clouds[i], expected(seed)
        assert cloud.pos.dtype == torch.float32 and len(cloud.pos) == 46 and "frame" not in cloud
        torch.testing.assert_close(cloud.pos.double(), points, rtol=0, atol=1e-5)
        torch.testing.assert_close(cloud.rgb.double(), rgb, rtol=0, atol=1e-6)
    assert clouds.source(1).endswith("scene0000_00.sens, frame 2") and "point_y" not in clouds[0]
    heights = clouds[0].pos[:, 2]
    assert 1.5 - 0.6 < float(heights.min()) < 1.5 < float(heights.max()) < 1.5 + 0.6  # z is up


def test_camera_coordinates_have_z_up_and_lead_back_to_the_world(root):
    write_sens(root / "scans" / SCENE)
    cloud, world = frames(root, every=1, coordinates="camera")[0], frames(root, every=1)[0]
    torch.testing.assert_close(to_source(cloud.pos, cloud.frame), world.pos.double(), rtol=0, atol=1e-5)
    x, y, z = cloud.pos.unbind(1)
    assert bool((y >= 1.4).all())  # forward
    torch.testing.assert_close(z + 1.5, world.pos[:, 2])
    torch.testing.assert_close(1 - x, world.pos[:, 1])
    torch.testing.assert_close(cloud.rgb, world.rgb)


def test_exported_frames_are_read_in_both_layouts(root):
    write_exported(root / "scans" / SCENE)
    clouds = frames(root)
    assert len(clouds) == 2 and clouds.skipped == 1  # 51 is not divisible by 25
    assert clouds.source(1).endswith("depth/50.png") and clouds.targets == {}
    torch.testing.assert_close(clouds[1].pos.double(), expected(2)[0], rtol=0, atol=1e-5)
    assert float((clouds[1].rgb - expected(2)[1]).abs().mean()) < 0.1  # by JPEG
    assert len(frames(root, every=1)) == 3


def test_frames_of_the_archive_have_labels_and_are_taken_whole(root):
    write_archive(root / "scannet_frames_25k" / SCENE)
    clouds = frames(root)
    assert len(clouds) == 2 and clouds.skipped == 1 and clouds.source(1).endswith("depth/000203.png")
    points, _, classes = expected(2)
    torch.testing.assert_close(clouds[1].pos.double(), points, rtol=0, atol=1e-5)
    assert clouds[1].point_y.tolist() == classes and set(classes) == {-1, class_of(1), class_of(5)}
    assert clouds.targets["point_y"].names == CLASSES and clouds.targets["point_y"].ignore == -1
    assert frames(root, color=False)[1].point_y.tolist() == classes


def test_labels_of_another_size_are_read_at_the_same_place(root):
    folder = root / SCENE
    write_archive(folder)
    image = np.full((24, 32), 1, np.uint8)
    image[:, 16:] = 5
    for path in (folder / "label").iterdir():
        write(path, encoded(image, "PNG"))
    v, u = depths().nonzero()
    assert frames(root)[0].point_y.tolist() == [class_of(5 if each >= 4 else 1) for each in u]
    for path in (folder / "label").iterdir():
        write(path, encoded(image[:, :20], "PNG"))
    with pytest.raises(CloudError, match="depth/000000.png: expected an image of the shape 16x12, found 20x24"):
        frames(root)[0]


def test_points_that_the_colour_camera_does_not_see_are_left_out(root):
    folder = root / SCENE
    write_exported(folder)
    narrow = intrinsic(COLOR)
    narrow[0, 0] *= 2  # twice the focal length: the middle half of the columns
    write(folder / "intrinsic" / "intrinsic_color.txt", text(narrow))
    cloud, whole = frames(root)[0], frames(root, color=False)[0]
    v, u = depths().nonzero()
    inside = torch.from_numpy((u >= 2) & (u <= 5))
    assert len(cloud.pos) == len(cloud.rgb) == int(inside.sum()) < len(whole.pos)
    assert torch.equal(cloud.pos, whole.pos[inside]) and "rgb" not in whole


def test_frames_that_are_left_out_are_counted_in_one_warning(root):
    write_sens(root / "scans" / SCENE)
    with pytest.warns(UserWarning, match="3 of 5 frames have no valid pose or no depth, and are left out") as caught:
        ScanNetFrames(str(root), every=1)
    assert len(caught) == 1
    write_sens(root / "scans" / SCENE, poses=[POSE])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ScanNetFrames(str(root)).skipped == 0


def test_frames_without_depth_are_left_out(root):
    black = np.zeros_like(depths())
    write_sens(root / SCENE, poses=[POSE, POSE], depth_images=[depths(), black])
    clouds = frames(root, every=1)
    assert (len(clouds), clouds.skipped) == (1, 1)
    (root / SCENE / f"{SCENE}.sens").unlink()
    write_exported(root / SCENE, frames=((0, POSE), (25, POSE), (50, POSE)))
    write(root / SCENE / "depth" / "25.png", encoded(black, "PNG"))
    (root / SCENE / "depth" / "50.png").unlink()
    clouds = frames(root)
    assert (len(clouds), clouds.skipped) == (1, 2)


def test_poses_that_are_not_rigid_are_left_out(root):
    scaled, cut = POSE.copy(), POSE.copy()
    scaled[:3, :3] *= 1.1
    cut[3, 3] = 0
    write_exported(root / SCENE, frames=((0, POSE), (25, scaled), (50, cut), (75, LOST["inf"]), (100, LOST["nan"])))
    clouds = frames(root)
    assert (len(clouds), clouds.skipped) == (1, 4)


def test_damaged_poses_and_matrices_are_named(root):
    folder = root / SCENE
    write_exported(folder)
    pose = folder / "pose" / "50.txt"
    write(pose, text(POSE)[:60])
    with pytest.raises(
        CloudError, match=r"pose/50.txt: expected the 16 numbers of a matrix, found \d; the file may be"
    ):
        frames(root)
    write(pose, text(POSE).replace("1.500000", "x"))
    with pytest.raises(CloudError, match="pose/50.txt: expected numbers, found 'x'"):
        frames(root)
    pose.unlink()
    with pytest.raises(CloudError, match=r"pose/50.txt: no such file"):
        frames(root)
    write(pose, text(POSE))
    (folder / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(CloudError, match="intrinsic/intrinsic_color.txt: no such file"):
        frames(root)


def test_matrices_of_another_image_are_refused(root):
    folder = root / SCENE
    write_exported(folder)
    write(folder / "intrinsic" / "intrinsic_depth.txt", text(intrinsic(COLOR)))  # a repeated mistake
    with pytest.raises(
        CloudError, match="depth/0.png: the camera matrix is that of an image of about 16x12 pixels, the"
    ):
        frames(root)[0]
    write(folder / "intrinsic" / "intrinsic_depth.txt", text(intrinsic(DEPTH)))
    write(folder / "intrinsic" / "intrinsic_color.txt", text(intrinsic(DEPTH)))
    with pytest.raises(CloudError, match="about 8x6 pixels, the image has 16x12; give the matrix of this image"):
        frames(root)[0]
    assert len(frames(root, color=False)[0].pos) == 46


def test_cameras_whose_poses_are_not_known_are_refused(root):
    moved = np.eye(4)
    moved[0, 3] = 0.03
    write_sens(root / SCENE, extrinsics=(moved, np.eye(4)))
    with pytest.raises(
        CloudError, match="sens: expected that the poses are those of the colour camera.*; give color=fal"
    ):
        frames(root)
    assert len(frames(root, color=False)) == 1
    write_sens(root / SCENE, extrinsics=(np.eye(4), moved))
    with pytest.raises(
        CloudError, match="expected that the poses are those of the depth camera, found the extrinsic mat"
    ):
        frames(root, color=False)
    (root / SCENE / f"{SCENE}.sens").unlink()
    write_exported(root / SCENE)
    write(root / SCENE / "intrinsic" / "extrinsic_color.txt", text(moved))
    with pytest.raises(CloudError, match="extrinsic_color.txt: expected that the poses are those of the colour camera"):
        frames(root)


def test_missing_and_damaged_images_are_named(root):
    folder = root / SCENE
    write_archive(folder)
    (folder / "label" / "000203.png").unlink()
    with pytest.raises(CloudError, match=r"label: 1 of 2 images are missing, 000203.png first"):
        frames(root)
    (folder / "color" / "000000.jpg").unlink()
    with pytest.raises(CloudError, match=r"color: 1 of 2 images are missing, 000000.jpg first; give color=false"):
        frames(root)
    write_frame(folder, "000000", POSE, label=True)
    write_frame(folder, "000203", POSE, label=True)
    clouds = frames(root)
    path = folder / "depth" / "000203.png"
    write(path, path.read_bytes()[:50])
    with pytest.raises(CloudError, match="depth/000203.png: "):
        clouds[1]
    write(path, encoded(numbers(), "PNG"))
    with pytest.raises(CloudError, match="depth/000203.png: expected a PNG of one channel of 16 bits, found PNG L"):
        clouds[1]
    write(folder / "depth" / "old.png", b"")
    with pytest.raises(CloudError, match=r"depth: expected files called NUMBER.png, each number once; found \['old'\]"):
        frames(root)


def test_the_scenes_must_be_in_one_place_and_one_form(root):
    with pytest.raises(CloudError, match="1 of the 1 scenes of scannetv2_train.txt are missing, scene0000_00 first"):
        frames(root)
    (root / SCENE).mkdir()
    with pytest.raises(
        CloudError, match=r"expected scene0000_00.sens, intrinsic/intrinsic_depth.txt or intrinsics_dep"
    ):
        frames(root)
    write_sens(root / SCENE)
    write_exported(root / SCENE)
    with pytest.raises(CloudError, match="expected scene0000_00.sens or a folder of images, found both; move one away"):
        frames(root)
    write(root / SCENE / "intrinsics_depth.txt", text(intrinsic(DEPTH)))
    with pytest.raises(CloudError, match="expected intrinsics_depth.txt or intrinsic/intrinsic_depth.txt, found both"):
        frames(root)
    for name in ("scans", "scannet_frames_25k"):
        (root / name).mkdir()
    with pytest.raises(CloudError, match="expected scenes in scans or scannet_frames_25k, found both; move one away"):
        frames(root)


def test_scenes_with_and_without_labels_are_not_mixed(root):
    write_lists(root, [SCENE, "scene0001_00"], ["scene0002_00"])
    write_archive(root / SCENE)
    write_exported(root / "scene0001_00")
    with pytest.raises(CloudError, match="scene0001_00: expected a folder label, as other scenes have; 1 of 2 lack it"):
        frames(root)


def test_a_split_without_frames_is_refused(root):
    write_sens(root / SCENE, poses=[LOST["inf"], POSE])
    with pytest.raises(CloudError, match="no frame of the split train is left; give a smaller number every="):
        frames(root, every=2)
    write(root / SCENE / f"{SCENE}.sens", sens_bytes()[:-200])
    with pytest.raises(CloudError, match="scene0000_00.sens: cut off: the .* at byte"):
        frames(root)


def test_images_are_read_when_their_frame_is(root, monkeypatch):
    write_exported(root / SCENE)
    monkeypatch.setattr("geo3d.data.scannet.exported.SMALL", 0)
    opened = []
    monkeypatch.setattr("geo3d.data.scannet.exported.read_integers", lambda path, bits: opened.append(path))
    assert len(frames(root)) == 2 and not opened


def test_the_manifest_tells_frames_apart(root):
    write_exported(root / SCENE)
    one, other = frames(root).manifest(), frames(root, every=1).manifest()
    assert one["num_files"] == 2 and other["num_files"] == 3 and one["skipped"] == 1
    assert one != frames(root, coordinates="camera").manifest()


@pytest.mark.parametrize("name", ["sample_sens", "sample_exported", "sample_25k"])
def test_the_samples_are_sound(name):
    for split in ("train", "test"):
        clouds = frames(SAMPLES / name, split=split)
        assert dict(check(clouds))["clouds"] == str(len(clouds)) and clouds.skipped == (1 if split == "train" else 0)
        assert ("point_y" in clouds.targets) == (name == "sample_25k") and "rgb" in clouds[0]
