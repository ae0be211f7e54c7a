"""The curve of good frames over the error that is allowed."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from geo3d.pose_metrics import success
from geo3d.show.curves import QUIET, SERIES, panel, save

SHOWN = 80
"""Largest threshold in mm."""


def plot_success(worst: Tensor, path: str | Path, published: Mapping[str, tuple[float, float]]) -> Path:
    """The path of a PNG: the fraction of the frames whose worst joint is at most so far off.

    Args:
        worst: (F,) the largest error of each frame in mm.
        path: Where to write.
        published: Name of a method -> its fractions at 20 and 40 mm, drawn as points.
    """
    thresholds = torch.arange(SHOWN + 1, dtype=torch.float64)
    figure, (ax,) = panel(5.2, 3.6, 1, 1)
    ax.plot(thresholds.numpy(), 100 * success(worst, thresholds).numpy(), color=SERIES[0], linewidth=1.8)
    for number, (name, fractions) in enumerate(published.items()):
        marker = "osD^v"[number % 5]
        ax.plot((20, 40), [100 * each for each in fractions], marker, color=QUIET, ms=5, label=name, fillstyle="none")
    ax.set_xlim(0, SHOWN)
    ax.set_ylim(0, 100)
    ax.set_xlabel("largest error of a joint in the frame (mm)")
    ax.set_ylabel("frames (%)")
    if published:
        ax.legend(loc="lower right", fontsize=8, frameon=False, title="published, at 20 and 40 mm", title_fontsize=8)
    return save(figure, path)
