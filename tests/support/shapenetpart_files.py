"""Tiny made-up tables and mugs in both layouts of ShapeNetPart, y up."""

import json
from pathlib import Path

import h5py
import numpy as np

MUG, TABLE = 11, 15
SYNSETS = (
    "Airplane 02691156, Bag 02773838, Cap 02954340, Car 02958343, Chair 03001627, Earphone 03261776, Guitar 03467517, "
    "Knife 03624134, Lamp 03636649, Laptop 03642806, Motorbike 03790512, Mug 03797390, Pistol 03948459, "
    "Rocket 04099429, Skateboard 04225987, Table 04379243"
)
LINES = [entry.replace(" ", "\t") for entry in SYNSETS.split(", ")]
SIZES = (4, 2, 2, 4, 4, 3, 3, 2, 4, 2, 6, 2, 3, 3, 3, 3)
IDS = [line.split("\t")[1] for line in LINES]
PAIRS = [[synset, part] for synset, size in zip(IDS, SIZES, strict=True) for part in range(1, size + 1)]
SPLITS = {"train": (TABLE, MUG, TABLE), "val": (MUG,), "test": (TABLE, MUG)}
"""The classes of the clouds of each list."""


def thing(label, seed, size=48):
    """(size, 3) points, unit normals and parts of a table (top 47, legs 48) or a mug (wall 36, handle 37)."""
    draw = np.random.default_rng(seed)
    first = np.arange(size) < size * 2 // 3
    if label == TABLE:
        width, height = draw.uniform(0.3, 0.5), draw.uniform(0.2, 0.4)
        top = np.stack([draw.uniform(-width, width, size), np.full(size, height), draw.uniform(-0.3, 0.3, size)], 1)
        angle = draw.uniform(0, 2 * np.pi, size)
        around = np.stack([np.cos(angle), np.zeros(size), np.sin(angle)], 1)
        feet = draw.choice([-1, 1], (size, 2)) * [width - 0.03, 0.27]
        legs = np.stack([feet[:, 0], draw.uniform(-height, height, size), feet[:, 1]], 1) + 0.02 * around
        points, normals, parts = np.where(first[:, None], top, legs), [[0, 1, 0]], (47, 48)
        normals = np.where(first[:, None], normals, around)
    else:
        angle = draw.uniform(0, 2 * np.pi, size)
        around = np.stack([np.cos(angle), np.zeros(size), np.sin(angle)], 1)
        wall = 0.3 * around + np.stack([np.zeros(size), draw.uniform(-0.3, 0.4, size), np.zeros(size)], 1)
        ring = np.stack([np.cos(angle / 2 - np.pi / 2), np.sin(angle / 2 - np.pi / 2), np.zeros(size)], 1)
        points = np.where(first[:, None], wall, 0.18 * ring + [0.3, 0, 0])
        normals, parts = np.where(first[:, None], around, ring), (36, 37)
    return points, normals, np.where(first, *parts)


def write_hdf5(root: Path) -> Path:
    root.mkdir(parents=True)
    (root / "all_object_categories.txt").write_text("\n".join(LINES) + "\n")
    (root / "overallid_to_catid_partid.json").write_text(json.dumps(PAIRS))
    inverse = {f"{synset}_{part}": number for number, (synset, part) in enumerate(PAIRS)}
    (root / "catid_partid_to_overallid.json").write_text(json.dumps(inverse))
    for split, labels in SPLITS.items():
        clouds = [thing(label, [ord(split[1]), i]) for i, label in enumerate(labels)]
        # the training clouds lie in two files
        pieces = [slice(0, 2), slice(2, None)] if split == "train" else [slice(None)]
        names = [f"ply_data_{split}{number}.h5" for number in range(len(pieces))]
        for name, piece in zip(names, pieces, strict=True):
            with h5py.File(root / name, "w") as file:
                file.create_dataset("data", data=np.stack([c[0] for c in clouds[piece]]).astype("f4"), compression=4)
                file["label"] = np.array(labels[piece], "u1")[:, None]
                file["pid"] = np.stack([c[2] for c in clouds[piece]]).astype("u1")
        (root / f"{split}_hdf5_file_list.txt").write_text("".join(f"hdf5_data/{name}\n" for name in names))
    return root


def write_text(root: Path) -> Path:
    (root / "train_test_split").mkdir(parents=True)
    (root / "synsetoffset2category.txt").write_text("\n".join(LINES) + "\n")
    for split, labels in SPLITS.items():
        entries = []
        for i, label in enumerate(labels):
            points, normals, parts = thing(label, [ord(split[0]), i], 40 + 4 * i)
            name, folder = f"{split}{i}a{label}", root / IDS[label]
            folder.mkdir(exist_ok=True)
            np.savetxt(folder / f"{name}.txt", np.column_stack([points, normals, parts]), "%.6f")
            entries.append(f"shape_data/{IDS[label]}/{name}")
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(entries))
    return root
