"""Checkpoints of earlier versions still load, and give the same features."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geo3d.checkpoint import load_encoder, load_head, read_card
from geo3d.cloud import make_batch

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path for path in FIXTURES.iterdir() if path.name.startswith("v"))
FORMS = [
    pytest.param(version, path.parent.name, id=f"{version.name}-{path.parent.name}")
    for version in VERSIONS
    for path in sorted(version.glob("*/encoder.json"))
]


@pytest.mark.parametrize("version, name", FORMS)
def test_old_encoders_and_heads_give_equal_features(version, name):
    expected = np.load(version / "expected.npz")
    batch = make_batch(torch.from_numpy(expected["pos"]), ptr=torch.from_numpy(expected["ptr"]))
    encoder, head = load_encoder(version / name), load_head(version / name)
    with torch.no_grad():
        features = encoder(batch)
    given = {f"{name}.point": features.point, f"{name}.cloud": features.cloud}
    if head is not None:
        given[f"{name}.head"] = head(features.cloud)
    assert {key for key in expected.files if key.startswith(f"{name}.")} == set(given)
    for key, value in given.items():
        np.testing.assert_allclose(value.detach().numpy(), expected[key], rtol=1e-4, atol=1e-5, err_msg=key)
    assert read_card(version / name)["note"] == "kept"


def test_every_form_has_a_fixture():
    names = {path.parent.name for path in (FIXTURES / "v0_1_0").glob("*/encoder.json")}
    assert names >= {"dgcnn", "pointnet", "pointnet2_ssg", "pointnet2_msg", "adaptive", "w2", "w4", "w8"}
    assert names >= {"structured_sums", "structured_svd", "pruned_channel", "pruned_weight"}


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_an_old_run_folder_gives_its_encoder(version):
    encoder, card = load_encoder(version / "run"), read_card(version / "run")
    assert encoder.channels == (8, 8) and card["geo3d"] == version.name[1:].replace("_", ".")
    assert card["metrics"] == json.loads((version / "run" / "metrics.json").read_text())
