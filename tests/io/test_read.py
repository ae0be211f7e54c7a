from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from geo3d.errors import CloudError
from geo3d.io import read_cloud, write_cloud
from geo3d.seeds import generator

SAMPLES = Path(__file__).parents[2] / "datasets"


def test_unknown_missing_and_folders(tmp_path: Path):
    (tmp_path / "a.e57").write_text("")
    with pytest.raises(CloudError, match=r"a\.e57: unknown suffix '.e57'; known are .ply .pcd .off .obj .xyz"):
        read_cloud(tmp_path / "a.e57")
    with pytest.raises(CloudError, match=r"none\.ply: no such file"):
        read_cloud(str(tmp_path / "none.ply"))
    (tmp_path / "b.ply").mkdir()
    for folder in (tmp_path, tmp_path / "b.ply"):
        with pytest.raises(CloudError, match="found a folder"):
            read_cloud(folder)


def test_num_points_takes_the_first_or_with_a_generator_any(tmp_path: Path):
    pos = torch.arange(300.0).reshape(100, 3)
    write_cloud(tmp_path / "a.npz", Data(pos=pos, normal=pos + 1, point_y=torch.arange(100), y=torch.tensor([4])))
    first = read_cloud(tmp_path / "a.npz", 10)
    assert first.pos.equal(pos[:10]) and first.y.tolist() == [4]
    drawn = read_cloud(tmp_path / "a.npz", 10, generator("a"))
    assert drawn.normal.equal(drawn.pos + 1) and drawn.pos.equal(pos[drawn.point_y]) and drawn.y.tolist() == [4]
    assert len(drawn.point_y.unique()) == 10 and not drawn.pos.equal(first.pos)
    assert drawn.pos.equal(read_cloud(tmp_path / "a.npz", 10, generator("a")).pos)
    assert not drawn.pos.equal(read_cloud(tmp_path / "a.npz", 10, generator("b")).pos)
    for draws in (None, generator("a")):
        assert read_cloud(tmp_path / "a.npz", 1000, draws).pos.equal(pos)
    with pytest.raises(CloudError, match="at least 1, found 0"):
        read_cloud(tmp_path / "a.npz", 0)


@pytest.mark.parametrize("name", ["ball.ply", "box.pcd", "cone.npz"])
def test_the_samples(name: str):
    data = read_cloud(SAMPLES / "folder" / "sample" / name)
    assert data.num_nodes > 100 and data.pos.abs().max() <= 1.5
    if "normal" in data:
        torch.testing.assert_close(data.normal.norm(dim=1), torch.ones(data.num_nodes))
