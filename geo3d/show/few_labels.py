"""Test accuracy over the fraction of labels, with and without pretraining, from the run folders of ``finetune``.

``python -m geo3d.show.few_labels RUNS [PICTURE]``
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from geo3d.errors import CloudError
from geo3d.show.curves import plot_labels

Accuracies = dict[str, dict[float, list[float]]]


def read_runs(runs: Path) -> Accuracies:
    """``pretrained`` or ``from scratch`` -> fraction of labels -> test accuracies.

    Args:
        runs: A folder of run folders that differ in ``data.label_fraction``, ``from_scratch`` and seeds.

    Raises:
        CloudError: If the folder has no finished fine-tuning run.
    """
    tests: Accuracies = {"pretrained": defaultdict(list), "from scratch": defaultdict(list)}
    for file in sorted(runs.glob("*/metrics.json")):
        metrics = json.loads(file.read_text(encoding="utf-8"))
        if "test" not in metrics or "from_scratch" not in metrics:
            continue  # a run of another command
        fraction = json.loads(file.with_name("manifest.json").read_text(encoding="utf-8"))["delivered"][
            "label_fraction"
        ]
        tests["from scratch" if metrics["from_scratch"] else "pretrained"][fraction].append(metrics["test"]["accuracy"])
    if not any(tests.values()):
        raise CloudError(f"{runs}: no run folder of geo3d finetune with a metrics.json; give the folder above them")
    return tests


def table(accuracies: Mapping[str, Mapping[float, list[float]]]) -> str:
    """One line for each way of training and fraction: mean and standard deviation over the runs."""
    lines = []
    for name, by_fraction in accuracies.items():
        for fraction, values in sorted(by_fraction.items()):
            mean = sum(values) / len(values)
            std = (sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)) ** 0.5
            lines.append(f"{name:12}  {fraction:6.1%} of labels  {100 * mean:.1f} +- {100 * std:.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/few_labels")
    accuracies = read_runs(folder)
    print(table(accuracies))
    print(plot_labels(accuracies, Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "few_labels.png"))
