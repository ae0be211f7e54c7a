"""Fine-tuning, probing and embedding as plain functions, on a tiny data set."""

import json

import numpy as np
import pytest
import torch
from support.blobs import Blobs

from geo3d import objectives
from geo3d.checkpoint import load_encoder, read_card, save_encoder
from geo3d.cloud import collate
from geo3d.encoders import DGCNN, PointNet
from geo3d.errors import CheckpointError, CloudError, ConfigError
from geo3d.invariance import SO3, AnisotropicScale, Translation
from geo3d.jobs import embed, finetune, pretrain, probe
from geo3d.jobs.common import augmentation, fresh_encoder, scalars
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.regularize import encoded
from geo3d.testing import tiny_batch

TRAINER = {"max_epochs": 2, "progress": False, "accelerator": "cpu"}


def blobs(**keywords):
    return DataModule(Blobs, **({"batch_size": 8, "num_points": 16, "size": 36, "holdout": 0.2} | keywords))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrained")
    with seeded(5, "encoder"):
        encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
    pretrain(encoder, objectives.InfoNCE(), SO3(), blobs(), out=out, seed=5, projector=(16, 8), trainer=TRAINER)
    return out / "encoder"


def test_fresh_encoder_is_the_one_pretraining_started_from(pretrained):
    with seeded(5, "encoder"):
        expected = DGCNN(k=4, channels=(8, 8), embedding=16).state_dict()
    fresh = fresh_encoder(read_card(pretrained), 5).state_dict()
    assert all(torch.equal(fresh[key], expected[key]) for key in expected)


def test_probe_prints_floor_result_and_ceiling(pretrained, tmp_path, capsys):
    metrics = probe(pretrained, blobs(rotation="so3"), out=tmp_path, shots=2, draws=3, seeds=2, ceiling=True)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("floor", "result", "ceiling", "strict"))
    assert metrics["protocol"] == "strict" and len(metrics["accuracy"]) == 2
    for name in ("floor", "result", "ceiling"):
        assert 0 <= metrics[name]["mean"] <= 1 and len(metrics[name]["values"]) == 2
    assert (tmp_path / "probe.png").stat().st_size > 0
    cached = list((pretrained.parent / "ceiling").glob("*/metrics.json"))
    stamps = [path.stat().st_mtime_ns for path in cached]
    again = probe(pretrained, blobs(rotation="so3"), out=tmp_path, shots=2, draws=3, seeds=2, ceiling=True)
    assert again == metrics and len(cached) == 2
    assert [path.stat().st_mtime_ns for path in cached] == stamps


def test_probe_pairs_each_checkpoint_with_its_own_floor(pretrained, tmp_path):
    both = probe([pretrained, pretrained], blobs(), out=tmp_path, seeds=2, shots=0, seed=0)
    assert both["checkpoints"] == 2
    with pytest.raises(ConfigError, match=r"^probe\.checkpoint: \[\] is not a str or a list of str of length 1"):
        probe([], blobs(), out=tmp_path)


def test_finetune_reports_the_test_split_and_from_scratch_differs(pretrained, tmp_path):
    tuned = finetune(blobs(label_fraction=0.5), out=tmp_path / "tuned", checkpoint=pretrained, trainer=TRAINER)
    scratch = finetune(
        blobs(label_fraction=0.5), out=tmp_path / "scratch", checkpoint=pretrained, from_scratch=True, trainer=TRAINER
    )
    assert tuned["labelled"] == scratch["labelled"] == 18
    assert scratch["from_scratch"] and not tuned["from_scratch"]
    for metrics in (tuned, scratch):
        assert 0 <= metrics["test"]["accuracy"] <= 1 and 0 <= metrics["test"]["class_accuracy"] <= 1
    a, b = (load_encoder(tmp_path / f / "encoder").state_dict() for f in ("tuned", "scratch"))
    assert any(not torch.equal(a[key], b[key]) for key in a)


def test_a_frozen_encoder_stays_as_it_was(pretrained, tmp_path):
    finetune(blobs(), out=tmp_path, checkpoint=pretrained, freeze=True, trainer=TRAINER)
    before, after = load_encoder(pretrained).state_dict(), load_encoder(tmp_path / "encoder").state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_finetune_is_the_same_twice(pretrained, tmp_path):
    runs = [finetune(blobs(), out=tmp_path / str(i), checkpoint=pretrained, trainer=TRAINER) for i in range(2)]
    assert runs[0]["test"] == runs[1]["test"] and runs[0]["train"]["loss"] == runs[1]["train"]["loss"]


def test_finetune_refuses_what_does_not_fit(pretrained, tmp_path):
    with pytest.raises(CheckpointError, match="expected a PointNet, found a DGCNN"):
        finetune(blobs(), out=tmp_path, checkpoint=pretrained, encoder=PointNet(), trainer=TRAINER)
    with pytest.raises(ConfigError, match="needs checkpoint"):
        finetune(blobs(), out=tmp_path, trainer=TRAINER)
    with pytest.raises(CloudError, match="a batch needs 2 clouds"):
        finetune(blobs(size=1), out=tmp_path, checkpoint=pretrained, trainer=TRAINER)


def test_finetune_takes_the_epochs_it_is_given(pretrained, tmp_path):
    finetune(blobs(), out=tmp_path, checkpoint=pretrained, trainer=TRAINER | {"max_epochs": 3})
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 3


def test_finetune_leaves_its_data_module_as_it_was(pretrained, tmp_path):
    data = blobs(label_fraction=0.5)
    before = data.training
    finetune(data, out=tmp_path, checkpoint=pretrained, trainer=TRAINER)
    assert torch.equal(data.training, before) and len(data.heldout)


def test_finetune_looks_at_test_labels_before_it_trains(pretrained, tmp_path):
    class Strange(Blobs):
        def __init__(self, split="train", **keywords):
            super().__init__(split, **keywords)
            if split == "test":
                self.labels = self.labels + 1

    with pytest.raises(CloudError, match="Strange: expected labels from 0 to 2, .*; found 1 to 3 in test"):
        finetune(DataModule(Strange, num_points=16), out=tmp_path, checkpoint=pretrained, trainer=TRAINER)
    assert not list(tmp_path.iterdir())


def test_probe_says_where_it_departs_from_protocol_and_training(pretrained, tmp_path):
    with pytest.warns(UserWarning) as said:
        probe(pretrained, blobs(num_points=12), out=tmp_path, seeds=1, shots=0, protocol="iae")
    text = " | ".join(str(each.message) for each in said)
    assert "trained on 16 points" in text and "asks for 2048 points" in text


def test_embed_writes_features_of_a_data_set_and_of_a_file(pretrained, tmp_path):
    metrics = embed(pretrained, blobs(), out=tmp_path / "set")
    arrays = np.load(tmp_path / "set" / "features.npz")
    assert arrays["train"].shape == (36, 32) and arrays["test_y"].shape == (36,)
    assert metrics["arrays"]["train"] == [36, 32]
    encoder, data = load_encoder(pretrained), blobs()
    with torch.no_grad():
        expected = encoder(collate([data.prepared("train")[7]])).cloud
    assert np.allclose(arrays["train"][7], expected, atol=1e-5)
    np.savetxt(tmp_path / "cloud.xyz", np.random.default_rng(0).normal(size=(40, 3)))
    embed(pretrained, cloud=tmp_path / "cloud.xyz", out=tmp_path / "file")
    arrays = np.load(tmp_path / "file" / "features.npz")
    assert arrays["cloud"].shape == (1, 32) and arrays["point"].shape == (16, 16) and arrays["pos"].shape == (16, 3)
    with pytest.raises(ConfigError, match="exactly one"):
        embed(pretrained, out=tmp_path / "none")


def test_embed_refuses_features_that_are_not_finite(tmp_path):
    with seeded(0, "encoder"):
        encoder = DGCNN(k=4, channels=(8,), embedding=8)
    with torch.no_grad():
        encoder.norm.weight.fill_(3e38)
    save_encoder(encoder.eval(), tmp_path / "encoder")
    np.savetxt(tmp_path / "cloud.xyz", 100 * np.random.default_rng(0).normal(size=(40, 3)))
    with pytest.raises(CloudError, match="the features are not all finite; look at the clouds"):
        embed(tmp_path / "encoder", cloud=tmp_path / "cloud.xyz", out=tmp_path / "run")
    assert not (tmp_path / "run" / "features.npz").exists()


def test_embed_turns_normals_with_the_points(tmp_path):
    with seeded(0, "encoder"):
        save_encoder(DGCNN(in_channels=6, k=4, channels=(8,), embedding=8), tmp_path / "encoder")
    draw = np.random.default_rng(0)
    pos, normal = draw.normal(size=(2, 20, 3)).astype("f4")
    turned = [np.stack([each[:, 0], -each[:, 2], each[:, 1]], 1) for each in (pos, normal)]
    np.savez(tmp_path / "y.npz", pos=pos, normal=normal)
    np.savez(tmp_path / "z.npz", pos=turned[0], normal=turned[1])
    features = []
    for up in "yz":
        embed(tmp_path / "encoder", cloud=tmp_path / f"{up}.npz", up=up, out=tmp_path / up)
        features.append(np.load(tmp_path / up / "features.npz"))
    for name in ("cloud", "point", "pos"):
        assert np.array_equal(features[0][name], features[1][name]), name


def test_embed_says_when_clouds_have_other_numbers_of_points_than_in_training(pretrained, tmp_path):
    with pytest.warns(UserWarning, match="trained on 16 points and is given data.num_points=12"):
        embed(pretrained, blobs(num_points=12), out=tmp_path)


def test_supervised_training_draws_the_pose_of_the_data_and_the_usual_scale_and_shift():
    found = {rotation: augmentation(rotation).parts for rotation in ("aligned", "z", "so3")}
    assert {name: [type(part).__name__ for part in parts[:-2]] for name, parts in found.items()} == {
        "aligned": [], "z": ["SO2"], "so3": ["SO3"],
    }  # fmt: skip
    for *_, scale, shift in found.values():
        assert repr(scale) == repr(AnisotropicScale(2 / 3, 1.5)) and repr(shift) == repr(Translation(0.2))


def test_a_run_is_not_continued_in_another_arithmetic(tmp_path):
    def run(**trainer):
        with seeded(5, "encoder"):
            encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
        return pretrain(encoder, objectives.InfoNCE(), SO3(), blobs(), out=tmp_path, trainer=TRAINER | trainer)

    run(precision="32-true")
    assert not {"precision", "gradient_clip_val"} & json.loads((tmp_path / "settings.json").read_text()).keys()
    for other in ({"precision": "bf16-mixed"}, {"gradient_clip_val": 0.1}):
        with pytest.raises(ConfigError, match="holds a run with other settings"):
            run(**other)
    finetune(blobs(), out=tmp_path / "tuned", checkpoint=tmp_path / "encoder", trainer=TRAINER)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        clipped = TRAINER | {"gradient_clip_val": 0.1}
        finetune(blobs(), out=tmp_path / "tuned", checkpoint=tmp_path / "encoder", trainer=clipped)


def test_the_settings_of_an_objective_hold_its_lists():
    class Weighted(objectives.InfoNCE):
        def __init__(self, weights):
            super().__init__()
            self.weights, self._hidden, self.module = weights, 1, torch.nn.Identity()

    assert scalars(Weighted((1.0, 0.5))) == {"class": "Weighted", "temperature": 0.1, "weights": (1.0, 0.5)}


def test_the_card_counts_the_clouds_that_were_seen(tmp_path):
    with seeded(5, "encoder"):
        encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
    few = blobs(batch_size=64, size=18, holdout=0.0)
    metrics = pretrain(encoder, objectives.InfoNCE(), SO3(), few, out=tmp_path, trainer=TRAINER)
    assert metrics["step"] == 2 and metrics["clouds"] == 36


def test_what_an_encoder_returns_is_checked(tmp_path):
    class Tuple(DGCNN):
        def forward(self, data):
            return tuple(super().forward(data))

    encoder = Tuple(k=4, channels=(8, 8), embedding=16)
    with pytest.raises(ConfigError, match="Tuple.forward: expected geo3d.cloud.Features; found a tuple"):
        encoded(encoder, tiny_batch(num_points=16))
    wrong = DGCNN(k=4, channels=(8, 8), embedding=16)
    wrong.cloud_channels = 7
    with pytest.raises(ConfigError, match=r"DGCNN.cloud_channels is 7, but forward gives features of shape \(\d, 32\)"):
        encoded(wrong, tiny_batch(num_points=16))
