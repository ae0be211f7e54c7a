"""Files cut off or damaged anywhere: reading gives a cloud with points or a one-line error, never anything else."""

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.pcd_files import cloud, write_pcd
from support.ply_files import write_ply
from torch_geometric.data import Data

from geo3d.errors import CloudError
from geo3d.io import read_cloud, write_cloud
from geo3d.seeds import generator, numpy_generator

VERTICES = [(x / 4, x % 3, -x, 255 - x) for x in range(12)]
PLY = [
    ("vertex", [("float", "x"), ("double", "y"), ("float", "z"), ("uchar", "quality")], VERTICES),
    (
        "face",
        [(("uchar", "int"), "vertex_indices")],
        [([i, i + 1, i + 2][: 3 + i % 2] + [0] * (i % 2),) for i in range(9)],
    ),
]
ROWS = "".join(f"{x} {y} {z}\n" for x, y, z, _ in VERTICES)


def make(folder: Path, kind: str) -> Path:
    """A sound file of each kind."""
    form, _, suffix = kind.rpartition(".")
    path = folder / f"whole.{suffix}"
    draws = generator("truncated")
    if suffix == "ply":
        return write_ply(path, form, PLY)
    if suffix == "pcd":
        return write_pcd(path, cloud(12), form)
    if suffix == "off":
        path.write_text(f"OFF12 3 0\n{ROWS}3 0 1 2\n4 3 4 5 6\n3 7 8 9\n")
    elif suffix == "obj":
        path.write_text(
            "".join(f"v {row}\n" for row in ROWS.splitlines()) + "vn 0 0 1\nf 1//1 2//1 3//1\nf -1 -2 -3 -4\n"
        )
    elif suffix in ("xyz", "csv", "pts"):
        header = {"xyz": "", "csv": "x,y,z\n", "pts": "12\n"}[suffix]
        path.write_text(header + (ROWS.replace(" ", ",") if suffix == "csv" else ROWS))
    elif suffix == "npz":
        write_cloud(path, Data(pos=torch.randn(12, 3, generator=draws), point_y=torch.arange(12)))
    elif suffix == "npy":
        np.save(path, torch.randn(12, 3, generator=draws).numpy())
    else:
        with h5py.File(path, "w") as file:
            options = {"compression": "gzip", "chunks": (4, 3)} if form == "gzip" else {}
            file.create_dataset("data", data=torch.randn(12, 3, generator=draws).numpy(), **options)
            file["label"] = np.array([1])
    return path


KINDS = [f"{form}.ply" for form in ("ascii", "binary_little_endian", "binary_big_endian")]
KINDS += [f"{form}.pcd" for form in ("ascii", "binary", "binary_compressed")]
KINDS += ["off", "obj", "xyz", "csv", "pts", "npz", "npy", "h5", "gzip.h5"]


def outcome(path: Path, seed: int) -> str:
    """Whether reading all points gives a "cloud" or an "error"; a random subset is read as well."""
    outcomes = []
    for arguments in ((), (5, generator(seed))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                data = read_cloud(path, *arguments)
        except CloudError as error:
            assert path.name in str(error) and "\n" not in str(error)
            outcomes.append("error")
        else:
            assert data.num_nodes > 0 and bool(torch.isfinite(data.pos).all())
            outcomes.append("cloud")
    return outcomes[0]


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_anywhere(tmp_path: Path, kind: str):
    whole = make(tmp_path, kind)
    content = whole.read_bytes()
    assert outcome(whole, 0) == "cloud"
    lengths = numpy_generator("cut", kind).integers(0, len(content), 50)
    damaged = tmp_path / f"cut{whole.suffix}"
    outcomes = []
    for length in sorted({0, 1, len(content) - 1, *lengths.tolist()}):
        damaged.write_bytes(content[:length])
        outcomes.append(outcome(damaged, length))
    assert outcomes[:2] == ["error", "error"]
    if kind.endswith(("binary.pcd", "compressed.pcd", "endian.ply", "npz", "npy", "h5")):
        assert set(outcomes) == {"error"}  # these formats declare their exact size


@pytest.mark.parametrize("kind", KINDS)
def test_changed_anywhere(tmp_path: Path, kind: str):
    whole = make(tmp_path, kind)
    content = np.frombuffer(whole.read_bytes(), np.uint8)
    draws = numpy_generator("changed", kind)
    for i in range(40):
        damaged = content.copy()
        damaged[draws.integers(0, len(content), 1 + i % 3)] = draws.integers(0, 256, 1 + i % 3)
        (tmp_path / f"changed{whole.suffix}").write_bytes(damaged.tobytes())
        outcome(tmp_path / f"changed{whole.suffix}", i)
