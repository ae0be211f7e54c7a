"""What several jobs have in common."""

import pytest
import torch

from geo3d import compress
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.heads import Classifier, JointRefiner
from geo3d.invariance import SO3, Compose
from geo3d.jobs.common import apply_recipe, augmentation, check_channels_stay, head_for, scalars
from geo3d.objectives import InfoNCE
from geo3d.seeds import generator, seeded
from geo3d.testing import tiny_batch


@pytest.fixture
def parts():
    with seeded(0):
        return DGCNN(k=4, channels=(16, 16), embedding=64), Classifier(128, 3, hidden=(8,))


def test_the_head_of_an_encoder_that_says_everything_is_a_copy_to_be_trained(parts):
    encoder, head = parts
    assert head_for(encoder, None) is None
    copy = head_for(encoder, head.requires_grad_(False))
    assert copy is not head and all(weight.requires_grad for weight in copy.parameters())
    for name, value in head.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name


def test_the_head_of_a_pruned_encoder_reads_the_outputs_that_are_left(parts):
    encoder, head = parts
    recipe = {"prune": {"kept": 0.4, "shrink_output": True, "one_shot": True}}
    less = compress.apply(encoder, recipe).eval()
    left = compress.outputs_left(less)
    assert left is not None and len(left) < 128
    narrow = head_for(less, head.eval())
    cloud = torch.randn(5, 128, generator=generator(0, "clouds"))
    missing = torch.ones(128, dtype=torch.bool).index_fill(0, left, False)
    assert torch.allclose(narrow(cloud[:, left]), head(cloud.masked_fill(missing, 0.0)), atol=1e-6)
    assert not narrow.training and all(weight.requires_grad for weight in narrow.parameters())


def test_scalars_are_the_settings_alone():
    assert scalars(InfoNCE(0.2)) == {"class": "InfoNCE", "temperature": 0.2}
    assert scalars(Compose([SO3()])) == {"class": "Compose"}


def test_random_weights_keep_their_scale_when_they_are_structured(monkeypatch, parts):
    asked = []
    monkeypatch.setattr(compress, "apply", lambda encoder, recipe: asked.append(recipe) or encoder)
    recipe = {"structure": {"reduction": 2, "min_channels": 8}}
    apply_recipe(parts[0], recipe, fresh=True)
    apply_recipe(parts[0], recipe)
    apply_recipe(parts[0], {"structure": {"reduction": 2, "regularize": 0.1}}, fresh=True)
    assert [each["structure"].get("fresh", False) for each in asked] == [True, False, False]
    assert apply_recipe(parts[0], None, fresh=True) is parts[0]


@pytest.mark.parametrize("learns", ["joints", "y"])
def test_augmented_hands_keep_their_proportions(learns):
    batch = tiny_batch()
    _, seen = augmentation("so3", learns).draw(batch, generator("augmented"))
    mine = slice(0, int(batch.ptr[1]))
    before, after = (torch.pdist(each.pos[mine]) for each in (batch, seen))
    ratio = after / before
    assert float(ratio.max() / ratio.min() - 1) < 1e-3 or learns == "y"
    assert float(ratio.max() / ratio.min() - 1) > 0.01 or learns == "joints"


def test_only_channels_that_pruning_still_takes_are_refused():
    encoder, head = DGCNN(k=4, channels=(16, 16), embedding=16), JointRefiner(32, 32)
    with pytest.raises(ConfigError, match="takes channels out of the encoder at the end, which the head reads"):
        check_channels_stay(compress.prune(encoder, 0.5), None, head)
    check_channels_stay(compress.prune(encoder, 0.5), None)
    check_channels_stay(compress.prune(encoder, 0.5, one_shot=True), None, head)
