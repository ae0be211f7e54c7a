"""Segmentation: what is trained, scored, saved and refused."""

import json
from functools import partial

import pytest
import torch
from torch_geometric.data import Data

from geo3d.checkpoint import open_checkpoint
from geo3d.cli.config import compose
from geo3d.cloud import collate
from geo3d.data import Shapes
from geo3d.data.targets import Classes
from geo3d.decoders import FeaturePropagation, GlobalConcat, Upcast
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import CloudError, ConfigError
from geo3d.heads import PointClassifier
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.jobs import finetune, pretrain
from geo3d.objectives import PointInfoNCE
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.segment import Segment

TRAINER = {"accelerator": "cpu", "progress": False}
VIEWS = Views(SO3(), num_views=1)


class Halves(torch.utils.data.Dataset):
    """Points above and below the middle, and some without a label."""

    classes, labels = [], None
    targets = {"point_y": Classes(("low", "high"), ignore=7)}
    shift = 0

    def __init__(self, split="train", size=16, points=120):
        self.split, self.size, self.points = split, size, points

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index + 1000 * (self.split == "test"))
        pos = torch.rand(self.points, 3, generator=draw)
        label = (pos[:, 2] > 0.5).long() + self.shift
        label[::10] = 7
        return Data(pos=pos, point_y=label)

    def manifest(self):
        return {"name": "halves", "split": self.split, "size": self.size}


def small(**keywords):
    with seeded(0, "encoder"):
        return DGCNN(**{"k": 6, "channels": (16, 16), "embedding": 32} | keywords)


def halves(dataset=Halves, **keywords):
    return DataModule(dataset, **{"num_points": 60, "batch_size": 4, "holdout": 0.0} | keywords)


def test_what_is_learned_is_scored_on_all_points(tmp_path):
    metrics = finetune(
        halves(), out=tmp_path, task=Segment, encoder=small(), lr=1e-2, trainer=TRAINER | {"max_epochs": 15}
    )
    test = metrics["test"]
    assert test["miou"] > 0.8 and test["accuracy"] > 0.9 and test["points"] == "all"
    assert test["count"] == 16 * 108  # 12 of 120 points of each cloud have no label
    assert set(test["class_iou"]) == {"low", "high"} and sum(map(sum, test["confusion"])) == test["count"]
    assert json.loads((tmp_path / "metrics.json").read_text())["test"] == test
    opened = open_checkpoint(tmp_path)
    assert type(opened.decoder) is GlobalConcat and opened.card["task"] == "segment"
    module = Segment(opened.encoder, halves().targets["point_y"], VIEWS, decoder=opened.decoder)
    module.head = opened.head
    assert module.score(halves()) == test


def test_points_without_a_label_teach_nothing():
    module = Segment(small(), Classes(("a", "b"), ignore=7), VIEWS).train()
    prediction = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 7, 1, 7, 0, 1])
    for lovasz in (0.0, 1.0):
        module.lovasz = lovasz
        loss, _ = module.loss(prediction, Data(point_y=labels))
        (grad,) = torch.autograd.grad(loss, prediction)
        assert bool((grad[labels == 7] == 0).all()) and bool((grad[labels != 7] != 0).all())
    expected = torch.nn.functional.cross_entropy(prediction[labels != 7], labels[labels != 7])
    module.lovasz = 0.0
    assert torch.equal(module.loss(prediction, Data(point_y=labels))[0], expected)
    nothing, _ = module.loss(prediction, Data(point_y=torch.full((6,), 7)))
    assert float(nothing) == 0 and nothing.requires_grad


def test_rare_classes_weigh_more():
    class Rare(Halves):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.point_y = (torch.arange(len(cloud.pos)) < 12).long()
            return cloud

    module = Segment(small(), Classes(("many", "few"), ignore=7), VIEWS, class_weights=True)
    module.check(halves(Rare).of("supervised", "point_y"))
    torch.testing.assert_close(module.weights, torch.tensor([1.0, 9 ** (1 / 3)]))
    few = halves(Rare, label_points=5).of("supervised", "point_y")
    module.check(few)
    kept = torch.cat([few.prepared("train", pool=True)[i].point_y for i in range(16)])
    many, rare = ((kept == c).sum() for c in (0, 1))
    assert many + rare == 80  # labels that training does not see are not counted
    torch.testing.assert_close(module.weights, torch.tensor([1.0, float(many / rare) ** (1 / 3)]))


def test_parts_are_scored_object_by_object(tmp_path):
    data = DataModule(Shapes, size=12, classes=["chair", "car"], num_points=48, batch_size=4, holdout=0.0)
    data.dataset_keywords["num_points"] = 100
    results = {}
    for protocol in ("restricted", "all"):
        with seeded(1):
            module = Segment(small(), data.targets["point_y"], VIEWS, protocol=protocol)
        assert module.head.categories == 2
        results[protocol] = module.score(data)
        assert results[protocol]["protocol"] == protocol
        assert 0 < results[protocol]["instance_miou"] < 1 and 0 < results[protocol]["class_miou"] < 1
    known = set(data.targets["point_y"].groups[0]) | set(data.targets["point_y"].groups[1])
    columns = torch.tensor(results["restricted"]["confusion"]).sum(0).nonzero()[:, 0].tolist()
    assert set(columns) <= known
    assert results["restricted"]["instance_miou"] >= results["all"]["instance_miou"]


@pytest.mark.parametrize(("encoder", "expected", "hidden"), [
    (lambda: small(), GlobalConcat, (512, 256)),
    (lambda: PointNet2(num_samples=(16, 8), width=0.1), FeaturePropagation, (128,)),
])  # fmt: skip
def test_the_default_decoder_is_the_published_one(encoder, expected, hidden):
    module = Segment(encoder(), Classes(("a", "b")), VIEWS)
    assert type(module.decoder) is expected and module.head.hidden == hidden
    assert type(Segment(encoder(), Classes(("a", "b")), VIEWS, decoder=Upcast).decoder) is Upcast


@pytest.mark.parametrize(("name", "inputs", "count"), [
    ("pointnet2_part", 3, 1_411_250), ("pointnet2_part", 6, 1_411_826),
    ("pointnet2_part_msg", 3, 1_740_958), ("pointnet2_part_msg", 6, 1_741_822),
])  # fmt: skip
def test_the_presets_for_parts_have_the_published_number_of_parameters(name, inputs, count):
    keywords = compose("finetune", [f"encoder={name}"])["encoder"]
    assert keywords.pop("_target_") == "geo3d.encoders.PointNet2"
    encoder = PointNet2(**keywords, in_channels=inputs)
    module = Segment(encoder, Classes([f"part{i}" for i in range(50)], groups=((0, 1),) * 16), VIEWS)
    assert module.decoder.categories == 16 and module.head.categories == 0
    head = PointClassifier(
        module.decoder.out_channels, 50, (128,), bias=True, dropout=0.5, negative_slope=0, output_bias=True
    )
    assert sum(p.numel() for part in (encoder, module.decoder, head) for p in part.parameters()) == count


def test_the_category_is_told_once_and_must_fit():
    with seeded(0, "encoder"):
        encoder = PointNet2(num_samples=(16, 8), num_neighbors=(8, 8), width=0.1)
    parts, scene = Classes(("a", "b", "c", "d"), groups=((0, 1), (2, 3))), Classes(("a", "b"))
    told = Segment(encoder, parts, VIEWS).eval()
    assert (told.decoder.categories, told.head.categories) == (2, 0)
    assert Segment(encoder, scene, VIEWS).decoder.categories == 0
    other = Segment(encoder, parts, VIEWS, decoder=Upcast)
    assert other.head.categories == 2
    draw = torch.Generator().manual_seed(0)
    batch = collate([Data(pos=torch.rand(40, 3, generator=draw), y=torch.tensor(1)) for _ in range(2)])
    logits = told.predict(encoder.eval()(batch), batch)
    batch.y = torch.tensor([1, 0])
    again = told.predict(encoder(batch), batch)
    assert torch.equal(again[:40], logits[:40]) and not torch.allclose(again[40:], logits[40:])
    for target, groups in ((scene, 0), (Classes(("a", "b"), groups=((0, 1),) * 3), 3)):
        with pytest.raises(
            ConfigError, match=rf"categories of the data set, {groups}, or none \(0\); found 2"
        ) as caught:
            Segment(encoder, target, VIEWS, decoder=told.decoder)
        assert "\n" not in str(caught.value)


def test_pretraining_has_no_categories(tmp_path):
    with seeded(0, "encoder"):
        encoder = PointNet2(num_samples=(16, 8), num_neighbors=(8, 8), width=0.1)
    data = DataModule(Shapes, size=12, classes=["chair", "car"], num_points=48, batch_size=4, holdout=0.0)
    with pytest.raises(ConfigError, match="decoder.categories: the category of a cloud is a label"):
        pretrain(
            encoder, PointInfoNCE(pairs=32), SO3(), data, out=tmp_path / "a", projector=(16, 8),
            decoder=partial(FeaturePropagation, categories=2), trainer=TRAINER | {"max_epochs": 1},
        )  # fmt: skip
    assert not (tmp_path / "a").exists()


def test_the_decoder_of_a_pretrained_encoder_goes_on(tmp_path):
    with seeded(0, "encoder"):
        encoder = PointNet2(num_samples=(16, 8), num_neighbors=(8, 8), width=0.1)
    data = DataModule(Shapes, size=12, classes=["chair", "car"], num_points=48, batch_size=4, holdout=0.0)

    def make(level_channels, cloud_channels):
        return FeaturePropagation(level_channels, cloud_channels, ((16,), (16,), (8,)))

    pretrain(
        encoder, PointInfoNCE(pairs=32), SO3(), data, out=tmp_path / "a", decoder=make, projector=(16, 8),
        trainer=TRAINER | {"max_epochs": 1},
    )  # fmt: skip
    before = open_checkpoint(tmp_path / "a").decoder.state_dict()
    run = {"task": Segment, "checkpoint": tmp_path / "a", "trainer": TRAINER | {"max_steps": 1}, "lr": 1e-6}
    finetune(data, out=tmp_path / "b", **run)
    after = open_checkpoint(tmp_path / "b").decoder
    assert after.channels == ((16,), (16,), (8,))
    tracked = "steps.0.1.num_batches_tracked"
    assert int(after.state_dict()[tracked]) == int(before[tracked]) + 1  # it was in training mode
    key = "steps.0.0.weight"
    torch.testing.assert_close(after.state_dict()[key], before[key], rtol=0, atol=1e-4)
    finetune(data, out=tmp_path / "c", from_scratch=True, **run)
    fresh = open_checkpoint(tmp_path / "c").decoder
    assert fresh.channels == after.channels and not torch.allclose(fresh.state_dict()[key], before[key], atol=1e-3)
    finetune(data, out=tmp_path / "d", decoder=Upcast, **run)
    assert type(open_checkpoint(tmp_path / "d").decoder) is Upcast
    with pytest.raises(ConfigError, match="decoder: Classify works on whole clouds; leave the decoder out"):
        finetune(data, out=tmp_path / "e", checkpoint=tmp_path / "a", decoder=Upcast, trainer=TRAINER)


def test_labels_that_do_not_fit_are_refused_before_the_training(tmp_path):
    class Shifted(Halves):
        shift = 1

    class Missing(Halves):
        def __getitem__(self, index):
            return Data(pos=super().__getitem__(index).pos)

    class Empty(Halves):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            cloud.point_y[:] = 7
            return cloud

    for dataset, message in (
        (Shifted, "cloud 0 of the train split: expected point labels from 0 to 1, or 7 for none; found 1 to 2"),
        (Missing, "cloud 0 of the train split: has no point_y, the label of each point"),
        (Empty, "no point of the training clouds is labelled"),
    ):
        with pytest.raises(CloudError, match=message):
            finetune(halves(dataset), out=tmp_path, task=Segment, encoder=small(), trainer=TRAINER)
        assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="segmentation needs at least 2 classes; the data set has 1"):
        Segment(small(), Classes(("a",)), VIEWS)


def test_a_run_is_not_continued_with_another_loss(tmp_path):
    run = {"out": tmp_path, "trainer": TRAINER | {"max_steps": 1}}
    finetune(halves(), task=Segment, encoder=small(), **run)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        finetune(halves(), task=partial(Segment, lovasz=1.0), encoder=small(), **run)


def test_few_labels_are_always_among_the_points():
    for count in (1, 7):
        data = halves(label_points=count).of("supervised", "point_y")
        for pool in (False, True):
            clouds = [data.prepared("train", pool=pool)[i] for i in range(4)]
            assert [int((cloud.point_y != 7).sum()) for cloud in clouds] == [count] * 4
            again = [
                halves(label_points=count).of("supervised", "point_y").prepared("train", pool=pool)[i] for i in range(4)
            ]
            assert all(
                torch.equal(a.pos, b.pos) and torch.equal(a.point_y, b.point_y)
                for a, b in zip(clouds, again, strict=True)
            )
        assert int((data.prepared("test")[0].point_y != 7).sum()) > 40  # the test split keeps its labels
    assert halves(label_points=3).of("pretrain").prepared("train")[0].point_y.ne(7).sum() > 40
    assert halves(label_points=3).manifest()["delivered"]["label_points"] == 3
    assert "label_points" not in halves().manifest()["delivered"]


def test_few_labels_are_the_true_ones():
    data = halves(label_points=9).of("supervised", "point_y")
    for index in range(3):
        cloud = data.prepared("train")[index]
        known = cloud.point_y != 7
        height = (cloud.pos.double() @ cloud.frame[:3, :3].T + cloud.frame[:3, 3])[known][:, 2]
        assert torch.equal(cloud.point_y[known], (height > 0.5).long())


def test_a_fraction_of_the_scenes_is_trained_on():
    data = halves(scene_fraction=0.25).of("supervised", "point_y")
    assert len(data.training) == 4 and len(halves().of("supervised", "point_y").training) == 16
    assert halves(scene_fraction=0.25, seed=1).of("supervised", "point_y").training.tolist() != data.training.tolist()
    assert len(halves(scene_fraction=0.25).training) == 16  # pretraining sees all
    assert data.manifest()["delivered"]["scene_fraction"] == 0.25


def test_channels_that_the_decoder_reads_are_not_pruned(tmp_path):
    run = {"out": tmp_path, "task": Segment, "trainer": TRAINER | {"max_steps": 2}}
    with pytest.raises(ConfigError, match="recipe.prune: takes channels out of the encoder at the end"):
        finetune(halves(), encoder=small(), recipe={"prune": {"group": "channel", "kept": 0.5}}, **run)
    assert not list(tmp_path.iterdir())
    recipe = {"prune": {"group": "weight", "kept": 0.5}, "quantize": {"weights": 8, "activations": 8}}
    finetune(halves(), encoder=small(), recipe=recipe, **run)
    assert [step["step"] for step in open_checkpoint(tmp_path).card["compression"]] == ["prune", "quantize"]


def test_without_labels_there_is_no_score(tmp_path):
    class Unlabelled(Halves):
        def __getitem__(self, index):
            cloud = super().__getitem__(index)
            if self.split == "test":
                cloud.point_y[:] = 7
            return cloud

    with pytest.raises(CloudError, match="no point of the test clouds is labelled; the encoder is saved"):
        finetune(halves(Unlabelled), out=tmp_path, task=Segment, encoder=small(), trainer=TRAINER | {"max_steps": 1})
    assert type(open_checkpoint(tmp_path).decoder) is GlobalConcat
