"""Tiny ``.sens`` files and exported frames of ScanNet, made for tests."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

DEPTH, COLOR = (8, 6), (16, 12)
"""Width and height of the images; as in ScanNet, the colour image is larger."""
POSE = np.array([[0, 0, 1, 2], [-1, 0, 0, 1], [0, -1, 0, 1.5], [0, 0, 0, 1]], dtype=float)
"""A level camera at (2, 1, 1.5) that looks along the world's x axis; z is up."""
EYE = np.eye(4)
LOST = {"inf": np.full((4, 4), -np.inf), "nan": np.full((4, 4), np.nan), "zeros": np.zeros((4, 4))}
"""Poses of frames where the camera was lost."""


def intrinsic(size, focal=8.0):
    """(4, 4) the matrix of a camera whose image has this size; both cameras see nearly the same part of the room."""
    width, height = size
    scale = width / DEPTH[0]
    matrix = np.eye(4)
    matrix[0, 0] = matrix[1, 1] = focal * scale
    matrix[0, 2], matrix[1, 2] = (width - 1) / 2, (height - 1) / 2
    if size == COLOR:  # otherwise points would lie just between two pixels
        matrix[:2, 2] -= 0.2
    return matrix


def depths(seed=0):
    """(6, 8) uint16 millimetres of a wall with a step; two pixels without depth."""
    image = np.full((DEPTH[1], DEPTH[0]), 1500 + 100 * seed, dtype=np.uint16)
    image[:, 4:] += 250
    image[0, 0] = image[5, 7] = 0
    return image


def colors(seed=0):
    """(12, 16, 3) uint8, a colour of its own for each pixel."""
    v, u = np.mgrid[: COLOR[1], : COLOR[0]]
    return np.stack([u * 16, v * 20, np.full_like(u, 40 + seed)], -1).astype(np.uint8)


def numbers():
    """(12, 16) uint8 NYU40 numbers: wall and chair, a number that the benchmark leaves out, and one too large."""
    image = np.ones((COLOR[1], COLOR[0]), dtype=np.uint8)
    image[:, 8:] = 5
    image[10:] = 13
    image[0] = 149
    return image


def encoded(image, form):
    """The image as a PNG or JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


def sens_bytes(
    poses=(POSE, LOST["inf"], POSE), version=4, color_codec=1, depth_codec=1, extrinsics=(EYE, EYE),
    depth_images=None, imu=2,
):  # fmt: skip
    """A whole file with a frame for each pose."""
    name = b"StructureSensor"
    matrices = (intrinsic(COLOR), extrinsics[0], intrinsic(DEPTH), extrinsics[1])
    parts = [struct.pack("<IQ", version, len(name)), name]
    parts += [np.asarray(matrix, "<f4").tobytes() for matrix in matrices]
    parts.append(struct.pack("<2i4IfQ", color_codec, depth_codec, *COLOR, *DEPTH, 1000.0, len(poses)))
    for i, pose in enumerate(poses):
        picture = {0: colors(i).tobytes(), 1: encoded(colors(i), "PNG"), 2: encoded(colors(i), "JPEG"), -1: b"?"}
        raw = (depths(i) if depth_images is None else depth_images[i]).astype("<u2").tobytes()
        depth = raw if depth_codec == 0 else zlib.compress(raw)
        parts.append(np.asarray(pose, "<f4").tobytes())
        parts.append(struct.pack("<4Q", 10 * i, 10 * i + 1, len(picture[color_codec]), len(depth)))
        parts += [picture[color_codec], depth]
    if version == 4:
        parts += [struct.pack("<Q", imu), bytes(128 * imu)]
    return b"".join(parts)


def text(matrix):
    """A matrix as ScanNet's programs write it."""
    return "\n".join(" ".join(f"{value:f}" for value in row) for row in matrix) + "\n"


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_frame(folder: Path, number: str, pose, seed=0, label=False) -> None:
    write(folder / "depth" / f"{number}.png", encoded(depths(seed), "PNG"))
    write(folder / "color" / f"{number}.jpg", encoded(colors(seed), "JPEG"))
    write(folder / "pose" / f"{number}.txt", text(pose))
    if label:
        write(folder / "label" / f"{number}.png", encoded(numbers(), "PNG"))


def write_exported(folder: Path, frames=((0, POSE), (25, LOST["inf"]), (50, POSE), (51, POSE))) -> None:
    """The layout of SensorData.py: numbers as they are, and a folder ``intrinsic``."""
    for i, (number, pose) in enumerate(frames):
        write_frame(folder, str(number), pose, i)
    for name, size in (("color", COLOR), ("depth", DEPTH)):
        write(folder / "intrinsic" / f"intrinsic_{name}.txt", text(intrinsic(size)))
        write(folder / "intrinsic" / f"extrinsic_{name}.txt", text(np.eye(4)))


def write_archive(folder: Path, frames=((0, POSE), (100, LOST["nan"]), (203, POSE))) -> None:
    """The layout of the archive of 25,000 frames: six digits, labels, and ``intrinsics`` with an s."""
    for i, (number, pose) in enumerate(frames):
        write_frame(folder, f"{number:06d}", pose, i, label=True)
    for name, size in (("color", COLOR), ("depth", DEPTH)):
        write(folder / f"intrinsics_{name}.txt", text(intrinsic(size)))


def write_lists(root: Path, train, val) -> None:
    for split, names in (("train", train), ("val", val)):
        write(root / f"scannetv2_{split}.txt", "\n".join(names) + "\n")
