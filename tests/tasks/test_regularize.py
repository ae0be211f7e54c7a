import copy

import pytest
import torch

from geo3d.data.targets import Classes
from geo3d.encoders import DGCNN, PointNet
from geo3d.encoders.pointnet import REGULARIZER, orthogonality
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.objectives import InfoNCE
from geo3d.seeds import seeded
from geo3d.tasks.classify import Classify
from geo3d.tasks.pretrain import Pretrain
from geo3d.tasks.regularize import encoded
from geo3d.testing import tiny_batch


def pointnet(**keywords):
    with seeded("regularize"):
        return PointNet(embedding=16, width=0.125, **keywords).train()


def test_the_regularizer_is_that_of_the_same_pass():
    batch, encoder = tiny_batch(), pointnet()
    features, matrix = copy.deepcopy(encoder).with_matrix(batch)
    (_, cloud, _), penalty = encoded(encoder, batch)
    assert torch.equal(cloud, features.cloud)
    assert float(penalty.detach()) == pytest.approx(REGULARIZER * float(orthogonality(matrix).detach()))
    assert {int(count) for name, count in encoder.state_dict().items() if name.endswith("num_batches_tracked")} == {1}
    penalty.backward()
    assert encoder.feature_net.head[-1].weight.grad.abs().sum() > 0


def test_encoders_without_one_add_nothing():
    batch = tiny_batch()
    assert encoded(pointnet(feature_transform=False), batch)[1] is None
    assert encoded(DGCNN(k=4, channels=(8,), embedding=8).train(), batch)[1] is None


def logged(module, batch):
    terms = {}
    module.log = lambda name, value, **_: terms.update({name: float(value)})
    loss = module.training_step(batch, 0)
    return float(loss.detach()), terms


def test_tasks_add_it_to_the_loss(monkeypatch):
    batch = tiny_batch(num_points=16)
    batch.y = torch.arange(len(batch.ptr) - 1) % 2

    def losses(factor):
        monkeypatch.setattr("geo3d.encoders.pointnet.REGULARIZER", factor)
        with seeded("tasks"):
            supervised = Classify(pointnet(), Classes(("a", "b")), Views(SO3(), num_views=1))
            frozen = Classify(pointnet().eval(), Classes(("a", "b")), Views(SO3(), num_views=1), freeze=True)
            pretrained = Pretrain(pointnet(), InfoNCE(), Views(SO3()), projector=(8,))
        return [logged(module, batch) for module in (supervised, frozen, pretrained)]

    (without, _), (frozen, _), (alone, _) = losses(0.0)
    (with_it, _), (still, _), (both, terms) = losses(1.0)
    assert with_it > without + 0.1 and still == frozen
    assert both == pytest.approx(alone + terms["regularizer"], rel=1e-5) and terms["regularizer"] > 0.1
