"""Runs in processes of their own: two that train together, one that is told to end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ["encoder=dgcnn", "encoder.k=4", "encoder.channels=[8,16]", "encoder.embedding=32", "projector=[32,16]"]
DATA = ["data=shapes", "data.size=128", "data.num_points=48", "data.holdout=0", "objective.temperature=0.2", "lr=3e-3"]


def start(out: Path, *words: str) -> subprocess.Popen:
    return python("-m", "geo3d", "pretrain", *SMALL, *DATA, *words, "trainer=cpu", f"out={out}", cwd=out.parent)


def python(*words: object, cwd: Path) -> subprocess.Popen:
    others = filter(None, [os.environ.get("PYTHONPATH")])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *others]),
    }
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def losses(out: Path) -> list[float]:
    with (out / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def finalize(runs: dict[str, subprocess.Popen]) -> None:
    for name, process in runs.items():
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, f"{name}: {said}"


def test_without_random_views_two_processes_are_one_with_the_joined_batch(tmp_path):
    finalize(
        {
            "two": python("-m", "support.joined", tmp_path / "two", 2, 8, cwd=tmp_path),
            "one": python("-m", "support.joined", tmp_path / "one", 1, 16, cwd=tmp_path),
        }
    )
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 6 and one[-1] < one[0] - 0.1
    assert two == pytest.approx(one, abs=2e-3)


def test_two_processes_follow_one_with_the_joined_batch(tmp_path):
    together = ["data.batch_size=16", "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=8"]
    runs = {
        "two": start(tmp_path / "two", *together),
        "one": start(tmp_path / "one", "data.batch_size=32", "trainer.max_epochs=8"),
    }
    finalize(runs)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    steps = [json.loads((tmp_path / name / "metrics.json").read_text())["step"] for name in runs]
    assert steps[0] == steps[1] == 32
    # The same clouds in the same order, but each process draws its own views: alike, not equal.
    assert sum(abs(a - b) for a, b in zip(one, two, strict=True)) / len(one) < 0.15
    assert one[-1] < one[0] - 0.3 and two[-1] < two[0] - 0.3


def test_two_processes_train_on_points_although_their_loss_never_reaches_the_embedding(tmp_path):
    words = ["objective=point_info_nce", "data.batch_size=4", "trainer.devices=2", "trainer.max_steps=2"]
    process = start(tmp_path / "run", *words, "monitor_every=0")
    finalize({"run": process})
    assert all(0 < loss < 20 for loss in losses(tmp_path / "run"))


def test_a_run_told_to_end_says_how_to_continue_and_does(tmp_path):
    out = tmp_path / "run"
    process = start(out, "trainer.max_epochs=400")
    while process.poll() is None and not (out / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "run the same command again to continue" in said and "Traceback" not in said
    finished = len(losses(out))
    assert 1 <= finished < 400
    again = start(out, f"trainer.max_epochs={finished + 1}")
    assert again.wait(timeout=120) == 0
    assert len(losses(out)) == finished + 1
