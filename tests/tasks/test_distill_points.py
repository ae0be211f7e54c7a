"""Distillation of segmentation networks: the loss and its parts, who learns, and in which modes."""

import copy

import pytest
import torch
from torch.nn import functional

from geo3d.cloud import collate
from geo3d.compress import penalty, prune
from geo3d.data import Shapes
from geo3d.decoders import FeaturePropagation
from geo3d.encoders import PointNet2
from geo3d.heads import PointClassifier
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.network import PointNetwork
from geo3d.seeds import seeded
from geo3d.tasks.distill_points import DistillPoints

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


def network(seed=0):
    with seeded(seed):
        encoder = PointNet2(num_samples=(12, 6), num_neighbors=(5, 6), width=0.1)
        decoder = FeaturePropagation(encoder.level_channels, encoder.cloud_channels, ((8, 8), (8, 6), (5,)))
        return PointNetwork(encoder, decoder, PointClassifier(5, 14, hidden=(8,), dropout=0.5, categories=2)).eval()


@pytest.fixture(scope="module")
def batch():
    data = Shapes(size=6, classes=["chair", "cup"], num_points=40)
    return collate([data[i] for i in range(6)])


def task(student, teacher, **keywords):
    module = DistillPoints(student, teacher, Views(SO3(), num_points=30, num_views=1), **keywords)
    module.set_modes()
    return module


def loss(module, batch):
    return float(module.training_step(batch, 0).detach())


def logged(module, batch, monkeypatch):
    terms = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: terms.__setitem__(name, float(value)))
    module.training_step(batch, 0)
    return terms


def test_the_loss_is_zero_for_the_teacher_itself_and_for_no_other(batch):
    assert loss(task(network(), network()), batch) == pytest.approx(0.0, abs=1e-6)
    assert loss(task(network(1), network()), batch) > 1e-3


@pytest.mark.parametrize("part", ["encoder", "decoder", "head"])
def test_every_part_of_the_student_is_compared_and_trained(part, batch):
    student = network()
    with torch.no_grad():
        for weight in getattr(student, part).parameters():
            weight.mul_(1.5)
    module = task(student, network())
    module.training_step(batch, 0).backward()
    assert loss(module, batch) > 1e-5
    trained = {id(weight) for group in module.configure_optimizers().param_groups for weight in group["params"]}
    assert trained == {id(weight) for weight in student.parameters()}
    assert any(bool(weight.grad.any()) for weight in getattr(student, part).parameters() if weight.grad is not None)
    assert not any(weight.requires_grad for weight in module.teacher.parameters())


def test_heads_have_no_dropout_and_the_others_use_the_batch(batch):
    module = task(network(), network())
    for each in (module.student, module.teacher):
        each.eval()
    module.set_modes()
    for each in (module.student, module.teacher):
        assert each.encoder.training and each.decoder.training
        assert not any(part.training for part in each.head.modules())


def test_the_loss_is_the_sum_of_its_parts(batch, monkeypatch):
    student = network(1)
    student.encoder = prune(student.encoder, group="weight")
    module = task(student, network(), labels=2.0, ignore=3)
    terms = logged(module, batch, monkeypatch)
    assert set(terms) == {"loss", "logits", "labels", "compression"}
    assert terms["loss"] == pytest.approx(terms["logits"] + terms["labels"] + terms["compression"], rel=1e-5)
    assert terms["compression"] == pytest.approx(float(penalty(student)))
    (view,) = module.views(batch, module.seed, "distil", 0, 0)
    known = view.batch.point_y != 3
    with torch.no_grad():
        logits, target = (copy.deepcopy(each)(view.batch) for each in (module.student, module.teacher))
    assert terms["labels"] == pytest.approx(
        2 * float(functional.cross_entropy(logits[known], view.batch.point_y[known]))
    )
    student, teacher = (functional.log_softmax(each / 2, 1) for each in (logits, target))
    divergence = (teacher.exp() * (teacher - student)).sum(1).mean() * 4
    assert terms["logits"] == pytest.approx(float(divergence), rel=1e-4)


def test_a_batch_without_labels_teaches_by_the_logits_alone(batch, monkeypatch):
    none = copy.copy(batch)
    none.point_y = torch.full_like(batch.point_y, 7)
    assert set(logged(task(network(1), network(), labels=1.0, ignore=7), none, monkeypatch)) == {"loss", "logits"}
