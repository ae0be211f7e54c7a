"""What fine-tuning trains."""

import pytest

from geo3d.data.targets import Classes
from geo3d.encoders import DGCNN
from geo3d.invariance import Compose
from geo3d.invariance.views import Views
from geo3d.tasks.classify import Classify


@pytest.mark.parametrize("freeze", [False, True])
def test_the_encoder_is_trained_at_its_own_rate_unless_it_is_frozen(freeze):
    encoder = DGCNN(k=4, channels=(8,), embedding=8)
    module = Classify(
        encoder,
        Classes(("a", "b", "c")),
        Views(Compose([]), num_points=16, num_views=1),
        freeze=freeze,
        lr=0.5,
        encoder_lr=0.25,
    )
    rates = {
        id(weight): group["lr"] for group in module.configure_optimizers().param_groups for weight in group["params"]
    }
    assert {rates[id(weight)] for weight in module.head.parameters()} == {0.5}
    assert {rates.get(id(weight)) for weight in encoder.parameters()} == {None if freeze else 0.25}
    assert {weight.requires_grad for weight in encoder.parameters()} == {not freeze}
