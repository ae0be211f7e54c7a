import math

import pytest
import torch

from geo3d.nn.norm import BatchNorm
from geo3d.tasks.schedule import decayed, warmup_cosine


def test_warmup_meets_the_cosine_and_ends_at_zero():
    assert warmup_cosine(0.1, 0.1) == 1.0
    assert warmup_cosine(1.0, 0.1) == pytest.approx(0.0)
    assert warmup_cosine(0.55, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(0.0, 0.0) == 1.0
    values = [warmup_cosine(i / 100, 0.2) for i in range(101)]
    assert values.index(max(values)) == 20 and all(math.isfinite(value) for value in values)


def test_norms_and_biases_are_not_decayed_and_frozen_weights_left_out():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), BatchNorm(4), torch.nn.Linear(4, 2).requires_grad_(False))
    matrices, others = decayed(module, 0.1, 1e-3)
    assert [p.shape for p in matrices["params"]] == [(4, 3)] and matrices["weight_decay"] == 0.1
    assert sum(p.numel() for p in others["params"]) == 4 + 4 + 4 and others["weight_decay"] == 0.0
