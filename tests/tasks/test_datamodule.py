from functools import partial

import pytest
import torch
from support.blobs import Blobs

from geo3d.data import Shapes
from geo3d.data.sampler import KeyedShuffle
from geo3d.data.targets import Classes
from geo3d.errors import CloudError, ConfigError
from geo3d.geometry.frame import to_source
from geo3d.tasks.datamodule import DataModule


def test_delivered_clouds_are_normalised_subsets_in_a_fixed_pose():
    data = DataModule(Blobs, num_points=20, rotation="so3", seed=3)
    cloud = data.prepared("train")[4]
    assert cloud.pos.shape == (20, 3)
    assert torch.allclose(cloud.pos.norm(dim=1).max(), torch.tensor(1.0))
    assert torch.allclose(cloud.pos.mean(0), torch.zeros(3), atol=1e-6)
    again = DataModule(Blobs, num_points=20, rotation="so3", seed=3).prepared("train")
    assert torch.equal(again[5].pos, data.prepared("train")[5].pos)
    assert torch.equal(again[4].pos, cloud.pos)
    assert not torch.allclose(data.reseeded(4).prepared("train")[4].pos, cloud.pos)


def test_prepared_clouds_lead_back_to_their_source():
    for normalize in ("unit_sphere", "box", "none"):
        data = DataModule(Blobs, num_points=20, rotation="so3", normalize=normalize)
        cloud, source = data.prepared("train")[4], data.dataset("train")[4].pos.double()
        home = to_source(cloud.pos, cloud.frame)
        assert (torch.cdist(home, source).amin(1) < 1e-5).all()
    assert "frame" not in DataModule(Blobs, num_points=None, normalize="none").prepared("train")[4]


def test_a_box_is_centred_with_its_longest_side_from_minus_one_to_one():
    pos = DataModule(Blobs, num_points=20, normalize="box").prepared("train")[4].pos
    low, high = pos.amin(0), pos.amax(0)
    assert torch.allclose((low + high) / 2, torch.zeros(3), atol=1e-6)
    assert float((high - low).max()) == pytest.approx(2.0)


def test_copies_share_what_was_read():
    made: list[int] = []

    class Counted(Blobs):
        def __getitem__(self, index):
            made.append(index)
            return super().__getitem__(index)

    data = DataModule(Counted, num_points=20)
    for other in (data, data.reseeded(1), data.of_points(10), data.of("supervised", "y"), data.of("pretrain")):
        assert [len(other.prepared("train", pool=pool)[4].pos) for pool in (False, True)]
    assert made.count(4) == 1


def test_the_phase_says_what_is_trained_on():
    data = DataModule(Blobs, size=60, holdout=0.2, label_fraction=0.1)
    supervised = data.of("supervised", "y")
    assert len(data.training) == 48 and len(supervised.training) == 6 and supervised.target == "y"
    assert len(supervised.of("pretrain").training) == 48 and data.phase == "pretrain"
    assert data.targets == {"y": Classes(("cube", "plate", "rod"))}
    with pytest.raises(CloudError, match="Blobs has no target 'joints'; it has y"):
        data.of("supervised", "joints")


def test_data_without_labels_has_no_target():
    class Bare(Blobs):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.labels = None

    data = DataModule(Bare)
    assert data.targets == {}
    message = "Bare has no target 'y'; it has no labels; put the files in one folder per class"
    with pytest.raises(CloudError, match=message):
        data.of("supervised", "y")
    with pytest.raises(CloudError, match="no labels"):
        data.labels("train")


def test_manifests_say_the_scale_as_they_always_did():
    kinds = {"unit_sphere": True, "none": False, "box": "box"}
    for normalize, said in kinds.items():
        assert DataModule(Blobs, normalize=normalize).manifest()["delivered"]["normalize"] is said or said == "box"
    with pytest.raises(ConfigError, match="normalize: True is not"):
        DataModule(Blobs, normalize=True)


def test_z_poses_keep_heights_and_so3_poses_keep_distances():
    still = DataModule(Blobs, num_points=20, seed=1).prepared("test")[2].pos
    turned = DataModule(Blobs, num_points=20, rotation="z", seed=1).prepared("test")[2].pos
    free = DataModule(Blobs, num_points=20, rotation="so3", seed=1).prepared("test")[2].pos
    assert torch.allclose(still[:, 2], turned[:, 2], atol=1e-6) and not torch.allclose(still, turned, atol=1e-2)
    assert not torch.allclose(still[:, 2], free[:, 2], atol=1e-2)
    assert torch.allclose(torch.cdist(still, still), torch.cdist(free, free), atol=1e-5)


def poses(data, split, count):
    """(count, 3, 3) the rotations in which the first clouds of a split arrive, found from where the points went."""
    still, turned = (DataModule(Blobs, num_points=20, size=count, seed=data.seed), data)
    pairs = ((each.prepared(split)[i].pos.double() for each in (still, turned)) for i in range(count))
    return torch.stack([torch.linalg.lstsq(a, b).solution.T for a, b in pairs])


@pytest.mark.parametrize(("rotation", "variance"), [("z", 1 / 2), ("so3", 1 / 3)])
def test_every_cloud_has_a_pose_of_its_own(rotation, variance):
    count = 150
    data = DataModule(Blobs, num_points=20, rotation=rotation, size=count, seed=1)
    found = torch.cat([poses(data, split, count) for split in ("train", "test")])
    assert torch.allclose(found @ found.mT, torch.eye(3, dtype=torch.float64), atol=1e-4)
    assert torch.pdist(found.flatten(1)).min() > 1e-5  # no two alike, not even across the splits
    moving = found[:, :2, :2] if rotation == "z" else found  # entries of mean 0 and known variance
    assert moving.mean(0).abs().max() < 6 * (variance / len(found)) ** 0.5
    assert (moving.var(0) - variance).abs().max() < 6 * variance / len(found) ** 0.5


def test_every_cloud_has_a_subset_of_its_own():
    class Numbered(Blobs):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.x = torch.arange(len(cloud.pos))[:, None].float()
            return cloud

    data = DataModule(Numbered, num_points=24)
    chosen = [data.prepared(split)[i].x.flatten() for split in ("train", "test") for i in range(24)]
    assert len({tuple(each.tolist()) for each in chosen}) == 48
    counts = torch.cat(chosen).long().bincount(minlength=48)  # of each point a coin decides, 48 times
    assert (counts - 24).abs().max() < 6 * 12**0.5


def test_heldout_and_training_are_disjoint_and_stratified():
    data = DataModule(Blobs, size=60, holdout=0.2)
    held, training = data.heldout, data.training
    assert len(held) == 12 and len(training) == 48
    assert not torch.isin(held, training).any()
    assert data.labels("train")[held].bincount().tolist() == [4, 4, 4]


def test_label_fraction_takes_a_share_of_every_class_and_at_least_one():
    data = DataModule(Blobs, size=60, label_fraction=0.1)
    data = data.of("supervised", "y")
    assert data.labels("train")[data.training].bincount().tolist() == [2, 2, 2]
    data = DataModule(Blobs, size=60, label_fraction=0.001)
    data = data.of("supervised", "y")
    assert data.labels("train")[data.training].bincount().tolist() == [1, 1, 1]


def test_order_is_keyed_by_epoch_and_independent_of_workers():
    sampler = KeyedShuffle(torch.arange(10, 20), batch_size=4, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first != second and sorted(first) == list(range(10, 20))
    plain = [b.pos for b in DataModule(Blobs, batch_size=8, num_points=16).train_dataloader()]
    workers = [b.pos for b in DataModule(Blobs, batch_size=8, num_points=16, num_workers=1).train_dataloader()]
    assert all(torch.equal(a, b) for a, b in zip(plain, workers, strict=True))


def test_joints_and_normals_move_with_the_points():
    class Posed(Blobs):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.normal, cloud.joints = cloud.pos.clone(), cloud.pos[None, :5].clone()
            return cloud

    cloud = DataModule(Posed, num_points=None, rotation="so3").prepared("train")[0]
    assert torch.allclose(cloud.joints[0], cloud.pos[:5], atol=1e-6)
    raw = Posed()[0]
    assert torch.allclose(cloud.normal @ cloud.normal.T, raw.pos @ raw.pos.T, atol=1e-5)


def test_evaluation_loader_keeps_order_and_serves_ragged_clouds():
    data = DataModule(Blobs, num_points=None, ragged=True)
    batches = list(data.loader("test", batch_size=7))
    assert torch.cat([batch.y for batch in batches]).tolist() == data.labels("test").tolist()
    assert batches[0].ptr.diff().tolist() == [48, 47, 46, 45, 44, 48, 47]


def test_fewer_points_than_asked_are_said():
    with pytest.warns(UserWarning, match="num_points=99"):
        DataModule(Blobs, num_points=99).prepared("train")


@pytest.mark.parametrize(
    "keywords", [{"rotation": "SO3"}, {"label_fraction": 0}, {"holdout": 1.0}, {"batch_size": 0}, {"num_points": 0}]
)
def test_values_out_of_range_are_refused(keywords):
    with pytest.raises(ConfigError, match=next(iter(keywords))):
        DataModule(Blobs, **keywords)


def test_generated_shapes_have_as_many_points_as_encoders_see():
    for seen, points in ((1024, 2048), (None, 2048), (3000, 3000)):
        data = DataModule(Shapes, size=4, num_points=seen)
        assert len(data.dataset("train")[0].pos) == points
    assert len(DataModule(partial(Shapes, num_points=64), size=4, num_points=512).dataset("train")[0].pos) == 64
    own = type(
        "Own",
        (Blobs,),
        {"generated": True, "__init__": lambda self, split, num_points=None: Blobs.__init__(self, split)},
    )
    assert len(DataModule(own, num_points=512).dataset("train")) == len(DataModule(Blobs).dataset("train"))
    assert len(DataModule(Blobs, num_points=512).dataset("train")[0].pos) < 512


def test_nan_and_empty_data_are_named():
    class Broken(Blobs):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.pos[0] = float("nan")
            return cloud

    with pytest.raises(CloudError, match="cloud 3 of the train split"):
        DataModule(Broken).prepared("train", pool=True)[3]
    with pytest.raises(CloudError, match="holds no cloud"):
        DataModule(Blobs, size=0).dataset("train")


def test_clouds_for_statistics_come_in_random_order_of_all_classes():
    class Sorted(Blobs):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.labels = torch.arange(self.size) * 3 // self.size

        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.y = self.labels[index : index + 1]
            return cloud

    data = DataModule(Sorted, num_points=16, size=96)
    batches = [batch.y for batch in data.calibration(48, batch_size=16)]
    assert [len(y) for y in batches] == [16, 16, 16]
    assert torch.cat(batches).bincount().tolist() == [16, 16, 16]
    assert all(y.bincount(minlength=3).min() >= 1 for y in batches)  # each batch has every class
    again = [batch.y for batch in data.calibration(48, batch_size=16)]
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    other = [batch.pos for batch in data.reseeded(1).calibration(48, batch_size=16)]
    assert not torch.equal(other[0], next(iter(data.calibration(48, batch_size=16))).pos)


def test_a_broken_cloud_is_named_by_its_file():
    class Files(Blobs):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.pos[3] = torch.nan if index == 5 else cloud.pos[3]
            cloud.pos[:] = 1.0 if index == 6 else cloud.pos
            return cloud

        def source(self, index):
            return f"scans/{index}.ply"

    data = DataModule(Files, num_points=16)
    with pytest.raises(CloudError, match=r"scans/5\.ply: 1 of 48 points"):
        data.prepared("train")[5]
    with pytest.raises(CloudError, match=r"scans/6\.ply: all points lie in one place"):
        data.prepared("train")[6]
