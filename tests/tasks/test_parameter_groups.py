"""Which optimiser group a parameter belongs to: learned steps and thresholds have a rate of their own."""

import copy

import pytest
import torch
from torch import nn

from geo3d.compress import adapt, apply, calibrate, prune, quantize
from geo3d.encoders import DGCNN
from geo3d.nn.threshold import LR_FACTOR
from geo3d.seeds import seeded
from geo3d.tasks.schedule import decayed, set_learning_rates
from geo3d.testing import tiny_batch


def make():
    with seeded("encoder"):
        return DGCNN(k=4, channels=(16, 16), embedding=32)


def names(module, group):
    named = {id(parameter): name for name, parameter in module.named_parameters()}
    return {named[id(parameter)] for parameter in group["params"]}


def steps(module):
    return {name for name, _ in module.named_parameters() if name.endswith(("log_step", "shift"))}


def test_a_plain_module_has_two_groups():
    matrices, others = decayed(make(), 0.1, 0.02)
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert matrices["lr"] == others["initial_lr"] == 0.02
    assert names(make(), {"params": []}) == set()


def test_every_parameter_is_in_one_group_and_each_factor_has_its_own():
    module = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 4)])
    module[0].bias.lr_factor = 10.0
    module[1].weight.lr_factor = 0.5
    module[1].bias.lr_factor = 0.5
    matrices, others, first, second = decayed(module, 0.1, 0.02)
    assert names(module, matrices) == {"0.weight"} and names(module, others) == set()
    assert names(module, first) == {"0.bias"} and names(module, second) == {"1.weight", "1.bias"}
    assert (first["lr"], first["initial_lr"], second["lr"]) == pytest.approx((0.2, 0.2, 0.01))
    assert first["weight_decay"] == second["weight_decay"] == 0.0
    optimizer = torch.optim.AdamW([group for group in (matrices, others, first, second)])
    set_learning_rates(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.01, 0.1, 0.005])
    module[1].requires_grad_(False)
    assert len(decayed(module, 0.1, 0.02)) == 3


FORMS = {
    "quantized": lambda: quantize(make(), 4, 4),
    "copied": lambda: copy.deepcopy(quantize(make(), 4, 4)),
    "calibrated": lambda: calibrate(quantize(make(), 4, 4), [tiny_batch()]),
    "adaptive": lambda: adapt(quantize(make(), 4, 4), widths=(0.5, 1), depths=(2,), ks=(2, 4), points=(16, 32)),
    "zeros": lambda: quantize(prune(make(), 0.5, group="weight"), 4, 4),
}


@pytest.mark.parametrize("form", FORMS)
def test_steps_and_thresholds_are_not_decayed_and_move_at_their_own_rate(form):
    encoder = FORMS[form]()
    groups = decayed(encoder, 0.1, 0.02)
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in encoder.parameters())
    rates = {name: group["lr"] for group in groups for name in names(encoder, group)}
    decay = {name: group["weight_decay"] for group in groups for name in names(encoder, group)}
    assert steps(encoder) and {rates[name] for name in steps(encoder)} == {0.02}
    assert {decay[name] for name in steps(encoder)} == {0.0}
    thresholds = {name for name in rates if name.endswith("log_tau")}
    assert bool(thresholds) == (form == "zeros") and all(rates[n] == 0.02 * LR_FACTOR for n in thresholds)
    assert all(decay[name] == (0.1 if name.endswith(("linear.weight", "embed.weight")) else 0.0) for name in decay)


def test_a_step_is_not_drawn_to_zero_by_the_decay_of_weights():
    encoder = apply(make(), {"quantize": {"weights": 4, "activations": 4}})
    calibrate(encoder, [tiny_batch()])
    before = {name: encoder.get_parameter(name).clone() for name in steps(encoder)}
    optimizer = torch.optim.AdamW(decayed(encoder, 0.5, 0.1))
    for parameter in encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight = encoder.embed.weight.clone()
    optimizer.step()
    assert all(torch.equal(encoder.get_parameter(name), value) for name, value in before.items())
    torch.testing.assert_close(encoder.embed.weight, 0.95 * weight)
