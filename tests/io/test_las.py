import builtins

import numpy as np
import pytest
import torch

from geo3d.errors import CloudError
from geo3d.geometry.frame import to_source
from geo3d.io import read_cloud

laspy = pytest.importorskip("laspy", reason="survey files are read by laspy, an extra")


def survey(path, form=2, colors=True, classes=True, count=60, version="1.2"):
    """A file in coordinates of a national grid, in centimetres."""
    draw = np.random.default_rng(0)
    header = laspy.LasHeader(point_format=form, version=version)
    header.scales, header.offsets = [0.01] * 3, [500_000.0, 5_400_000.0, 0.0]
    file = laspy.LasData(header)
    pos = draw.random((count, 3)) * [40, 30, 5] + [500_100.0, 5_400_200.0, 300.0]
    file.x, file.y, file.z = pos.T
    if colors:
        file.red, file.green, file.blue = draw.integers(0, 65536, (3, count), dtype=np.uint16)
    if classes:
        file.classification = draw.integers(0, 7, count).astype(np.uint8)
    file.write(path)
    return file


@pytest.mark.parametrize(("name", "form", "version"), [("a.las", 2, "1.2"), ("a.laz", 2, "1.2"), ("b.las", 7, "1.4")])
def test_surveys_are_read_to_the_centimetre(name, form, version, tmp_path):
    file = survey(tmp_path / name, form=form, version=version)
    cloud = read_cloud(tmp_path / name)
    source = to_source(cloud.pos, cloud.frame)
    expected = torch.from_numpy(np.stack([file.x, file.y, file.z], 1))
    torch.testing.assert_close(source, expected, rtol=0, atol=1e-4)
    colors = np.stack([file.red, file.green, file.blue], 1) / 65535
    torch.testing.assert_close(cloud.rgb, torch.from_numpy(colors.astype(np.float32)))
    assert cloud.point_y.tolist() == np.asarray(file.classification).tolist()


def test_colors_of_8_bits_and_files_without_colors_or_classes(tmp_path):
    file = survey(tmp_path / "a.las")
    file.red, file.green, file.blue = (np.asarray(each) // 257 for each in (file.red, file.green, file.blue))
    file.write(tmp_path / "a.las")
    assert float(read_cloud(tmp_path / "a.las").rgb.max()) > 0.9
    survey(tmp_path / "b.las", form=1, colors=False, classes=False)
    assert not {"rgb", "point_y"} & set(read_cloud(tmp_path / "b.las").keys())  # noqa: SIM118


@pytest.mark.parametrize("name", ["a.las", "a.laz"])
def test_damaged_files_are_named(name, tmp_path):
    path = tmp_path / name
    survey(path)
    whole = path.read_bytes()
    for cut in (10, 200, 300, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(CloudError, match=name):
            read_cloud(path)
    path.write_bytes(b"ply\nformat")
    with pytest.raises(CloudError, match="expected a LAS file, which begins with LASF"):
        read_cloud(path)
    survey(path, count=0)
    with pytest.raises(CloudError, match=name):
        read_cloud(path)


def test_without_laspy_the_message_says_what_to_install(tmp_path, monkeypatch):
    survey(tmp_path / "a.las")
    known = builtins.__import__

    def missing(name, *rest, **keywords):
        if name == "laspy":
            raise ImportError
        return known(name, *rest, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(CloudError, match=r"pip install geo3d\[las\]"):
        read_cloud(tmp_path / "a.las")
