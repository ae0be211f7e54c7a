"""Tiny made-up rooms in both layouts of S3DIS."""

from pathlib import Path

import h5py
import numpy as np

FLOOR, WALL, TABLE = 1, 2, 7
ROOMS = [f"Area_{area}_office_{1 + area % 2}" for area in range(1, 7)]


def room(seed, size=60):
    """(size, 3) points in metres, colours in bytes, classes and objects: a floor, a wall and a table."""
    draw = np.random.default_rng(seed)
    kind = np.arange(size) * 3 // size
    flat = draw.uniform(0, 1, (size, 3)) * [3, 2, 0]
    wall = draw.uniform(0, 1, (size, 3)) * [3, 0, 2.5]
    table = draw.uniform(0, 1, (size, 3)) * [1, 0.6, 0] + [1, 0.8, 0.7]
    points = np.choose(kind[:, None], [flat, wall, table]).astype("f4")
    colors = (np.array([[90, 80, 70], [200, 200, 190], [120, 70, 30]])[kind] + draw.integers(0, 20, (size, 3))).astype(
        "u1"
    )
    return points, colors, np.array([FLOOR, WALL, TABLE])[kind], kind


def write_rooms(root: Path) -> Path:
    for number, name in enumerate(ROOMS):
        folder = root / name[:6] / name[7:]
        folder.mkdir(parents=True)
        points, colors, classes, objects = room(number, 60 + 3 * number)
        np.save(folder / "coord.npy", points + np.float32(number))
        np.save(folder / "color.npy", colors)
        np.save(folder / "segment.npy", classes.astype("i2")[:, None])
        np.save(folder / "instance.npy", objects.astype("i2")[:, None])
    return root


def blocks(number, size=64):
    """(2, size, 9) float32 and (2, size) uint8: the two halves of a room, as the release cuts it."""
    points, colors, classes, _ = room(number, 400)
    data, label = [], []
    for half in range(2):
        inside = np.flatnonzero((points[:, 0] >= 1.5 * half) & (points[:, 0] <= 1.5 * half + 1.5))
        chosen = np.random.default_rng(number + half).choice(inside, size, replace=False)
        p = points[chosen]
        data.append(np.concatenate([p - [1.5 * half + 0.75, 1, 0], colors[chosen] / 255, p / points.max(0)], 1))
        label.append(classes[chosen])
    return np.stack(data).astype("f4"), np.stack(label).astype("u1")


def write_blocks(root: Path) -> Path:
    root.mkdir(parents=True)
    halves = [blocks(number) for number in range(len(ROOMS))]
    # the third room lies in both files
    data, label = (np.concatenate([half[i] for half in halves]) for i in range(2))
    for number, piece in enumerate((slice(0, 5), slice(5, None))):
        with h5py.File(root / f"ply_data_all_{number}.h5", "w") as file:
            file.create_dataset("data", data=data[piece], compression="gzip", chunks=(3, 32, 3))
            file.create_dataset("label", data=label[piece], compression="gzip")
    names = [f"indoor3d_sem_seg_hdf5_data/ply_data_all_{number}.h5\n" for number in range(2)]
    (root / "all_files.txt").write_text("".join(names))
    (root / "room_filelist.txt").write_text("".join(f"{name}\n" * 2 for name in ROOMS))
    return root
