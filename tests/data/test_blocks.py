import itertools

import pytest
import torch
from torch_geometric.data import Data

from geo3d import seeds
from geo3d.data import Rooms, Shapes
from geo3d.data.blocks import LEAST, Blocks, Grid, cut_out
from geo3d.data.few_labels import few_labels
from geo3d.errors import CloudError, ConfigError
from geo3d.geometry.frame import to_source
from geo3d.tasks.datamodule import DataModule


def scene(count=2000):
    return torch.rand(count, 3, generator=seeds.generator("grid")) * torch.tensor([3.3, 2.0, 1.0]) - 5


@pytest.mark.parametrize(("size", "steps"), [(1.0, 1), (1.0, 2), (0.6, 3), (10.0, 2)])
def test_blocks_hold_the_points_that_lie_in_them(size, steps):
    pos = scene()
    grid = Grid(pos, size, steps)
    low, cell = pos[:, :2].double().amin(0), size / steps
    seen = torch.zeros(len(pos))
    for place in grid.places():
        block = grid.block(place)
        start = low + torch.tensor(place) * cell
        inside = ((pos[:, :2].double() >= start) & (pos[:, :2].double() < start + size)).all(1)
        assert block.points.tolist() == inside.nonzero()[:, 0].tolist() and bool(inside.any())
        torch.testing.assert_close(block.center[:2], start + size / 2)
        assert float(block.center[2]) == pytest.approx(float(pos[:, 2].sort().values[9]), abs=1e-6)
        seen[block.points] += 1
    assert int(seen.min()) >= 1 and int(seen.max()) == min(steps, len(grid.places())) ** (1 if size == 10 else 2)
    assert grid.places() == sorted(set(grid.places()))


def test_a_block_with_too_few_points_takes_in_those_around_it():
    pos = torch.cat([scene(), torch.tensor([[3.0, 3.0, -5.0]])])
    grid = Grid(pos, 1.0, 2)
    lonely = next(place for place in grid.places() if len(grid.block(place).points) == 1)
    grown = grid.block(lonely, least=100)
    assert len(grown.points) >= 100 and 2000 in grown.points.tolist()
    torch.testing.assert_close(grown.center, grid.block(lonely).center)
    assert len(grid.block(lonely, least=10**6).points) == len(pos)


def test_outliers_below_do_not_move_the_floor():
    pos = torch.cat([scene(), torch.tensor([[-4.0, -4.0, -30.0]])])
    assert Grid(pos, 1.0).floor == pytest.approx(-5, abs=0.02)


def test_one_point_is_a_block_and_tiny_blocks_are_refused():
    grid = Grid(torch.zeros(1, 3), 0.5)
    assert [block.points.tolist() for block in grid.blocks()] == [[0]]
    with pytest.raises(CloudError, match=r"blocks of 1e-05 are too small for a scene of 3.299 x 2"):
        Grid(scene(), 1e-5)


def test_a_cut_out_block_leads_back_to_its_scene():
    pos = scene()
    cloud = Data(pos=pos, point_y=torch.arange(2000))
    block = Grid(pos, 1.0).block((1, 1))
    part = cut_out(cloud, block)
    assert torch.equal(part.point_y, block.points) and part.pos[:, :2].abs().max() <= 0.5001
    torch.testing.assert_close(to_source(part.pos, part.frame), pos[block.points].double(), rtol=0, atol=1e-5)
    few = cut_out(cloud, block, block.points[:3])
    assert torch.equal(few.pos, part.pos[:3])


def test_blocks_of_a_data_set():
    scenes = Rooms(size=3, points=4000, frames=6)
    blocks = Blocks(scenes, 1.5)
    assert blocks.targets == scenes.targets and blocks.manifest()["block"] == 1.5
    for index in (0, len(blocks) // 2, len(blocks) - 1):
        block, together = blocks[index], blocks.read_with(index)
        assert len(block.pos) >= LEAST and float(block.pos[:, :2].abs().max()) <= 0.7501
        assert torch.equal(block.pos, together[index].pos) and torch.equal(block.point_y, together[index].point_y)
        assert {blocks.scene_of[each] for each in together} == {blocks.scene_of[index]}
        assert f"scene {blocks.scene_of[index]}, block" in blocks.source(index)
    assert sorted(itertools.chain(*(blocks.read_with(blocks.scene_of.index(s)) for s in range(3)))) == list(
        range(len(blocks))
    )


def test_objects_and_scenes_without_points_are_refused():
    with pytest.raises(ConfigError, match="block=1.0: Shapes has objects, not scenes"):
        Blocks(Shapes(size=4), 1.0)
    with pytest.raises(CloudError, match="no block of the scenes has 256 points"):
        Blocks(Rooms(size=1, points=200, frames=2), 1.0)


def test_the_data_module_trains_on_blocks_and_keeps_whole_test_scenes():
    keywords = {"size": 4, "frames": 6, "num_points": 512, "batch_size": 2, "normalize": "none"}
    data = DataModule(Rooms, points=4000, block=1.5, **keywords).of("supervised", "point_y")
    assert isinstance(data.dataset("train"), Blocks) and isinstance(data.dataset("test"), Rooms)
    batch = next(iter(data.train_dataloader()))
    assert float(batch.pos[:, :2].abs().max()) <= 0.7501
    assert float(next(iter(data.loader("test"))).pos[:, :2].abs().max()) <= 0.7501
    assert len(data.cloud("test", 0).pos) == 4000 and data.convention["block"] == 1.5
    half = DataModule(Rooms, points=4000, block=1.5, scene_fraction=0.5, **keywords)
    half = half.of("supervised", "point_y")
    scenes = {data.dataset("train").scene_of[index] for index in half.training.tolist()}
    assert len(scenes) == 2
    assert len(half.training) == sum(each in scenes for each in data.dataset("train").scene_of)


def labelled_places(data, pool=False):
    """For each training scene the places, in its own coordinates, of the points that have a label in any block."""
    dataset, found = data.dataset("train"), {}
    for index, cloud in enumerate(data.prepared("train", pool=pool)):
        known = cloud.point_y != -1
        places = to_source(cloud.pos[known], cloud.frame)
        found.setdefault(dataset.scene_of[index], set()).update(
            (*(round(x, 3) for x in place), int(y))
            for place, y in zip(places.tolist(), cloud.point_y[known], strict=True)
        )
    return found


def test_few_points_of_a_scene_keep_their_label_in_all_of_its_blocks():
    keywords = {"size": 2, "points": 4000, "frames": 2, "block": 1.5, "num_points": 300, "label_points": 20}
    data = DataModule(Rooms, **keywords).of("supervised", "point_y")
    found = labelled_places(data)
    assert labelled_places(data, pool=True) == found, "the subset of a block contains its labelled points"
    for number, places in found.items():
        scene = data.dataset("train").dataset[number]
        kept = few_labels(scene, 20, -1, seeds.generator(0, "label points", number))[1]
        chosen = {
            (*(round(x, 3) for x in place), int(y))
            for place, y in zip(scene.pos[kept].tolist(), scene.point_y[kept], strict=True)
        }
        assert places <= chosen and len(places) >= 16, "all but those of blocks with few points, which are left out"
    other = labelled_places(DataModule(Rooms, **keywords, seed=1).of("supervised", "point_y"))
    assert other[0] != found[0]
    whole = data.of("pretrain").prepared("train")[0].point_y
    assert int((whole != -1).sum()) > 20 and int((data.prepared("test")[0].point_y != -1).sum()) > 20
