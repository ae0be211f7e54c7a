"""Tiny scenes in the layout of ScanNet v2, as it is downloaded."""

import json
from pathlib import Path
from typing import Any

import numpy as np

TSV = "id\traw_category\tcategory\tcount\tnyu40id\teigen13id\tnyuClass\tnyu40class\t\r\n"
CATEGORIES = {"wall": 1, "floor": 2, "office chair": 5, "desk": 14, "whiteboard": 30, "object": 40, "lamp": ""}
"""Raw category -> NYU40 number; early copies of the table lack some."""
IDS = {"wall": 1, "floor": 3, "office chair": 10, "desk": 9, "whiteboard": 52, "object": 1163, "lamp": 28}
"""Raw category -> its own number, by which the benchmark of 200 classes goes."""
SEGMENT20 = {"floor": 1, "wall": 0, "desk": 12, "office chair": 4}
SEGMENT200 = {"floor": 2, "wall": 0, "desk": 8, "office chair": 9, "whiteboard": 45}
"""Raw category -> class of each benchmark, counted by hand."""
PIECES = ("floor", "wall", "wall", "desk", "office chair", "whiteboard", None)
"""Raw category of each segment of the made room; the last one belongs to no object."""


def grid(corner, a, b, size=5):
    """(size * size, 3) vertices of a rectangle, and its triangles."""
    s, t = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    points = np.asarray(corner) + s[..., None] * np.asarray(a) + t[..., None] * np.asarray(b)
    i = np.arange(size * size).reshape(size, size)
    low = np.stack([i[:-1, :-1], i[1:, :-1], i[1:, 1:]], -1).reshape(-1, 3)
    high = np.stack([i[:-1, :-1], i[1:, 1:], i[:-1, 1:]], -1).reshape(-1, 3)
    return points.reshape(-1, 3), np.concatenate([low, high])


def room(seed=0):
    """Vertices, triangles and the segment of each vertex: one rectangle for each of ``PIECES``."""
    shift = np.random.default_rng(seed).uniform(0, 0.5, 3) * [1, 1, 0]
    rectangles = [
        ((0, 0, 0), (3, 0, 0), (0, 2, 0)), ((0, 0, 0), (3, 0, 0), (0, 0, 2.4)), ((0, 0, 0), (0, 2, 0), (0, 0, 2.4)),
        ((1, 0.5, 0.7), (1, 0, 0), (0, 0.6, 0)), ((1.4, 1.2, 0.45), (0.4, 0, 0), (0, 0.4, 0)),
        ((0.5, 0.01, 1), (1, 0, 0), (0, 0, 0.8)), ((2.5, 1.5, 0), (0.2, 0, 0), (0, 0.2, 0.3)),
    ]  # fmt: skip
    points, faces, segments, before = [], [], [], 0
    for number, rectangle in enumerate(rectangles):
        p, f = grid(*rectangle)
        points.append(p + shift)
        faces.append(f + before)
        segments += [10 * number + 3] * len(p)
        before += len(p)
    return np.concatenate(points).astype(np.float32), np.concatenate(faces).astype(np.int32), segments


def write_ply(path: Path, points, faces, numbers=None) -> None:
    columns = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("alpha", "u1"),
    ]
    columns += [("label", "<u2")] if numbers is not None else []
    rows = np.zeros(len(points), columns)
    for i, axis in enumerate("xyz"):
        rows[axis] = points[:, i]
    rows["red"], rows["green"], rows["blue"] = 90, 120, (np.arange(len(points)) * 7 % 256)
    rows["alpha"] = 255
    if numbers is not None:
        rows["label"] = numbers
    names = {"f4": "float", "u1": "uchar", "u2": "ushort"}
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {names[kind.strip('<')]} {name}" for name, kind in columns]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    table = np.zeros(len(faces), [("n", "u1"), ("v", "<i4", 3)])
    table["n"], table["v"] = 3, faces
    path.write_bytes("\n".join(lines).encode() + b"\n" + rows.tobytes() + table.tobytes())


def objects() -> list[dict[str, Any]]:
    """The annotated objects; both walls are one."""
    groups: list[dict[str, Any]] = []
    for number, label in enumerate(PIECES):
        if label == "wall" and groups[-1]["label"] == "wall":
            groups[-1]["segments"].append(10 * number + 3)
        elif label is not None:
            groups.append({"id": len(groups), "objectId": len(groups), "segments": [10 * number + 3], "label": label})
    return groups


def write_scene(root: Path, name: str, seed=0, alignment: str | None = None) -> Path:
    folder = root / "scans" / name
    folder.mkdir(parents=True)
    points, faces, segments = room(seed)
    write_ply(folder / f"{name}_vh_clean_2.ply", points, faces)
    numbers = [CATEGORIES.get(PIECES[(segment - 3) // 10], 0) or 0 for segment in segments]
    write_ply(folder / f"{name}_vh_clean_2.labels.ply", points, faces, numbers)
    parameters = {"kThresh": "0.0100000", "segMinVerts": "20"}
    segs = {"params": parameters, "sceneId": f"scannet.{name}", "segIndices": segments}
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segs))
    file = f"scannet.{name}_vh_clean_2.0.010000.segs.json"
    content = {"sceneId": f"scannet.{name}", "appId": "made", "segmentsFile": file, "segGroups": objects()}
    (folder / f"{name}.aggregation.json").write_text(json.dumps(content))
    lines = ["colorHeight = 968", "depthHeight = 480"] + ([f"axisAlignment = {alignment}"] if alignment else [])
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_data_set(root: Path, train=("scene0000_00", "scene0000_01", "scene0001_00"), val=("scene0002_00",)) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate([*train, *val]):
        write_scene(root, name, number)
    for split, names in (("train", train), ("val", val)):
        (root / f"scannetv2_{split}.txt").write_text("\n".join(names) + "\n")
    rows = [f"{IDS[raw]}\t{raw}\t{raw}\t1\t{number}\t\t\t\t\r\n" for raw, number in CATEGORIES.items()]
    rows.append("2000\tobject\tobject\t1\t39\t\t\t\t\r\n")  # the table has this category twice
    (root / "scannetv2-labels.combined.tsv").write_bytes((TSV + "".join(rows)).encode())
    return root


def write_pointcept(root: Path, train=("scene0000_00", "scene0001_00"), val=("scene0002_00",)) -> Path:
    """The same rooms in Pointcept's layout: a folder of arrays for each scene."""
    for number, (split, name) in enumerate([*(("train", name) for name in train), *(("val", name) for name in val)]):
        folder = root / split / name
        folder.mkdir(parents=True)
        points, _, segments = room(number)
        pieces = [(segment - 3) // 10 for segment in segments]
        blue = np.arange(len(points)) * 7 % 256
        arrays = {
            "coord": points,
            "color": np.stack([np.full_like(blue, 90), np.full_like(blue, 120), blue], 1).astype(np.uint8),
            "normal": np.tile(np.array([0, 0, 1], np.float32), (len(points), 1)),
            "segment20": np.array([SEGMENT20.get(PIECES[piece], -1) for piece in pieces]),
            "segment200": np.array([SEGMENT200.get(PIECES[piece], -1) for piece in pieces]),
            "instance": np.array([-1 if PIECES[piece] is None else max(0, piece - (piece > 1)) for piece in pieces]),
        }
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", array)
    return root
