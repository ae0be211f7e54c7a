import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from geo3d.errors import CloudError
from geo3d.geometry.frame import to_source
from geo3d.io import read_cloud
from geo3d.io.hdf5 import read_hdf5, read_hdf5_clouds

POINTS = np.arange(12.0).reshape(4, 3)


def stored(path: Path, **arrays: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5"])
@pytest.mark.parametrize("name", ["pos", "xyz", "Points", "coord", "data", "vertices"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", "i4", "u1"])
def test_coordinates_under_any_name(tmp_path: Path, suffix: str, name: str, kind: str):
    data = read_cloud(stored(tmp_path / f"a{suffix}", **{name: POINTS.astype(kind), "other": np.zeros(7)}))
    assert data.pos.dtype == torch.float32 and np.array_equal(data.pos.numpy(), POINTS)
    assert set(data.keys()) == {"pos"}


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_attributes(tmp_path: Path, suffix: str):
    arrays = {
        "xyz": POINTS,
        "normals": np.eye(4, 3),
        "colors": np.array([[0, 51, 255]] * 4, "u1"),
        "labels": np.array([[0], [1], [2], [3]], "u1"),
        "features": np.arange(4.0),
    }
    data = read_cloud(stored(tmp_path / f"a{suffix}", **arrays))
    torch.testing.assert_close(data.rgb, torch.tensor([[0, 0.2, 1]] * 4))
    assert data.normal.tolist() == np.eye(4, 3).tolist()
    assert data.point_y.tolist() == [0, 1, 2, 3] and data.point_y.dtype == torch.int64
    assert data.x.tolist() == [[0], [1], [2], [3]]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_one_label_is_the_clouds(tmp_path: Path, suffix: str):
    for label in (np.array(5), np.array([5])):
        data = read_cloud(stored(tmp_path / f"a{suffix}", pos=POINTS, label=label))
        assert data.y.tolist() == [5] and "point_y" not in data


def test_colours_of_sixteen_bits_and_fractions(tmp_path: Path):
    for rgb in (np.full((4, 3), 65535, "u2"), np.ones((4, 3)), np.full((4, 3), 255, "i8")):
        assert (read_cloud(stored(tmp_path / "a.npz", pos=POINTS, rgb=rgb)).rgb == 1).all()
    assert read_cloud(stored(tmp_path / "a.npz", pos=POINTS, rgb=np.ones((4, 3), "u1"))).rgb.max() < 0.004


def test_nameless_arrays(tmp_path: Path):
    np.savez(tmp_path / "a.npz", POINTS)
    np.save(tmp_path / "b.npy", POINTS.astype("f4"))
    np.save(tmp_path / "c.npy", np.column_stack([POINTS, np.eye(3)[[0, 1, 2, 0]]]))
    for name in ("a.npz", "b.npy", "c.npy"):
        data = read_cloud(tmp_path / name)
        assert np.array_equal(data.pos.numpy(), POINTS)
    assert data.normal.shape == (4, 3)


def test_a_cloud_of_many(tmp_path: Path):
    many = np.arange(24.0).reshape(2, 4, 3)
    seg = np.arange(8).reshape(2, 4)
    path = stored(tmp_path / "a.h5", data=many, label=np.array([[3], [4]]), segment=seg, names=np.zeros(2))
    with pytest.raises(CloudError, match="one cloud .*found 2; read them with data=folder"):
        read_cloud(path)
    second = read_hdf5(path, 1)
    assert np.array_equal(second["pos"], many[1]) and second["y"].tolist() == [4]
    for one, whole in zip([read_hdf5(path, i) for i in range(2)], read_hdf5_clouds(path), strict=True):
        assert one.keys() == whole.keys() and all(np.array_equal(one[key], whole[key]) for key in one)
    path = stored(tmp_path / "b.h5", data=many[:1], segment=seg[:1])
    assert np.array_equal(read_cloud(path).pos.numpy(), many[0]) and read_cloud(path).point_y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mine": POINTS, "yours": POINTS}, "under one of pos, xyz.*found .'mine', 'yours'."),
        ({"pos": POINTS[:, :2]}, r"found \(4, 2\)"),
        ({"pos": POINTS[0]}, r"found \(3,\)"),
        ({"pos": POINTS[:0]}, "empty"),
        ({"pos": POINTS + 1j}, "real numbers|under one of"),
        ({"pos": POINTS, "normal": POINTS[:3]}, r"normal of shape \(4, 3\), found \(3, 3\)"),
        ({"pos": POINTS, "rgb": POINTS[:, :2]}, r"rgb of shape \(4, 3\), found \(4, 2\)"),
        ({"pos": POINTS, "rgb": -POINTS}, "expected colours"),
        ({"pos": POINTS, "label": np.zeros(3)}, r"4 for the points; found \(3,\)"),
        ({"pos": POINTS, "label": POINTS[:, 0] / 2}, "whole numbers"),
        ({"pos": np.where(POINTS == 5, np.inf, POINTS)}, "1 of 4 points have NaN or infinite"),
        ({"pos": POINTS * 1e300}, r"reach 1.1e\+301 over an extent of 9e\+300, and float32 ends at"),
    ],
)
def test_bad_arrays(tmp_path: Path, suffix: str, arrays: dict[str, np.ndarray], message: str):
    with pytest.raises(CloudError, match=message) as caught:
        read_cloud(stored(tmp_path / f"bad{suffix}", **arrays))
    assert f"bad{suffix}" in str(caught.value)


class Trap:
    """Unpickling it would write a file."""

    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_objects_are_never_unpickled(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    array = np.array([Trap()], dtype=object)
    with open(f"a{suffix}", "wb") as file:
        np.savez(file, pos=array) if suffix == ".npz" else np.save(file, array, allow_pickle=True)
    with pytest.raises(CloudError, match="objects"):
        read_cloud(f"a{suffix}")
    assert not Path("unpickled").exists()


def test_text_is_no_cloud(tmp_path: Path):
    np.savez(tmp_path / "a.npz", pos=np.array([["1", "2", "3"]]))
    with pytest.raises(CloudError, match="real numbers, found <U1"):
        read_cloud(tmp_path / "a.npz")
    for suffix in (".npz", ".npy", ".h5"):
        (tmp_path / f"b{suffix}").write_text("1 2 3\n")
        with pytest.raises(CloudError, match=rf"b\{suffix}: expected"):
            read_cloud(tmp_path / f"b{suffix}")


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("shape", [(3, 500), (3, 4), (1, 3, 500), (4, 3, 500), (6, 1024), (2, 9, 40)])
def test_coordinates_that_lie_in_rows(tmp_path: Path, suffix: str, shape: tuple[int, ...]):
    path = stored(tmp_path / f"a{suffix}", pos=np.random.default_rng(0).random(shape))
    with pytest.raises(CloudError, match="transpose it"):
        read_cloud(path)


@pytest.mark.parametrize("shape", [(3, 3), (4, 6), (1, 3, 3), (20, 17)])
def test_few_points_are_no_rows(tmp_path: Path, shape: tuple[int, ...]):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random(shape) * 7)
    assert len(read_cloud(tmp_path / "a.npy").pos) == shape[-2]


def test_a_compressed_array_has_a_limit(tmp_path: Path):
    bomb = np.zeros((2**26 // 8, 3), "f4")  # 96 MiB in 100 kB
    np.savez_compressed(tmp_path / "a.npz", pos=bomb)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("pos", data=bomb, compression="gzip", chunks=(2**16, 3))
    for name in ("a.npz", "b.h5"):
        with pytest.raises(CloudError, match=rf"{name}.*stored bytes declare an array of 1006"):
            read_cloud(tmp_path / name)
    np.savez_compressed(tmp_path / "c.npz", pos=bomb[:100_000])
    assert len(read_cloud(tmp_path / "c.npz").pos) == 100_000


@pytest.mark.parametrize("rows", [3, 5, 2**40])
def test_a_shape_that_the_bytes_do_not_fill(tmp_path: Path, rows: int):
    np.save(tmp_path / "a.npy", POINTS)
    content = (tmp_path / "a.npy").read_bytes()
    old, new = b"(4, 3), }", f"({rows}, 3), }}".encode()
    changed = content.replace(old + b" " * (len(new) - len(old)), new)
    (tmp_path / "a.npy").write_bytes(changed)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("pos.npy", changed)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(CloudError, match=rf"{name}.*the array declares {rows * 24} bytes .*, and 96 are stored"):
            read_cloud(tmp_path / name)


def test_an_array_that_is_there_twice(tmp_path: Path):
    np.save(tmp_path / "a.npy", POINTS)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        for name in ("pos.npy", "POS.npy"):
            archive.write(tmp_path / "a.npy", name)
    with pytest.raises(CloudError, match="every array once"):
        read_cloud(tmp_path / "b.npz")


def test_an_origin_is_read_if_it_is_one(tmp_path: Path):
    data = read_cloud(stored(tmp_path / "a.npz", pos=POINTS, origin=np.array([5e6, 0, 1])))
    assert data.pos.tolist() == POINTS.tolist() and data.frame[:3, 3].tolist() == [5e6, 0, 1]
    assert "frame" not in read_cloud(stored(tmp_path / "a.npz", pos=POINTS, origin=np.zeros(2)))
    far = read_cloud(stored(tmp_path / "a.npz", pos=POINTS + 5e6, origin=np.array([1.0, 2, 3])))
    assert to_source(far.pos, far.frame)[0].tolist() == [5e6 + 1, 5e6 + 3, 5e6 + 5]
    with pytest.raises(CloudError, match="three finite numbers"):
        read_cloud(stored(tmp_path / "a.npz", pos=POINTS, origin=np.full(3, np.nan)))


def test_a_frame_is_read_if_it_is_one(tmp_path: Path):
    frame = np.array([[0, -2.0, 0, 5], [2, 0, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    data = read_cloud(stored(tmp_path / "a.npz", pos=POINTS, frame=frame))
    assert data.pos.tolist() == POINTS.tolist() and data.frame.tolist() == frame.tolist()
    for other in (np.eye(3), np.eye(4, dtype="f4")):  # something else of that name
        assert "frame" not in read_cloud(stored(tmp_path / "a.npz", pos=POINTS, frame=other))
    far = read_cloud(stored(tmp_path / "a.npz", pos=POINTS + 5e6, frame=frame))
    before = np.c_[POINTS + 5e6, np.ones(len(POINTS))] @ frame.T
    assert np.abs(to_source(far.pos, far.frame).numpy() - before[:, :3]).max() < 1e-6


@pytest.mark.parametrize("row, column, value", [(0, 0, 2.0), (0, 1, 0.5), (3, 3, 2.0), (3, 0, 1.0), (0, 3, np.nan)])
def test_a_frame_that_is_no_similarity_is_refused(tmp_path: Path, row: int, column: int, value: float):
    frame = np.eye(4)
    frame[row, column] = value
    with pytest.raises(CloudError, match=r"a\.npz: expected a (finite )?frame"):
        read_cloud(stored(tmp_path / "a.npz", pos=POINTS, frame=frame))
    with pytest.raises(CloudError, match=r"a\.npz: expected a finite frame"):
        read_cloud(stored(tmp_path / "a.npz", pos=POINTS, frame=np.zeros((4, 4))))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_nan_where_no_encoder_looks(tmp_path: Path, suffix: str):
    broken = np.where(np.eye(4, 3) == 1, np.nan, 0)
    data = read_cloud(stored(tmp_path / f"a{suffix}", pos=POINTS, normal=broken, x=broken))
    assert data.pos.tolist() == POINTS.tolist() and bool(data.x.isnan().any()) and bool(data.normal.isnan().any())
    with pytest.warns(UserWarning, match=rf"a{suffix}: (colours|labels) are NaN or infinite .* left out"):
        data = read_cloud(stored(tmp_path / f"a{suffix}", pos=POINTS, rgb=broken, label=broken[:, 0]))
    assert set(data.keys()) == {"pos"}
