"""A data set of one's own, right and wrong: what is refused by ``data check`` and by the data module, in one line."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.data.check import check
from geo3d.data.targets import Classes, labels_of
from geo3d.errors import CloudError, ConfigError
from geo3d.seeds import generator
from geo3d.tasks.datamodule import DataModule


class Own(Dataset):
    """Twelve clouds of 20 points in two classes."""

    classes = ("a", "b")
    labels: Any = torch.arange(12) % 2
    more: dict[str, Any] = {}

    def __init__(self, split: str) -> None:
        self.split = split

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Data:
        draw = generator("own", self.split, index)
        pos = torch.randn(20, 3, generator=draw, dtype=torch.float64)
        return Data(**{"pos": pos.float(), "y": torch.tensor(index % 2)} | self.more)

    def manifest(self) -> dict[str, Any]:
        return {"name": "own", "split": self.split}


def own(**attributes: Any) -> type[Own]:
    return type("Mine", (Own,), attributes)


def alone(**attributes: Any) -> Own:
    """A data set of one cloud, whose message is that of the whole check."""
    return own(__len__=lambda self: 1, labels=[0], **attributes)("train")


def first(dataset: type[Dataset], **options: Any) -> Data:
    return DataModule(dataset, num_points=10, **options).prepared("train")[0]


@pytest.mark.parametrize("normalize", ["unit_sphere", "box", "none"])
def test_coordinates_of_any_float_type_are_taken(normalize):
    pos = torch.randn(20, 3, generator=generator("wide"), dtype=torch.float64)
    cloud = first(own(more={"pos": pos, "x": torch.ones(20, 2, dtype=torch.float64)}), normalize=normalize)
    assert cloud.pos.dtype == cloud.x.dtype == torch.float32
    same = first(own(more={"pos": pos.float(), "x": torch.ones(20, 2)}), normalize=normalize)
    torch.testing.assert_close(cloud.pos, same.pos)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"pos": torch.zeros(20, 3).long()}, r"expected points of shape \(N, 3\) and floats, found .* torch.int64"),
        ({"point_y": torch.zeros(70).long()}, r"point_y: expected the shape \(20,\), one row per point; found \(70,\)"),
        ({"point_y": torch.zeros(7).long()}, r"point_y: expected the shape \(20,\), one row per point; found \(7,\)"),
    ],
)
def test_fields_that_do_not_fit_are_refused(more, message):
    with pytest.raises(CloudError, match=f"cloud 0 of the train split: {message}"):
        first(own(more=more))
    with pytest.raises(CloudError, match=message):
        list(check(alone(more=more)))


def test_the_check_finds_what_training_would_stumble_over():
    with pytest.raises(CloudError, match="radius: not a field of a cloud"):
        list(check(alone(more={"radius": torch.ones(())})))
    with pytest.raises(CloudError, match=r"Mine, cloud 0: y is 1, but labels\[0\] is 0"):
        list(check(alone(more={"y": torch.tensor(1)})))
    assert dict(check(own()("train")))["labels"] == "0 to 1 for 2 classes"
    assert dict(check(own(labels=None)("train")))["labels"] == "none"


def test_generated_sets_are_checked_in_part(monkeypatch):
    monkeypatch.setattr("geo3d.data.check.SAMPLED", 5)
    assert dict(check(own(generated=True)("train")))["clouds"] == "12; only the first 5 were checked"
    assert dict(check(own()("train")))["clouds"] == "12"


@pytest.mark.parametrize("labels", [[0, 1] * 6, (torch.arange(12) % 2).numpy(), (torch.arange(12) % 2).to(torch.uint8)])
def test_labels_may_be_any_integers(labels):
    dataset = own(labels=labels)
    found = labels_of(dataset("train"))
    assert isinstance(found, Tensor) and found.dtype == torch.int64 and found.tolist() == [0, 1] * 6
    data = DataModule(dataset, holdout=0.5)
    assert len(data.heldout) == 6 and data.of("supervised", "y").labels("train").tolist() == [0, 1] * 6


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1], r"expected 12 integers, one per cloud; found \(2,\)"),
        (torch.zeros(12), r"expected 12 integers, .* torch.float32"),
        (["a"] * 12, r"expected a tensor \(n,\), found \['a'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(CloudError, match=rf"Mine\.labels: {message}"):
        DataModule(own(labels=labels)).of("supervised", "y")


@dataclass
class Bare(Dataset):
    """Neither labels nor a manifest."""

    split: str
    targets: dict[str, Classes] = field(default_factory=dict)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Data:
        return Data(pos=torch.randn(9, 3, generator=generator("bare", index)))


def test_what_a_data_set_does_not_say():
    data = DataModule(Bare, batch_size=2)
    assert len(data.heldout) == 0 and len(data.training) == 4 and len(next(iter(data.train_dataloader())).ptr) == 3
    with pytest.raises(CloudError, match=r"Bare: has no manifest\(\)"):
        data.manifest()
    with pytest.raises(CloudError, match="Bare has no target 'y'"):
        data.of("supervised", "y")
    with pytest.raises(CloudError, match="Bare declares the target 'y' but has no labels"):
        DataModule(Bare, targets={"y": Classes(("a",))}).of("supervised", "y")
    with pytest.raises(CloudError, match=r"Mine\.manifest\(\): expected JSON types; .*Tensor"):
        DataModule(own(manifest=lambda self: {"t": torch.zeros(2)})).manifest()
    with pytest.raises(ConfigError, match="phase must be pretrain or supervised; found 'train'"):
        data.of("train")


def test_a_method_called_read_is_the_data_sets_own():
    def read(self: Own, path: str) -> None:
        raise AssertionError(path)

    assert len(first(own(read=read)).pos) == 10


def test_labels_outside_of_the_classes_are_refused():
    for labels in ([-1, 1] * 6, [0, 2] * 6):
        with pytest.raises(CloudError, match="Mine: expected labels from 0 to 1, one for each class; found .* train"):
            DataModule(own(labels=labels)).labels("train")


def test_both_splits_have_the_same_classes():
    class Two(Own):
        def __init__(self, split: str) -> None:
            super().__init__(split)
            self.classes = ("a", "b") if split == "train" else ("b", "a")

    for order in (("train", "test"), ("test", "train")):
        data = DataModule(Two)
        data.dataset(order[0])
        with pytest.raises(CloudError, match=f"Two: the classes of {order[1]} are ., ., but those of {order[0]} are"):
            data.dataset(order[1])


def test_a_cloud_whose_y_contradicts_the_labels_is_refused():
    with pytest.raises(CloudError, match=r"cloud 0 of the train split: y is 1, but labels\[0\] is 0; make them equal"):
        first(own(more={"y": torch.tensor(1)}))


def test_y_may_be_a_plain_number_and_other_fields_are_tensors():
    assert first(own(more={"y": 0})).y == 0
    assert DataModule(own(more={"y": 0}, labels=[0] * 12)).prepared("train")[3].y == 0
    with pytest.raises(CloudError, match="cloud 0 of the train split: joints: expected a tensor; found a list"):
        first(own(more={"joints": [[0.0, 0.0, 0.0]]}))
