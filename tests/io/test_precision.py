import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from geo3d.cloud import collate
from geo3d.data import Folder
from geo3d.errors import CloudError
from geo3d.geometry.frame import to_source
from geo3d.io import read_cloud, read_mesh, write_cloud
from geo3d.io.precision import centered, check_precision
from geo3d.seeds import generator

HERE = np.random.default_rng(0).random((50, 3))
MAP = HERE + np.array([500_000, 5_400_000, 100])


def test_clouds_on_a_map_are_moved_to_the_origin_in_every_format(tmp_path: Path):
    np.save(tmp_path / "a.npy", MAP)
    np.savez(tmp_path / "a.npz", pos=MAP)
    np.savetxt(tmp_path / "a.xyz", MAP, fmt="%.6f")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pos"] = MAP
    rows = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in MAP)
    header = "ply\nformat ascii 1.0\nelement vertex 50\n" + "".join(f"property double {axis}\n" for axis in "xyz")
    (tmp_path / "a.ply").write_text(f"{header}end_header\n{rows}\n")
    for suffix in ("npy", "npz", "xyz", "h5", "ply"):
        data = read_cloud(tmp_path / f"a.{suffix}")
        assert data.pos.dtype == torch.float32 and data.frame.dtype == torch.float64 and data.frame.shape == (4, 4)
        assert data.pos.abs().max() < 1
        assert np.abs(to_source(data.pos, data.frame).numpy() - MAP).max() < 1e-6


def test_what_float32_has_lost_already_is_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", MAP.astype("f4"))
    with pytest.raises(
        CloudError, match="float32 has steps of 0.5 there; subtract .* before they are stored"
    ) as caught:
        read_cloud(tmp_path / "a.npy")
    assert "a.npy: the coordinates reach 540000" in str(caught.value) and "\n" not in str(caught.value)


def test_a_ten_thousandth_of_the_extent_may_be_lost():
    far = 2.0**23  # from here on float32 has steps of 1
    for extent, moved in ((9_999.0, True), (10_000.0, False)):
        pos, origin = centered(np.array([[far, 0, 0], [far + extent, 0, 0]]), "a")
        assert (origin is not None) == moved
        assert pos[:, 0].tolist() == ([-extent / 2, extent / 2] if moved else [far, far + extent])
    pos, origin = centered(np.array([[5_400_000_000, 0, 0], [5_400_001_000, 0, 0]]), "a")
    assert origin is not None and origin.tolist() == [5_400_000_500, 0, 0] and pos[:, 0].tolist() == [-500, 500]


@pytest.mark.parametrize("suffix", ["ply", "npz"])
def test_what_was_moved_is_written_where_it_was(tmp_path: Path, suffix: str):
    np.save(tmp_path / "a.npy", MAP)
    data = read_cloud(tmp_path / "a.npy", 20, generator("moved"))
    write_cloud(tmp_path / f"b.{suffix}", data)
    again = read_cloud(tmp_path / f"b.{suffix}")
    place, before = to_source(again.pos, again.frame), to_source(data.pos, data.frame)
    torch.testing.assert_close(place, before, atol=1e-6, rtol=0)
    if suffix == "npz":
        assert again.pos.equal(data.pos) and again.frame.equal(data.frame)
    write_cloud(tmp_path / f"c.{suffix}", collate([data]))
    place = read_cloud(tmp_path / f"c.{suffix}")
    torch.testing.assert_close(to_source(place.pos, place.frame), before, atol=1e-6, rtol=0)


def test_meshes_far_away(tmp_path: Path):
    rows = "".join(f"v {500_000 + x} {5_400_000 + y} 0\n" for x, y in ((0, 0), (1, 0), (1, 1), (0, 1)))
    (tmp_path / "a.obj").write_text(rows + "f 1 2 3 4\n")
    data = read_cloud(tmp_path / "a.obj", 200, generator("mesh"))
    assert data.frame[:3, 3].tolist() == [500_000.5, 5_400_000.5, 0] and 0.4 < float(data.pos.abs().max()) <= 0.5
    with pytest.raises(CloudError, match=r"a\.obj: the mesh lies far from the origin; subtract \[500000.5"):
        read_mesh(tmp_path / "a.obj")


def test_clouds_of_an_hdf5_file_are_looked_at_one_by_one(tmp_path: Path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.stack([HERE, MAP])
    data = Folder(str(tmp_path))
    assert np.allclose(data[0].pos.numpy(), HERE)
    assert "frame" not in data[0]
    assert np.abs(to_source(data[1].pos, data[1].frame).numpy() - MAP).max() < 1e-6
    turned = Folder(str(tmp_path), up="y")[1]
    x, y, z = data[1].pos.unbind(1)
    assert turned.pos.equal(torch.stack([x, -z, y], 1))
    assert np.abs(to_source(turned.pos, turned.frame).numpy() - MAP).max() < 1e-6
    batch = collate([data[0], data[1]])
    assert batch.frame.equal(torch.stack([torch.eye(4, dtype=torch.float64), data[1].frame]))


def test_what_an_offset_leaves_is_read(tmp_path: Path):
    np.save(tmp_path / "a.npy", MAP - MAP.mean(0))
    assert np.allclose(read_cloud(tmp_path / "a.npy").pos.numpy(), HERE - HERE.mean(0))


@pytest.mark.parametrize("number", [1e300, -1e300, 1e39, 1.7e308])
def test_beyond_float32(tmp_path: Path, number: float):
    (tmp_path / "a.xyz").write_text(f"0 0 {-number}\n1 2 {number}\n")
    with pytest.raises(CloudError, match=r"a\.xyz: the coordinates reach .* float32 ends at 3.403e\+38; scale them"):
        read_cloud(tmp_path / "a.xyz")


def test_the_limit_is_a_thousandth_of_the_extent():
    far = 2.0**23  # from here on float32 has steps of 1
    for extent, refused in ((999.0, True), (1000.0, False)):
        pos = np.array([[far, 0, 0], [far + extent, 0, 0]])
        if refused:
            with pytest.raises(CloudError, match="reach 8389607 over an extent of 999, and float32 has steps of 1 "):
                check_precision(pos, "a")
        else:
            check_precision(pos, "a")


@pytest.mark.parametrize("pos", [np.zeros((0, 3)), np.full((4, 3), 5e6), np.full((2, 3), np.nan), HERE * 1e-30])
def test_what_other_checks_say_is_left_to_them(pos: np.ndarray):
    check_precision(pos, "a")


@pytest.mark.parametrize("magnitude", [1e-44, 1e-30, 0.3, 1.0, 4095.9, 5.4e6, 3e38])
def test_the_step_is_that_of_float32(magnitude: float):
    step = float(np.spacing(np.float32(magnitude)))
    pos = np.array([[magnitude] * 3, [magnitude - 2 * step] * 3])
    with pytest.raises(CloudError, match=re.escape(f"steps of {step:.4g} there")):
        check_precision(pos, "a")


def test_integers_of_any_width():
    check_precision(np.array([[0, 0, 0], [255, 1, 2]], "u1"), "a")
    with pytest.raises(CloudError, match="steps of 512 there"):
        check_precision(np.array([[5_400_000_000, 0, 0], [5_400_001_000, 0, 0]]), "a")
