"""What a store gives is what the data set gave, bit by bit, and what is damaged is said."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.blobs import Blobs
from torch_geometric.data import Data

from geo3d.cloud import collate
from geo3d.data import MOSD, Folder, ScanNet, Shapes, Store
from geo3d.data.check import check
from geo3d.data.store import build_store
from geo3d.data.targets import Classes, Joints
from geo3d.encoders import DGCNN
from geo3d.errors import CloudError, ConfigError, SplitError
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.segment import Segment

SAMPLES = Path(__file__).resolve().parents[2] / "datasets"
SETS = {
    "shapes": (Shapes, {"size": 7}),
    "folder": (Folder, {"root": SAMPLES / "folder" / "sample"}),
    "mosd": (MOSD, {"root": str(SAMPLES / "mosd" / "sample")}),
    "scannet": (ScanNet, {"root": str(SAMPLES / "scannet" / "sample"), "align": True}),
}


class Bodies(Blobs):
    """Clouds with every field, some of them only now and then."""

    targets = {"y": Classes(tuple(Blobs.classes)), "joints": Joints(("a", "b"))}

    def __getitem__(self, index):
        cloud = super().__getitem__(index)
        count = len(cloud.pos)
        draw = torch.Generator().manual_seed(index)
        cloud.joints, cloud.frame = torch.rand(2, 3, generator=draw), torch.eye(4, dtype=torch.float64)[None] * 0.1
        if index % 2:
            cloud.x = torch.rand(count, 5, generator=draw).double()
            cloud.point_y = torch.randint(-1, 70_000, (count,), generator=draw)
        if index % 3:
            cloud.rgb = torch.rand(count, 3, generator=draw)
        return cloud


def same_clouds(one: Data, other: Data) -> bool:
    names = set(one.keys())
    return names == set(other.keys()) and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in names
    )


def same_batches(one, other) -> bool:
    for a, b in zip(one, other, strict=True):
        a, b = a.to_dict(), b.to_dict()
        assert a.keys() == b.keys()
        for name, value in a.items():
            equal = torch.equal(value, b[name]) if isinstance(value, torch.Tensor) else value == b[name]
            if not equal or getattr(value, "dtype", None) != getattr(b[name], "dtype", None):
                return False
    return True


@pytest.fixture
def store(tmp_path):
    build_store(Bodies, tmp_path / "store", workers=1, clouds_per_shard=5, size=12, ragged=True)
    return tmp_path / "store"


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("workers", [1, 2])
def test_training_from_a_store_gives_the_same_batches(name, workers, tmp_path):
    dataset_class, options = SETS[name]
    build_store(dataset_class, tmp_path / "store", workers=workers, clouds_per_shard=2, **options)
    for phase in ("pretrain", "supervised"):
        settings = {"num_points": 30, "batch_size": 2, "rotation": "so3", "seed": 4}
        original = DataModule(dataset_class, **settings, **options).of(phase)
        stored = DataModule(Store, root=tmp_path / "store", **settings).of(phase)
        for epoch in (0, 1):
            loaders = [original.train_dataloader(), stored.train_dataloader()]
            for loader in loaders:
                loader.sampler.set_epoch(epoch)
            assert same_batches(*loaders)
        assert original.targets == stored.targets
        for split in ("train", "test") if original.has("test") else ("train",):
            assert same_batches(original.loader(split), stored.loader(split))


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_cloud_comes_back_as_it_was(store, split):
    original, stored = Bodies(split, 12, ragged=True), Store(store, split)
    assert len(stored) == 12 and torch.equal(stored.labels, original.labels) and stored.classes == original.classes
    assert stored.targets == original.targets
    for index in range(12):
        assert same_clouds(stored[index], original[index])
        assert (
            stored.source(index) == f"{store / split / f'{index // 5:06d}'}, cloud {index % 5} (Bodies, cloud {index})"
        )
    assert same_clouds(stored[-1], original[11])
    with pytest.raises(IndexError, match="cloud 12 of 12"):
        stored[12]
    assert stored.manifest()["source"] == original.manifest()


def test_numpy_alone_reads_it(store):
    folder = store / "train" / "000001"
    ptr, pos = np.load(folder / "ptr.npy"), np.load(folder / "pos.npy")
    assert np.array_equal(pos[ptr[2] : ptr[3]], Bodies("train", 12, ragged=True)[7].pos)
    assert np.load(folder / "name.npy")[2] == b"Bodies, cloud 7" and np.load(folder / "y.npy").tolist() == [
        2,
        0,
        1,
        2,
        0,
    ]


def test_colours_and_labels_take_few_bytes_where_nothing_is_lost(tmp_path, store):
    build_store(ScanNet, tmp_path / "rooms", workers=1, **SETS["scannet"][1])
    folder = tmp_path / "rooms" / "train" / "000000"
    assert np.load(folder / "rgb.npy").dtype == np.uint8 and np.load(folder / "point_y.npy").dtype == np.int8
    folder = store / "train" / "000000"  # colours between the multiples of 1/255, and labels above 32767
    assert np.load(folder / "rgb.npy").dtype == np.float32 and np.load(folder / "point_y.npy").dtype == np.int32


def test_an_item_owns_its_rows(store):
    stored = Store(store)
    stored[3].pos.fill_(9)
    assert same_clouds(stored[3], Bodies("train", 12, ragged=True)[3])
    shard = stored._shard(0)
    array = next(array for name, array, _, _ in shard.fields if name == "pos")
    assert isinstance(array.base, np.memmap) and not array.flags.writeable
    assert stored[3].pos.numel() == stored[3].pos.untyped_storage().nbytes() // 4


def test_workers_receive_no_clouds(store):
    stored = Store(store)
    before = len(pickle.dumps(stored))
    _ = stored.labels, [stored[index] for index in range(12)]
    again = pickle.loads(pickle.dumps(stored))
    assert len(pickle.dumps(stored)) == before < 4000
    assert same_clouds(again[5], stored[5]) and torch.equal(again.labels, stored.labels)


def test_the_cache_keeps_nothing_of_a_store(store):
    data = DataModule(Store, root=store, num_points=20, batch_size=4)
    assert len(list(data.train_dataloader())) and len(list(data.loader("train")))
    for cached in (*data._sets.values(), *data._prepared.values()):
        assert not cached.kept and cached.bytes == 0


def test_only_some_shards_are_open_at_once(store, monkeypatch):
    monkeypatch.setattr("geo3d.data.store.dataset.OPEN", 2)
    stored = Store(store)
    for index in (0, 6, 11, 0, 6):
        assert same_clouds(stored[index], Bodies("train", 12, ragged=True)[index])
        assert len(stored._open) <= 2


def test_a_split_that_is_not_there(tmp_path):
    build_store(Blobs, tmp_path / "store", workers=1, splits=["test"], size=4)
    with pytest.raises(SplitError, match="the store has no split 'train'; it has test"):
        Store(tmp_path / "store")


def rewritten(path: Path, **changes) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


POS = Path("train", "000001", "pos.npy")
ABOUT = Path("train", "000001", "shard.json")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda root: shortened(root / POS), r"pos\.npy: expected \d+ bytes, found \d+"),
        (lambda root: (root / POS).unlink(), r"000001/pos\.npy: missing"),
        (lambda root: shutil.rmtree((root / POS).parent), "train/000001: missing"),
        (lambda root: (root / "store.json").unlink(), "the store is not finished; run the same geo3d"),
        (lambda root: rewritten(root / "store.json", format=2), "found 2; update geo3d"),
        (lambda root: rewritten(root / "store.json", format="x"), "found 'x'; prepare it again"),
        (lambda root: rewritten(root / "store.json", splits=3), r"store\.json: damaged"),
        (lambda root: rewritten(root / "store.json", splits={"train": {}}), r"store\.json: damaged \(KeyError"),
        (lambda root: (root / "store.json").write_text('{"form'), r"store\.json: damaged or cut off"),
        (lambda root: (root / "store.json").write_text("[1]"), "expected a JSON object, found a list"),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_damaged_store_is_not_opened(store, harm, message):
    harm(store)
    with pytest.raises(CloudError, match=message) as raised:
        Store(store)
    assert "\n" not in str(raised.value) and str(store) in str(raised.value)


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def resaved(path: Path, array, **options) -> None:
    """The array in a file of the size that the file had."""
    size = path.stat().st_size
    np.save(path, array, **options)
    content = path.read_bytes()
    path.write_bytes(content[:size].ljust(size, b"\0"))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda root: (root / POS).write_bytes(b"x" * (root / POS).stat().st_size), r"not an array of numbers"),
        (lambda root: resaved(root / POS, np.zeros((9, 3), object)), r"pos\.npy: not an array of numbers"),
        (lambda root: resaved(root / POS, np.zeros((9, 3), "f4")), r"expected \(23\d, 3\) of float32, found \(9, 3\)"),
        (lambda root: resaved(root / POS, np.load(root / POS).view("i4")), "of float32, found .* of int32"),
        (lambda root: resaved((root / POS).with_name("ptr.npy"), np.arange(6)), r"ptr\.npy: expected offsets from 0"),
        (lambda root: resaved((root / POS).with_name("ptr.npy"), -np.arange(6)), "expected 6 rising offsets"),
        (lambda root: (root / ABOUT).write_text("{"), r"shard\.json: damaged or cut off"),
        (lambda root: rewritten(root / ABOUT, clouds=5), r"shard\.json: belongs to another store, or has changed"),
    ],
    ids=range(8),
)  # fmt: skip
def test_a_damaged_shard_is_not_read(store, harm, message):
    harm(store)
    stored = Store(store)
    assert len(stored[0].pos)  # the other shards are sound
    with pytest.raises(CloudError, match=message) as raised:
        stored[5]
    assert "\n" not in str(raised.value) and "000001" in str(raised.value)


def test_a_check_compares_the_sums(store):
    content = bytearray((store / POS).read_bytes())
    content[-2] ^= 1  # a coordinate that is as good as any
    (store / POS).write_bytes(content)
    with pytest.raises(CloudError, match=r"pos\.npy: its content has changed since it was written"):
        list(check(Store(store)))


def test_a_store_of_a_store_is_equal(store, tmp_path):
    build_store(Store, tmp_path / "again", workers=1, root=store, clouds_per_shard=7)
    again, first = Store(tmp_path / "again"), Store(store)
    assert all(same_clouds(again[index], first[index]) for index in range(12)) and again.targets == first.targets


def test_what_no_store_can_keep_is_refused(tmp_path):
    class Odd(Blobs):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud[self.name] = self.value if index else cloud.y
            return cloud

    cases = [
        ("weight", torch.ones(1), "Odd, cloud 0: weight: not a field of a cloud"),
        ("x", torch.ones(48, 2), "Odd, cloud 0: x: expected the shape"),
        (
            "y",
            torch.zeros(1, dtype=torch.bfloat16),
            "Odd, cloud 1: y: expected numbers of type float32, .* found bfloat16",
        ),
        (
            "y",
            torch.ones(1, dtype=torch.int32),
            r"Odd, cloud 1: y is int32 \[1\], but int64 \[1\] in clouds before it",
        ),
    ]
    for number, (Odd.name, Odd.value, message) in enumerate(cases):
        with pytest.raises(CloudError, match=message):
            build_store(Odd, tmp_path / str(number), workers=1, size=2)


def test_one_form_in_all_shards(tmp_path):
    class Widening(Blobs):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.x = torch.ones(len(cloud.pos), 1 + index // 2)
            return cloud

    with pytest.raises(CloudError, match=r"train/000001: x is float32 \[2\], but float32 \[1\] in shards before it"):
        build_store(Widening, tmp_path / "store", workers=1, size=4, clouds_per_shard=2)


def test_collated_entries_keep_their_shape(store):
    stored, original = Store(store), Bodies("train", 12, ragged=True)
    one, other = (collate([each[i] for i in range(12)]) for each in (stored, original))
    assert one.joints.shape == (12, 2, 3) and torch.equal(one.frame, other.frame)


def test_a_store_inside_its_data_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="lies in root="):
        build_store(Folder, tmp_path / "store", root=tmp_path)


def test_the_labels_of_points_are_checked_without_reading_the_clouds(tmp_path, monkeypatch):
    build_store(Shapes, tmp_path / "store", workers=1, size=6, num_points=40)
    data = DataModule(Store, root=tmp_path / "store", num_points=10).of("supervised", "point_y")
    labels = torch.cat([cloud.point_y for cloud in map(Shapes(size=6, num_points=40).__getitem__, range(6))])
    counts = dict(enumerate(torch.bincount(labels).tolist()))
    assert data.dataset("train").point_labels == {label: count for label, count in counts.items() if count}
    read: list[int] = []
    once = Store.__getitem__
    monkeypatch.setattr(Store, "__getitem__", lambda self, index: (read.append(index), once(self, index))[1])
    target = data.targets["point_y"]
    assert isinstance(target, Classes)
    encoder = DGCNN(k=4)
    views = Views(SO3(), num_views=1)
    Segment(encoder, target, views).check(data)
    assert set(read) == {0} and len(read) <= 2  # the first cloud of the test split
    Segment(encoder, target, views, class_weights=True).check(data)
    assert len(read) > 6
    with pytest.raises(CloudError, match="the train split: expected point labels from 0 to 1, or -1 for none"):
        Segment(encoder, Classes(("a", "b")), views).check(data)


def test_the_sample_is_read():
    sample, options = SAMPLES / "store" / "sample", {"size": 8, "num_points": 32, "classes": ["chair", "cup"]}
    stored, original = Store(sample), Shapes(**options)
    assert len(stored) == 8 and not stored.damaged_files()
    for index in range(8):
        assert torch.allclose(stored[index].pos, original[index].pos, atol=1e-6)
    assert stored.targets == original.targets and torch.equal(stored.labels, original.labels)
