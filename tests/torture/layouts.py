"""Damaged folders in the layouts of data sets: every cloud is read with its class, or an error says why not."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
from campaign import Case, Verdict, fault
from mutations import MUTATIONS

Clouds = dict[bytes, str]
SIZE = 8
FEWER = ("gone", "folder", "other suffix", "list")
"""Damage after which there may be fewer clouds; if a list names the missing ones, the data set raises an error."""


def layout_cases(number: int, seed: int, scratch: Path) -> Iterator[Case]:
    """The sound folder of each layout, and ``number`` damaged copies of it."""
    for name, make in {"folder": folder, "modelnet-hdf5": hdf5, "modelnet-off": meshes, "modelnet-text": text}.items():
        root = scratch / f"sound-{name}"
        make(root)
        yield Case(f"{name}/sound", partial(judged, name, root, None))
        known = partial(clouds, name, root)
        for i in range(number):
            yield Case(f"{name}/damage {i}", partial(damaged, name, root, scratch, f"{seed}/{name}/{i}", known))


def cloud(draw: np.random.Generator) -> np.ndarray:
    return draw.uniform(-1, 1, (SIZE, 3)).astype("f4")


def folder(root: Path) -> None:
    """Write a folder of cloud files: two classes, two splits, three formats."""
    draw = np.random.default_rng(1)
    for split in ("train", "test"):
        for name in ("bowl", "cup"):
            (root / split / name).mkdir(parents=True)
            np.save(root / split / name / "a.npy", cloud(draw))
            np.savez(root / split / name / "b.npz", pos=cloud(draw))
            (root / split / name / "c.xyz").write_text("".join(f"{x} {y} {z}\n" for x, y, z in cloud(draw)))


def hdf5(root: Path) -> None:
    """Write ModelNet as the PointNet release has it."""
    draw = np.random.default_rng(2)
    root.mkdir()
    for split in ("train", "test"):
        (root / f"{split}_files.txt").write_text("".join(f"data/ply_data_{split}{i}.h5\n" for i in range(2)))
        for i in range(2):
            with h5py.File(root / f"ply_data_{split}{i}.h5", "w") as file:
                file["data"] = np.stack([cloud(draw) for _ in range(4)])
                file["label"] = np.array([[0], [1], [0], [1]], dtype="u1")
    (root / "shape_names.txt").write_text("bed\nchair\n")


def meshes(root: Path) -> None:
    """Write ModelNet as the original tree of OFF files."""
    draw = np.random.default_rng(3)
    for name in ("bed", "chair"):
        for split, numbers in (("train", (1, 2)), ("test", (3,))):
            (root / name / split).mkdir(parents=True)
            for i in numbers:
                rows = "".join(f"{x} {y} {z}\n" for x, y, z in cloud(draw))
                (root / name / split / f"{name}_{i:04}.off").write_text(f"OFF\n8 2 0\n{rows}3 0 1 2\n3 5 6 7\n")


def text(root: Path) -> None:
    """Write ModelNet as the resampled text files."""
    draw = np.random.default_rng(4)
    for name in ("bed", "chair"):
        (root / name).mkdir(parents=True)
        for i in range(1, 4):
            pos = cloud(draw)
            rows = np.concatenate([pos, pos / np.linalg.norm(pos, axis=1, keepdims=True)], 1)
            lines = [",".join(f"{value:.6f}" for value in row) for row in rows]
            (root / name / f"{name}_{i:04}.txt").write_text("\n".join(lines) + "\n")
    (root / "modelnet10_shape_names.txt").write_text("bed\nchair\n")
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        lines = [f"{name}_{i:04}\n" for name in ("bed", "chair") for i in numbers]
        (root / f"modelnet10_{split}.txt").write_text("".join(lines))


def opened(name: str, root: Path, split: str) -> Any:
    """The data set that reads a layout."""
    from geo3d.data import Folder, ModelNet

    return Folder(str(root), split) if name == "folder" else ModelNet(str(root), split, up="z", cache=False)


def clouds(name: str, root: Path) -> dict[str, Clouds]:
    """Split -> coordinates of every cloud -> name of its class (for HDF5 files the number of its class)."""
    by_split: dict[str, Clouds] = {}
    for split in ("train", "test"):
        data = opened(name, root, split)
        for i in range(len(data)):
            label = int(data.labels[i]) if data.labels is not None else -1
            known = str(label) if name == "modelnet-hdf5" or label < 0 else data.classes[label]
            by_split.setdefault(split, {})[data[i].pos.numpy().tobytes()] = known
    return by_split


def judged(name: str, root: Path, known: Callable[[], dict[str, Clouds]] | None, touched: str = "") -> Verdict:
    """Verdict on the clouds of a folder.

    Args:
        name: The layout.
        root: The folder.
        known: Gives the clouds of the sound folder; None if this is the sound folder.
        touched: The damage, as :func:`damage` describes it.
    """
    from geo3d.errors import Geo3dError

    try:
        delivered = clouds(name, root)
    except Geo3dError as error:
        if known is None:
            return fault("sound folder refused", str(error))
        return (
            fault("more than a line", str(error)[:200]) if "\n" in str(error) else Verdict("refused", note=str(error))
        )
    except Exception as error:
        return fault(type(error).__name__, f"{touched}: {error}")
    if known is None:
        return Verdict("equal")
    strange = 0
    for split, expected in known().items():
        for pos, label in delivered.get(split, {}).items():
            if pos not in expected:
                strange += 1
            elif expected[pos] != label:
                return fault("another class", f"{touched}: {label} for {expected[pos]}")
    lost = sum(map(len, known().values())) - sum(map(len, delivered.values()))
    if strange:
        return fault("strange clouds", f"{touched}: {strange}")
    if lost and not touched.endswith(FEWER):
        return fault("clouds lost", f"{touched}: {lost}")
    return Verdict("fewer" if lost else "equal")


def damaged(name: str, sound: Path, scratch: Path, key: str, known: Callable[[], dict[str, Clouds]]) -> Verdict:
    """Verdict on a copy of the folder with one damage."""
    draw = Random(key)
    root = scratch / key.replace("/", "-")
    shutil.copytree(sound, root)
    try:
        touched = damage(root, draw)
        return judged(name, root, known, touched)
    finally:
        for path in [root, *root.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(root)


def damage(root: Path, draw: Random) -> str:
    """Description of the damage, after a list of names, a file or a folder has been damaged.

    Bytes of cloud files are not mutated here, because a mutated file may hold another valid cloud; lists are mutated.
    """
    files = sorted(file for file in root.rglob("*") if file.is_file())
    lists = [file for file in files if file.parent == root and file.suffix == ".txt"]
    file = draw.choice(files)
    stray = draw.choice([root, *(path for path in root.rglob("*") if path.is_dir())])
    kind = draw.choice(["gone", "empty", "folder", "stray", "readme", "cut", "loop", "other suffix", *["list"] * 4])
    if kind == "list" and lists:
        file = draw.choice(lists)
        mutation = draw.choice(MUTATIONS)
        file.write_bytes(mutation(file.read_bytes(), draw))
        return f"{file.name}: {mutation.__name__} of the list"
    if kind in ("gone", "folder", "loop"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
        if kind == "loop":
            file.symlink_to(file.name)
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[: draw.randrange(20)])
        kind = "cut of the list" if file in lists else "cut"
    elif kind == "other suffix":
        file.rename(file.with_suffix(".dat"))
    elif kind == "stray":
        (stray / "stray.xyz").write_text("this is no cloud\n")
        file = stray / "stray.xyz"
    else:
        (stray / "README.txt").write_text("Clouds of bowls and cups, 8 points each.\n")
        file = stray / "README.txt"
    return f"{file.relative_to(root)}: {kind}"
