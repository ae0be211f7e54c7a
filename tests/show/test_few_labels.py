"""On run folders made by real, tiny fine-tuning runs."""

import runpy
import sys
from pathlib import Path

import pytest
from support.blobs import Blobs

from geo3d.encoders import DGCNN
from geo3d.errors import CloudError
from geo3d.jobs import finetune
from geo3d.show.few_labels import read_runs
from geo3d.tasks.datamodule import DataModule


def test_it_tells_pretrained_from_scratch_and_draws(tmp_path, monkeypatch, capsys):
    trainer = {"max_steps": 2, "progress": False, "accelerator": "cpu"}
    for i, fraction in enumerate((0.25, 1.0)):
        data = DataModule(Blobs, batch_size=8, num_points=16, label_fraction=fraction)
        first = finetune(data, out=tmp_path / f"s{i}", encoder=DGCNN(k=4, channels=(8,), embedding=8), trainer=trainer)
        tuned = finetune(data, out=tmp_path / f"p{i}", checkpoint=tmp_path / f"s{i}" / "encoder", trainer=trainer)
        assert first["from_scratch"] and not tuned["from_scratch"]
    monkeypatch.setattr(sys, "argv", ["few_labels.py", str(tmp_path), str(tmp_path / "picture.png")])
    runpy.run_module("geo3d.show.few_labels", run_name="__main__")
    printed = capsys.readouterr().out
    assert "pretrained" in printed and "25.0% of labels" in printed and "100.0% of labels" in printed
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(CloudError, match="no run folder of geo3d finetune"):
        read_runs(Path(tmp_path))
