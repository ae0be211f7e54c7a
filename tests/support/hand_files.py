"""Generated hands in the layouts of MSRA15, NYU, ICVL and DexYCB.

Each writer returns what is true of the frames, by file. ``tests/data/hands/make_samples.py`` writes the samples in
``datasets/`` with them.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
import torch
from PIL import Image

from geo3d.data import Hands
from geo3d.ops.render.depth import depth_image

HANDS = Hands(size=64, seed=11)
MSRA_ORDER = [0, *range(5, 21), 1, 2, 3, 4]
"""Which of geo3d's joints is at each place of joint.txt: wrist, index, middle, ring, little, thumb."""
MSRA_CAMERA = (241.42, 241.42, 160.0, 120.0)
NYU_CAMERA = (588.036865, 587.075073, 320.0, 240.0)
ICVL_CAMERA = (240.99, 240.96, 160.0, 120.0)
SERIALS = {"836212060125": (617.3, 617.2, 312.4, 241.1), "932122062010": (612.7, 613.1, 321.9, 238.6)}
"""The first and the last of DexYCB's cameras, with made-up numbers."""
EDGE = 1e-6
"""Half the width, in metres, of the sides of a cube."""
FAR = 32001
"""What ICVL's pictures hold where nothing was measured."""


class Frame(NamedTuple):
    """A hand before a camera: what is true of it."""

    depth: np.ndarray
    """(H, W) uint16 millimetres, 0 where there is no hand."""
    joints: np.ndarray
    """(21, 3) float64 metres in the camera's axes, in geo3d's order."""
    hand: np.ndarray
    """(H, W) bool, the pixels of the hand, without those of the forearm."""


def frame(number, place, camera, size, arm=False, mirrored=False) -> Frame:
    """Hand ``number`` at a place, in metres, as a camera (fx, fy, cx, cy) sees it in a picture of ``size`` (W, H)."""
    hand = HANDS.hand(number)
    shift = torch.tensor(place) - hand.joints.mean(0)
    corner, joints = hand.corner + shift, hand.joints + shift
    label = hand.label if arm else hand.label[hand.label >= 0]
    corner = corner if arm else corner[hand.label >= 0]
    if mirrored:
        flip = torch.tensor([-1.0, 1.0, 1.0])
        corner, joints = corner * flip, joints * flip
    depth, face = depth_image(corner, size[1], size[0], camera[:2], camera[2:])
    seen = (face >= 0) & (label[face.clamp(min=0)] >= 0)
    return Frame((1000 * depth).round().numpy().astype(np.uint16), joints.double().numpy(), seen.numpy())


def pixels(joints, camera):
    """(J, 3) pixels u, v and depths in millimetres of joints in metres."""
    fx, fy, cx, cy = camera
    x, y, z = joints.T
    return np.stack([fx * x / z + cx, fy * y / z + cy, 1000 * z], 1)


def slow_points(depth, camera, center=None, cut=None):
    """(N, 3) points of a depth picture in millimetres by a loop over its pixels, inside a cube if there is one."""
    fx, fy, cx, cy = camera
    points = []
    for v, u in zip(*np.nonzero(depth), strict=True):
        z = depth[v, u] / 1000
        point = ((u - cx) * z / fx, (v - cy) * z / fy, z)
        if center is None or max(abs(a - b) for a, b in zip(point, center, strict=True)) <= cut:
            points.append(point)
    return torch.tensor(np.array(points))


def check_points(pos, depth, camera, center, cut) -> None:
    """Check that points (N, 3) are those of a picture inside a cube, in order; at its sides rounding decides."""
    points = slow_points(depth, camera, center, cut + EDGE)
    rows = torch.cdist(pos, points).min(1)
    inside = ((points - torch.as_tensor(center)).abs() <= cut - EDGE).all(1).nonzero()[:, 0]
    assert float(rows.values.max()) < 1e-6 and bool((rows.indices.diff() > 0).all())
    assert set(inside.tolist()) <= set(rows.indices.tolist()) and len(inside) > 0.9 * len(points)


def check_joints_in_picture(joints, depth, camera) -> None:
    """Check that nine of ten joints, in metres, are behind pixels of the hand, and half of them at most 3 cm.

    A wrist may be seen through the open end of a hand without a forearm, and fingers may hide others.
    """
    behind, near = [], []
    for u, v, z in pixels(np.asarray(joints, np.float64), camera):
        column, row = round(u), round(v)
        around = np.asarray(depth, np.float64)[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        behind.append(((around > 0) & (around < z + 8)).any())
        near.append((np.abs(around - z) < 30).any())
    assert np.mean(behind) > 0.9 and np.mean(near) > 0.5, (behind, near)


def check_joints_in_box(cloud) -> None:
    """Check that joints lie in the box of the points, up to the thickness of a finger, or of a hand that hides one."""
    low, high = cloud.pos.amin(0) - 0.02, cloud.pos.amax(0) + cloud.pos.new_tensor([0.02, 0.02, 0.05])
    assert bool(((cloud.joints > low) & (cloud.joints < high)).all())


# MSRA15


def depth_bin(depth, box=None) -> bytes:
    """A depth file: the part of a picture (H, W) in millimetres that holds the hand."""
    rows, columns = depth.any(1).nonzero()[0], depth.any(0).nonzero()[0]
    left, top, right, bottom = box or (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    header = struct.pack("<6i", depth.shape[1], depth.shape[0], left, top, right, bottom)
    return header + depth[top:bottom, left:right].astype("<f4").tobytes()


def joint_lines(joints) -> str:
    """The lines of joint.txt: millimetres, y up, and z negative."""
    rows = [(1000 * each[MSRA_ORDER] * [1, -1, -1]).reshape(-1) for each in joints]
    return "".join(" ".join(f"{value:.4f}" for value in row) + "\n" for row in rows)


def write_msra(root: Path, subjects=("P0", "P1", "P2"), gestures=("1", "TIP"), frames=2) -> dict[str, Frame]:
    truth, number = {}, 0
    for subject in subjects:
        for gesture in gestures:
            folder = root / subject / gesture
            folder.mkdir(parents=True)
            made = []
            for i in range(frames):
                place = (0.05 - 0.03 * i, 0.02 * number / 3 - 0.03, 0.75)
                made.append(frame(number, place, MSRA_CAMERA, (320, 240)))
                path = folder / f"{i:06d}_depth.bin"
                path.write_bytes(depth_bin(made[-1].depth))
                truth[path.relative_to(root).as_posix()] = made[-1]
                number += 1
            (folder / "joint.txt").write_text(f"{frames}\n" + joint_lines([each.joints for each in made]))
    return truth


# NYU


def nyu_png(depth) -> Image.Image:
    """A picture of millimetres: the upper 8 bits in green, the lower ones in blue."""
    return Image.fromarray(np.stack([np.zeros_like(depth), depth >> 8, depth & 255], 2).astype(np.uint8))


def nyu_joints(joints):
    """(36, 3) the joints of the file in metres: two for each joint of a finger, then six of wrist and palm."""
    fingers = []
    for tip in (20, 16, 12, 8, 4):  # little finger first, thumb last
        ends = joints[[tip, tip - 1, tip - 2, tip - 3]]
        middles = (ends[:-1] + ends[1:]) / 2
        fingers += [ends[0], middles[0], ends[1], ends[2], middles[2], ends[3]]
    wrist, across = joints[0], (joints[5] - joints[17]) / 4
    palm = (wrist + joints[9]) / 2
    return np.array([*fingers, wrist + across, wrist - across, palm, palm + across, palm - across, wrist])


def write_nyu(root: Path, train=3, test=2) -> dict[str, Frame]:
    truth, number = {}, 20
    for split, frames in (("train", train), ("test", test)):
        folder = root / split
        folder.mkdir(parents=True)
        stored = []
        for i in range(frames):
            made = frame(number, (0.06 - 0.05 * i, 0.04, 0.8 + 0.03 * i), NYU_CAMERA, (640, 480), arm=True)
            picture = np.where(made.depth, made.depth, np.uint16(1900))  # a wall behind
            picture[:, :40] = 0
            path = folder / f"depth_1_{i + 1:07d}.png"
            nyu_png(picture).save(path, optimize=True)
            truth[path.relative_to(root).as_posix()] = made._replace(depth=picture)
            stored.append(nyu_joints(made.joints))
            number += 1
        xyz = np.stack([1000 * np.array(stored) * [1, -1, 1]] * 3)  # y up
        xyz[1:] += 1000  # the other cameras are elsewhere
        uvd = np.stack([[pixels(each, NYU_CAMERA) for each in stored]] * 3)
        save_joints(folder / "joint_data.mat", joint_xyz=xyz, joint_uvd=uvd)
    return truth


def save_joints(path: Path, **arrays) -> None:
    names = [f"F{i}_KNU{k}_{side}" for i in range(1, 5) for k in (3, 2, 1) for side in "AB"]
    names += [f"TH_KNU{k}_{side}" for k in (3, 2, 1) for side in "AB"] + [f"PALM_{i}" for i in range(1, 7)]
    cells = np.empty((1, 36), object)
    cells[0] = names
    scipy.io.savemat(path, {"joint_names": cells, **arrays}, do_compression=True)


# ICVL


def icvl_joints(joints):
    """(16, 3) the joints of the file: palm, then root, middle and tip of each finger."""
    places = [1, 3, 4, *(5 + 4 * finger + joint for finger in range(4) for joint in (0, 1, 3))]
    return np.array([(joints[0] + joints[9]) / 2, *joints[places]])


def icvl_line(name, joints) -> str:
    return f"{name} " + " ".join(f"{value:.3f}" for value in pixels(icvl_joints(joints), ICVL_CAMERA).reshape(-1)) + " "


def write_icvl(root: Path) -> dict[str, Frame]:
    lists = {
        "Training/labels.txt": ["201403121135/image_0000.png", "201403121135/image_0001.png"],
        "Testing/test_seq_1.txt": ["test_seq_1/image_0000.png"],
        "Testing/test_seq_2.txt": ["test_seq_2/image_0000.png"],
    }
    lists["Training/labels.txt"].append("22-5/201403121135/image_0000.png")
    truth, number = {}, 30
    for name, pictures in lists.items():
        depths, lines = root / Path(name).parent / "Depth", []
        for picture in pictures:
            made = frame(number, (0.02, -0.03, 0.45), ICVL_CAMERA, (320, 240), arm=True)
            path = depths / picture
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(made.depth, made.depth, np.uint16(FAR))).save(path, optimize=True)
            truth[path.relative_to(root).as_posix()] = made
            lines.append(icvl_line(picture, made.joints))
            number += 1
        (root / name).write_text("\n".join(lines) + "\n\n", newline="\n")
    return truth


# DexYCB

META = """serials:
{serials}
num_frames: {frames}
extrinsics: 20200702_151821
mano_calib:
- 20200514-subject-01
ycb_ids:
- 1
- 11
ycb_grasp_ind: 0
mano_sides:
- {side}
"""


def write_meta(folder: Path, frames=0, side="right", hand=(), serials=tuple(SERIALS)) -> None:
    """``meta.yml`` and, if there are frames, ``pose.npz``; ``hand`` says which frames have a hand."""
    folder.mkdir(parents=True, exist_ok=True)
    text = META.format(serials="\n".join(f"- '{serial}'" for serial in serials), frames=frames, side=side)
    (folder / "meta.yml").write_text(text)
    if frames:
        pose = np.zeros((frames, 1, 51), np.float32)
        pose[np.array(hand)] = 0.25
        np.savez_compressed(folder / "pose.npz", pose_y=np.zeros((frames, 2, 7), np.float32), pose_m=pose)


def write_labels(path: Path, seg, joints, camera) -> None:
    there = joints is not None
    arrays = {
        "seg": seg,
        "pose_y": np.zeros((2, 3, 4), np.float32),
        "pose_m": np.full((1, 51), 0.25 if there else 0, np.float32),
        "joint_3d": np.full((1, 21, 3), -1, np.float32),
        "joint_2d": np.full((1, 21, 2), -1, np.float32),
    }
    if there:
        arrays["joint_3d"][0] = joints
        arrays["joint_2d"][0] = pixels(joints, camera)[:, :2]
    np.savez_compressed(path, **arrays)


def write_calibration(root: Path) -> None:
    folder = root / "calibration" / "intrinsics"
    folder.mkdir(parents=True)
    for serial, (fx, fy, cx, cy) in SERIALS.items():
        color = f"color:\n  fx: {fx}\n  fy: {fy}\n  ppx: {cx}\n  ppy: {cy}\n"
        depth = "depth:\n  fx: 388.1\n  fy: 388.1\n  ppx: 318.2\n  ppy: 238.4\n"
        moved = "depth_to_color:\n  translation: !!python/tuple\n  - 0.0149\n  - 0.0001\n  - 0.0003\n"
        (folder / f"{serial}_640x480.yml").write_text(color + depth + moved)


def write_sequence(folder: Path, root: Path, number: int, side: str, hand: tuple[bool, ...]) -> dict[str, Frame]:
    """A sequence of both cameras; the hand holds a block, which is before a wall."""
    write_meta(folder, len(hand), side, hand)
    truth = {}
    for serial, camera in SERIALS.items():
        (folder / serial).mkdir()
        for i, there in enumerate(hand):
            place = (0.03, 0.05, 0.9 + 0.02 * i)
            made = frame(number + i, place, camera, (640, 480), arm=True, mirrored=side == "left")
            seg = np.where(made.hand & there, 255, 0).astype(np.uint8)
            picture = np.where((made.depth > 0) & there, made.depth, np.uint16(1400))
            block = np.zeros_like(seg, bool)
            block[300:340, 300:350] = True
            block &= picture == 1400
            picture[block], seg[block] = 930, 1
            path = folder / serial / f"aligned_depth_to_color_{i:06d}.png"
            Image.fromarray(picture).save(path, optimize=True)
            write_labels(folder / serial / f"labels_{i:06d}.npz", seg, made.joints if there else None, camera)
            truth[path.relative_to(root).as_posix()] = made._replace(depth=picture) if there else None
    return truth


def write_dexycb(root: Path) -> dict[str, Frame]:
    """Two people with 100 sequences each, of which three have frames: at the places 0 and 39 in their order."""
    write_calibration(root)
    truth = {}
    for subject, day, full in (
        ("20200709-subject-01", "20200709", {0: (40, "right", (True, False))}),
        ("20201002-subject-08", "20201002", {0: (43, "left", (True,)), 39: (45, "right", (True,))}),
    ):
        for place in range(100):
            folder = root / subject / f"{day}_{140000 + 37 * place}"
            if place in full:
                truth |= write_sequence(folder, root, *full[place])
            else:
                write_meta(folder)
    return truth
