"""What users get wrong: one line on the error stream, exit status 2, nothing half-written."""

import errno
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from geo3d.cli.__main__ import main

SMALL = ["encoder=dgcnn", "encoder.k=4", "encoder.channels=[8]", "encoder.embedding=8", "projector=[8,8]"]
QUICK = ["trainer=cpu", "trainer.max_epochs=1", "trainer.progress=false", "data.num_points=16", "data.batch_size=8"]


def said(words: list[str], capsys) -> str:
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("geo3d: error: "), lines
    return lines[0]


def modelnet(root: Path, data: np.ndarray | None = None, label: np.ndarray | None = None) -> Path:
    """A tiny folder in the layout of the PointNet release."""
    root.mkdir()
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        (root / f"{split}_files.txt").write_text(f"data/stale/ply_data_{split}0.h5\n")
        with h5py.File(root / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = draw.normal(size=(24, 32, 3)).astype("f4") if data is None else data
            file["label"] = (np.arange(24) % 2)[:, None].astype("u1") if label is None else label
    (root / "shape_names.txt").write_text("bed\nchair\n")
    return root


def pretrain(root: Path, out: Path, *words: str) -> list[str]:
    return ["pretrain", *SMALL, *QUICK, "data=modelnet", f"data.root={root}", "data.up=z", *words, f"out={out}"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    assert main(pretrain(modelnet(root / "data"), root / "run")) == 0
    return root


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["encoder.kk=4"], "did you mean 'k'?"),
        (["trainer.max_epoch=4"], "did you mean 'max_epochs'?"),
        (["data.num_point=4"], "did you mean 'num_points'?"),
        (["lr=abc"], "'abc' is not a float"),
        (["encoder=dgcn"], "did you mean 'dgcnn'?"),
        (["objective=simclr"], "no such objective"),
        (["data.rotation=x"], "aligned, z or so3"),
    ],
)
def test_options(words, expected, trained, tmp_path, capsys):
    assert expected in said(pretrain(trained / "data", tmp_path / "run", *words), capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_missing_folder_says_what_was_looked_for(tmp_path, capsys):
    line = said(pretrain(tmp_path / "nowhere", tmp_path / "run"), capsys)
    assert str(tmp_path / "nowhere") in line


def test_a_truncated_hdf5_file_is_named(tmp_path, capsys):
    root = modelnet(tmp_path / "data")
    file = root / "ply_data_train0.h5"
    file.write_bytes(file.read_bytes()[:3000])
    assert "ply_data_train0.h5" in said(pretrain(root, tmp_path / "run"), capsys)


def test_nan_coordinates_are_counted(tmp_path, capsys):
    data = np.random.default_rng(0).normal(size=(24, 32, 3)).astype("f4")
    data[3, 5] = np.nan
    line = said(pretrain(modelnet(tmp_path / "data", data), tmp_path / "run"), capsys)
    assert "NaN" in line and "ply_data_train0.h5" in line


def test_an_empty_cloud_is_refused(tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    for i in range(4):
        np.savez(tmp_path / "scans" / f"{i}.npz", pos=np.eye(3, dtype="f4")[: 0 if i == 2 else 3])
    words = ["pretrain", *SMALL, *QUICK, "data=folder", f"data.root={tmp_path / 'scans'}", f"out={tmp_path / 'run'}"]
    line = said(words, capsys)
    assert "2.npz" in line and "empty" in line


def test_a_label_out_of_range_is_named(tmp_path, capsys):
    label = (np.arange(24) % 3)[:, None].astype("u1")
    line = said(pretrain(modelnet(tmp_path / "data", label=label), tmp_path / "run"), capsys)
    assert "label" in line and "2" in line


def test_a_checkpoint_of_another_class_is_refused(trained, tmp_path, capsys):
    words = [f"checkpoint={trained / 'run' / 'encoder'}", "encoder=pointnet", "data=modelnet", "data.up=z"]
    line = said(["finetune", *words, f"data.root={trained / 'data'}", *QUICK, f"out={tmp_path / 'run'}"], capsys)
    assert "expected a PointNet, found a DGCNN" in line


def test_a_missing_checkpoint_is_named(trained, tmp_path, capsys):
    words = ["probe", "checkpoint=nowhere/encoder", "data=modelnet", f"data.root={trained / 'data'}"]
    assert "nowhere/encoder" in said([*words, f"out={tmp_path / 'run'}"], capsys)


def test_a_full_disk_leaves_the_previous_checkpoint(trained, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    assert main(pretrain(trained / "data", out)) == 0
    before = (out / "checkpoints" / "last.ckpt").read_bytes()
    card = json.loads((out / "encoder" / "encoder.json").read_text())

    def full(path):
        if path.name.endswith("last.ckpt"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("geo3d.io.files.synchronize", full)
    words = [word.replace("max_epochs=1", "max_epochs=2") for word in pretrain(trained / "data", out)]
    assert "disk is full" in said(words, capsys)
    assert (out / "checkpoints" / "last.ckpt").read_bytes() == before
    assert json.loads((out / "encoder" / "encoder.json").read_text()) == card
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["last.ckpt"]


def test_fine_tuning_needs_no_end(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("geo3d.jobs.finetuning.DEFAULT_STEPS", 3)
    words = [f"checkpoint={trained / 'run' / 'encoder'}", "data=modelnet", "data.up=z", "data.num_points=16"]
    assert main(["finetune", "task=classify", *words, f"data.root={trained / 'data'}", f"out={tmp_path / 'run'}"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["train"]["step"] == 3
