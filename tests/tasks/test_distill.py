"""Distillation: the loss and its parts, and who learns."""

import copy
import math

import pytest
import pytorch_lightning as pl
import torch
from support.blobs import Blobs
from torch import nn

from geo3d import compress
from geo3d.compress import apply
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError, Geo3dError
from geo3d.heads import Classifier
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.seeds import generator, seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.distill import Distill, divergence, feature_distance

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


@pytest.fixture(scope="module")
def data():
    return DataModule(Blobs, batch_size=8, num_points=16, size=24)


@pytest.fixture(scope="module")
def batch(data):
    return next(iter(data.train_dataloader()))


@pytest.fixture(scope="module")
def teacher(data):
    with seeded("teacher"):
        encoder = DGCNN(k=4, channels=(8, 16), embedding=16)
    for each in data.loader("train", batch_size=8):
        encoder.train()(each)
    return encoder.eval()


def head(**keywords):
    with seeded("head"):
        return Classifier(32, 3, hidden=(8,), **keywords).eval()


def task(student, teacher, **keywords):
    return Distill(student, copy.deepcopy(teacher), Views(SO3(), num_points=16, num_views=1), **keywords)


def loss(module, batch):
    return module.training_step(batch, 0)


def test_only_the_student_and_its_head_are_trained(teacher):
    module = task(copy.deepcopy(teacher), teacher, head=head(), teacher_head=head())
    trained = {id(weight) for group in module.configure_optimizers().param_groups for weight in group["params"]}
    assert trained == {id(weight) for part in (module.student, module.head) for weight in part.parameters()}
    assert not any(weight.requires_grad for weight in module.teacher.parameters()) and len(module.teacher) == 2
    assert all(weight.requires_grad for weight in teacher.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_zero_for_the_teacher_itself(training, teacher, batch):
    module = task(copy.deepcopy(teacher), teacher)
    module.student.train(training)
    module.teacher.train(training)
    assert float(loss(module, batch).detach()) == pytest.approx(0.0, abs=1e-9)  # gradients take another operator
    with_heads = task(copy.deepcopy(teacher), teacher, head=head(), teacher_head=head())
    assert float(loss(with_heads, batch).detach()) == pytest.approx(0.0, abs=1e-6)
    other = task(DGCNN(k=4, channels=(8, 16), embedding=16), teacher)
    assert float(loss(other.train(), batch).detach()) > 0.1


def test_the_loss_is_the_sum_of_its_parts(teacher, batch):
    with seeded("student"):
        student = apply(teacher, {"structure": {"min_channels": 8}})
    student_head = copy.deepcopy(head())
    nn.init.normal_(student_head.layers[0].weight, generator=generator("other head"))
    module = task(student, teacher, head=student_head, teacher_head=head(), labels=0.7, temperature=3.0, seed=4)
    (view,) = module.views(batch, 4, "distil", 0, 0)
    with torch.no_grad():
        wanted, cloud = teacher(view.batch).cloud, student.eval()(view.batch).cloud
        scores, target = student_head(cloud), head()(wanted)
    deviation = wanted.double().std(0, correction=0)
    unit = deviation.clamp_min(0.1 * deviation.square().mean().sqrt() + 1e-6)
    features = ((cloud - wanted) / unit).square().mean()
    p, q = (target / 3).double().softmax(1), (scores / 3).double().softmax(1)
    similar = 9 * (p * (p.log() - q.log())).sum(1).mean()
    labels = -scores.double().log_softmax(1)[torch.arange(len(batch.y)), batch.y].mean()
    assert float(similar) > 1e-3
    assert float(loss(module, batch).detach()) == pytest.approx(float(features + similar + 0.7 * labels), rel=1e-4)
    module.labels = 0.0
    assert float(loss(module, batch).detach()) == pytest.approx(float(features + similar), rel=1e-4)


def test_the_distance_is_in_units_of_each_channels_deviation():
    wanted = torch.tensor([[0.0, 10.0, 5.0], [2.0, 30.0, 5.0]])  # deviations 1, 10, 0
    off = wanted + torch.tensor([1.0, 10.0, 0.0])
    assert float(feature_distance(off, wanted)) == pytest.approx(2 / 3, rel=1e-4)
    small = 0.1 * math.sqrt(101 / 3)
    off = wanted + torch.tensor([0.0, 0.0, 1.0])
    assert float(feature_distance(off, wanted)) == pytest.approx((1 / small) ** 2 / 3, rel=1e-4)
    assert float(feature_distance(torch.ones(3, 2), torch.ones(3, 2))) == 0.0


def test_the_divergence_is_that_of_softened_probabilities():
    scores, target = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    q = torch.tensor([1.0, 0.0]).div(2).softmax(0)
    expected = 4 * (0.5 * (0.5 / q).log()).sum() / 2
    assert float(divergence(scores, target, 2.0)) == pytest.approx(float(expected), rel=1e-5)
    assert float(divergence(scores, scores, 2.0)) == pytest.approx(0.0, abs=1e-7)


def test_penalty_and_extra_loss_are_added(teacher, batch):
    soft = apply(teacher, {"structure": {"min_channels": 8, "regularize": 0.5}}).eval()
    assert float(loss(task(soft, teacher), batch).detach()) == pytest.approx(
        float(compress.penalty(soft).detach()), rel=1e-5
    )
    recipe = {"adapt": {"widths": (0.5, 1), "depths": (2,), "ks": (2, 4), "points": (8, 16)}}
    adaptive = apply(teacher, recipe).train()
    module = task(adaptive, teacher, seed=3)
    (view,) = module.views(batch, 3, "distil", 0, 0)
    others = copy.deepcopy(adaptive)
    cloud = others(view.batch).cloud
    features = feature_distance(cloud, teacher(view.batch).cloud.detach())
    extra = others.extra_loss(view.batch, cloud, generator(3, "settings", 0), None)
    assert float(extra.detach()) > 0
    assert float(loss(module, batch).detach()) == pytest.approx(float((features + extra).detach()), rel=1e-5)


def test_what_settings_add_is_asked_of_the_clouds_that_the_student_sees(teacher, batch):
    recipe = {"adapt": {"widths": (0.5, 1), "depths": (2,), "ks": (2, 4), "points": (8, 12)}}
    adaptive = apply(teacher, recipe).train()
    module = task(adaptive, teacher, seed=3, points=12)
    (view,) = module.views(batch, 3, "distil", 0, 0)
    seen = module.views.of_fewer_points(view, 12)
    others = copy.deepcopy(adaptive)
    cloud = others(seen).cloud
    features = feature_distance(cloud, teacher(view.batch).cloud.detach())
    extra = others.extra_loss(seen, cloud, generator(3, "settings", 0), None)
    assert float(loss(module, batch).detach()) == pytest.approx(float((features + extra).detach()), rel=1e-5)


def test_a_student_with_fewer_outputs_is_compared_on_those_it_has(teacher, batch):
    less = apply(teacher, {"prune": {"kept": 0.4, "shrink_output": True, "one_shot": True}}).eval()
    left = compress.outputs_left(less)
    assert len(left) < 32
    module = task(less, teacher)
    (view,) = module.views(batch, 0, "distil", 0, 0)
    with torch.no_grad():
        expected = feature_distance(less(view.batch).cloud, teacher(view.batch).cloud[:, left])
    assert float(loss(module, batch).detach()) == pytest.approx(float(expected), rel=1e-5)


class Watch(pl.Callback):
    """Notes modes in the middle of training."""

    def __init__(self):
        self.seen = []

    def on_before_zero_grad(self, trainer, module, optimizer):
        dropout = [m.training for m in module.head.modules() if isinstance(m, nn.Dropout)]
        teacher = [{m.training for m in each.modules()} for each in module.teacher]
        self.seen.append((module.student.training, module.head.training, dropout, teacher))


def test_both_encoders_see_the_batchs_statistics_and_the_teacher_stays(teacher, data):
    student = apply(teacher, {"quantize": {"weights": 4, "activations": 4}})
    own, given = head(dropout=0.5), head(dropout=0.5)
    module = task(student.train(), teacher, head=own.train(), teacher_head=given.train(), labels=1.0, lr=1e-2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    untouched = copy.deepcopy(teacher.state_dict())
    watch = Watch()
    trainer = pl.Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[watch],
    )  # fmt: skip
    supervised = data.of("supervised", "y")
    trainer.fit(module, datamodule=supervised)
    assert watch.seen == [(True, False, [False], [{True}, {False}])] * 3  # dropout is off, heads keep their statistics
    after = module.state_dict()
    kept = [key for key in before if key.startswith("teacher.") and "running" not in key and "num_batches" not in key]
    assert kept and all(torch.equal(before[key], after[key]) for key in kept)
    for theirs, key in ((given, "teacher.1."), (own, "head.")):
        names = [name for name in theirs.state_dict() if "running" in name]
        assert names and all(torch.equal(before[key + name], after[key + name]) for name in names)
    assert all(torch.equal(value, untouched[key]) for key, value in teacher.state_dict().items())
    assert not teacher.training and all(p.requires_grad for p in (*teacher.parameters(), *given.parameters()))
    weights = [key for key in before if key.endswith("weight") and not key.startswith("teacher.")]
    assert weights and not any(torch.equal(before[key], after[key]) for key in weights)
    moved = [key for key in before if key.startswith("student.") and key.endswith("log_step")]
    assert moved and all(bool(after[key.replace("log_step", "initialized")]) for key in moved)
    optimized = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert optimized == {id(p) for part in (module.student, module.head) for p in part.parameters()}


@pytest.mark.parametrize("keywords", [{"lr": -1.0}, {"labels": -1.0}, {"warmup": 2.0}, {"weight_decay": float("nan")}])
def test_numbers_out_of_range_are_refused(keywords, teacher):
    with pytest.raises((ConfigError, Geo3dError), match=next(iter(keywords))):
        task(copy.deepcopy(teacher), teacher, **keywords)
