"""Tiny made-up scans in the layout of ScanObjectNN, y up."""

from pathlib import Path

import h5py
import numpy as np

BOX, CHAIR, TABLE = 2, 4, 9
LABELS = {"training": (BOX, CHAIR, TABLE, BOX), "test": (TABLE, CHAIR)}


def scan(label, seed, background, size=48):
    """(size, 3) points on a box, and (size,) mask: the first points lie on the floor below it if ``background``."""
    draw = np.random.default_rng(seed)
    half = {BOX: (0.3, 0.3, 0.3), CHAIR: (0.2, 0.4, 0.2), TABLE: (0.5, 0.25, 0.3)}[label]
    points = draw.uniform(-1, 1, (size, 3))
    points[np.arange(size), draw.integers(0, 3, size)] = draw.choice([-1, 1], size)
    points *= half
    mask = np.full(size, label)
    if background:
        floor = np.arange(size) < size // 4
        ground = draw.uniform(-0.6, 0.6, (size, 3)) * [1, 0, 1] - [0, half[1], 0]
        points, mask = np.where(floor[:, None], ground, points), np.where(floor, -1, label)
    return points, mask


def write(path: Path, labels, background, seed=0, masked=True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scans = [scan(label, [seed, i], background) for i, label in enumerate(labels)]
    with h5py.File(path, "w") as file:
        file["data"] = np.stack([points for points, _ in scans]).astype("f4")
        file["label"] = np.array(labels, "i4")
        if masked:
            file["mask"] = np.stack([mask for _, mask in scans]).astype("i4")


def write_data_set(root: Path) -> Path:
    for seed, (prefix, labels) in enumerate(LABELS.items()):
        write(root / "main_split" / f"{prefix}_objectdataset.h5", labels, True, seed)
        write(root / "main_split" / f"{prefix}_objectdataset_augmentedrot_scale75.h5", labels * 2, True, seed + 2)
        write(root / "main_split_nobg" / f"{prefix}_objectdataset.h5", labels, False, seed)
    return root
