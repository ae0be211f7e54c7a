"""Hand poses with few labels: from scratch, after invariant and after equivariant pretraining, on three test sets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checkpoint.open import open_checkpoint
from geo3d.data import Hands
from geo3d.heads.prediction import homeward
from geo3d.io.files import replacing
from geo3d.pose_metrics import MILLIMETRES, joint_distances
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.hand_pose import compare
from studies.runs import metrics, spread

TESTS = ("shape", "view", "pose")
"""What the hands of each test set have that no training hand has."""
PRETRAINED = {
    "invariant": ("objective=info_nce",),
    "equivariant": ("objective=equivariant_info_nce", "objective.follows=[Tilt]", "objective.similar=0.3"),
}
"""Words of the objectives. In their principal axes hands are turned little, so views are tilted instead of turned."""
STARTS = ("from scratch", *PRETRAINED)


class Study(NamedTuple):
    """What all runs share."""

    out: Path
    words: tuple[str, ...]
    """For all commands: data."""
    encoder: tuple[str, ...]
    """For pretraining alone: encoder and invariance."""
    tuned: tuple[str, ...]
    """For training: learning rates."""
    steps: int
    """Of pretraining."""
    tuning: int
    """Steps of training with labels."""
    unlabelled: int
    """Clouds for pretraining."""
    tests: int
    """Clouds of each test set."""


def poses(study: Study, seeds: Sequence[int], labels: Sequence[int]) -> str:
    """A table: mean joint error in mm for each number of labels, start and test set, with the gain over from scratch.

    All starts see the same labelled clouds in the same order; they differ in their first weights alone.
    """
    lines = ["| labels | test set | " + " | ".join((*STARTS, *(f"gain, {name}" for name in PRETRAINED))) + " |"]
    lines.append("|---" * (2 + len(STARTS) + len(PRETRAINED)) + "|")
    floor = mean_pose(study)
    lines.append(
        f"| the mean pose | {', '.join(TESTS)} | {', '.join(f'{floor[test]:.1f}' for test in TESTS)} | | | | |"
    )
    for number in labels:
        runs = [{start: _errors(study, seed, number, start) for start in STARTS} for seed in seeds]
        for test in TESTS:
            errors = {start: [run[start][test] for run in runs] for start in STARTS}
            scratch = errors["from scratch"]
            gains = [[100 * (1 - b / a) for a, b in zip(scratch, errors[name], strict=True)] for name in PRETRAINED]
            cells = [
                str(number),
                test,
                *(spread(errors[start]) for start in STARTS),
                *(f"{spread(g)} %" for g in gains),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _errors(study: Study, seed: int, labels: int, start: str) -> dict[str, float]:
    """Mean joint error in mm on each test set of one run."""
    source = next(iter(PRETRAINED)) if start == "from scratch" else start  # its encoder's kind is all that is used
    pretrained, own = study.out / f"{source}-{seed}", f"seed={seed}"
    metrics("pretrain", pretrained, *study.words, *study.encoder, *PRETRAINED[source], *study.tuned,
            f"data.size={study.unlabelled}", f"trainer.max_steps={study.steps}", own)  # fmt: skip
    run = study.out / f"{start.replace(' ', '_')}-{labels}-{seed}"
    metrics("finetune", run, "task=hand_pose", f"checkpoint={pretrained}/encoder", *study.words, f"data.size={labels}",
            *study.tuned, f"data.test_size={study.tests}", f"trainer.max_steps={study.tuning}", own,
            *(["from_scratch=true"] if start == "from scratch" else []))  # fmt: skip
    return scored(run, study.tests)


def scored(run: Path, tests: int) -> dict[str, float]:
    """Mean joint error in mm of a network on each test set (a run has one size of them); computed once, then read."""
    file = run / "held_out.json"
    if not file.exists():
        opened = open_checkpoint(run)
        assert opened.head is not None
        errors = {}
        for test in TESTS:
            done = compare(
                opened.encoder, opened.head, test_set(test, tests, opened.card["input"]), "test", opened.card["signs"]
            )
            errors[test] = float(joint_distances(done.predicted, done.truth).mean())
        with replacing(file) as new:
            new.write_text(json.dumps(errors))
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def test_set(test: str, size: int, prepared: dict[str, Any]) -> DataModule:
    """Hands of a test set; ``prepared`` holds ``num_points`` and ``normalize``."""
    return DataModule(
        Hands, held_out=test, size=size, num_points=prepared["num_points"], normalize=prepared["normalize"]
    )


def lengths_at_home(offset: Tensor, batch: Batch) -> Tensor:
    """(B, J) lengths in mm, in the coordinates of the sources, of differences (B, J, 3) in those of the clouds."""
    linear, _ = homeward(batch)
    return MILLIMETRES * (offset.double() @ linear.mT).norm(dim=2)


def mean_pose(study: Study) -> dict[str, float]:
    """Mean joint error in mm when every hand has the mean joints of training hands in the frame of its cloud."""
    given = dict(word.removeprefix("data.").split("=") for word in study.words if word.startswith("data."))
    prepared = {"normalize": given["normalize"], "num_points": int(given["num_points"])}
    joints = torch.cat([batch.joints for batch in test_set("none", study.tests, prepared).loader("train")])
    errors = {}
    for test in TESTS:
        distances = []
        for batch in test_set(test, study.tests, prepared).loader("test"):
            distances.append(lengths_at_home(batch.joints - joints.mean(0), batch))
        errors[test] = float(torch.cat(distances).mean())
    return errors
