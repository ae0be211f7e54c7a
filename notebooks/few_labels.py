# %% [markdown]
# # How many labels does pretraining save?
#
# Reads the run folders of `geo3d finetune` under one folder, pretrained and `from_scratch=true`, with several values of
# `data.label_fraction` and several seeds, and draws test accuracy over the share of labels.
#
# `python notebooks/few_labels.py RUNS [PICTURE]`

# %%
import json
import sys
from collections import defaultdict
from pathlib import Path

from geo3d.probes import summarise
from geo3d.show.curves import plot_labels

runs = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/few_labels")
picture = Path(sys.argv[2]) if len(sys.argv) > 2 else runs / "few_labels.png"

# %%
accuracies: dict[str, dict[float, list[float]]] = {"pretrained": defaultdict(list), "from scratch": defaultdict(list)}
for file in sorted(runs.glob("*/metrics.json")):
    metrics = json.loads(file.read_text())
    delivered = json.loads(file.with_name("manifest.json").read_text())["delivered"]
    name = "from scratch" if metrics["from_scratch"] else "pretrained"
    accuracies[name][delivered["label_fraction"]].append(metrics["test"]["accuracy"])

# %%
for name, by_fraction in accuracies.items():
    for fraction, values in sorted(by_fraction.items()):
        row = summarise(values)
        print(f"{name:12}  {fraction:6.1%} of labels  {100 * row['mean']:.1f} +- {100 * (row['std'] or 0):.1f}")
print(plot_labels(accuracies, picture))
