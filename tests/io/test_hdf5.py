from pathlib import Path

import h5py
import numpy as np
import pytest

from geo3d.errors import CloudError
from geo3d.io import read_cloud
from geo3d.io.hdf5 import read_hdf5_clouds

POINTS = np.arange(12.0).reshape(4, 3)


def stored(path: Path, **arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def test_hdf5_that_declares_more_than_it_stores(tmp_path: Path):
    for options in (
        {"chunks": (64, 3)},
        {},
        {"chunks": (64, 3), "compression": "gzip"},
        {"chunks": (64, 3), "fillvalue": 2},
    ):
        for rows in (1000, 2**40):
            with h5py.File(tmp_path / "a.h5", "w") as file:
                file.create_dataset("pos", (rows, 3), "f4", **options)
            with pytest.raises(
                CloudError, match=r"a\.h5, pos: (declares \(1000, 3\)|\d+ stored bytes declare an array)"
            ):
                read_cloud(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("pos", (1000, 3), "f4", chunks=(64, 3))[:900] = 1
    with pytest.raises(CloudError, match="declares"):
        read_cloud(tmp_path / "a.h5")


def test_hdf5_whose_numbers_lie_elsewhere(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(range(24)))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("pos", (8, 3), "u1", external=[(str(tmp_path / "secret"), 0, 24)])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["pos"] = POINTS
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["pos"] = h5py.ExternalLink("b.h5", "pos")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 3), "f8")
        layout[:] = h5py.VirtualSource("b.h5", "pos", (4, 3))
        file.create_virtual_dataset("pos", layout)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["group/pos"] = h5py.ExternalLink("b.h5", "pos")
        file["pos"] = h5py.SoftLink("/group/pos")
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["pos"] = h5py.ExternalLink("nowhere.h5", "pos")
    for name in "acdeg":
        with pytest.raises(CloudError, match=rf"{name}\.h5.* (in|lie) .*another file"):
            read_cloud(tmp_path / f"{name}.h5")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["group/pos"] = POINTS
        file["pos"] = h5py.SoftLink("/group/pos")
    assert np.array_equal(read_cloud(tmp_path / "f.h5").pos.numpy(), POINTS)


def test_bytes_put_into_an_hdf5_file(tmp_path: Path):
    path = stored(tmp_path / "a.h5", pos=POINTS)
    content = path.read_bytes()
    said = f"an HDF5 file of {len(content)} bytes, as it declares, found {len(content) + 1}"
    for changed in (content[:-90] + b"1" + content[-90:], content + bytes(1)):
        path.write_bytes(changed)
        with pytest.raises(CloudError, match=said):
            read_cloud(path)


@pytest.mark.parametrize("shape", [(5,), (5, 2), (4, 5, 2), (1, 4, 5, 3)])
def test_coordinates_of_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]):
    with pytest.raises(CloudError, match="expected coordinates of shape"):
        read_hdf5_clouds(stored(tmp_path / "a.h5", data=np.zeros(shape)))
    clouds = read_hdf5_clouds(stored(tmp_path / "b.h5", data=np.zeros((4, 2, 3))))  # four clouds of two points
    assert [cloud["pos"].shape for cloud in clouds] == [(2, 3)] * 4
