"""Cards and weights of earlier versions in today's words; whole checkpoints of 0.1.0 are in tests/test_fixtures.py."""

import torch

from geo3d.checkpoint.upgrade import upgrade_card, upgrade_state


def test_quantizers_have_new_names_and_what_else_is_called_ready_keeps_its_own():
    old = {
        "layers.0.table_quantizer.log_step": torch.zeros(1),
        "layers.0.table_quantizer.ready": torch.tensor(True),
        "quantizers.1.layers_0_table_quantizer.ready": torch.tensor(True),
        "quantizers.1.layers_0_table_quantizer.log_step": torch.zeros(1),
        "gate.ready": torch.tensor(True),
        "ready": torch.tensor(True),
    }
    assert list(upgrade_state(old)) == [
        "layers.0.neighbor_quantizer.log_step",
        "layers.0.neighbor_quantizer.initialized",
        "quantizers.1.layers_0_neighbor_quantizer.initialized",
        "quantizers.1.layers_0_neighbor_quantizer.log_step",
        "gate.ready",
        "ready",
    ]
    assert all(a is b for a, b in zip(upgrade_state(old).values(), old.values(), strict=True))


def test_records_of_compression_steps_have_new_words():
    old = {
        "class": "DGCNN",
        "input": {"normalize": True},
        "compression": [{"step": "prune", "finished": True, "share": 0.5}, {"step": "adapt", "exits": [2]}],
    }
    new = upgrade_card(old)
    assert new["compression"] == [
        {"step": "prune", "finalized": True, "fraction": 0.5},
        {"step": "adapt", "depths": [2]},
    ]
    assert new["input"] == {"normalize": "unit_sphere"} and upgrade_card(new) == new
    assert old["compression"][0]["finished"], "what was read is not changed"


def test_heads_without_a_class_are_classifiers():
    assert upgrade_card({"keywords": {}})["class"] == "Classifier"
