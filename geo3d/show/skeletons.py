"""Pictures of hands: predicted and true skeletons over the points that the camera measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from geo3d.show.curves import QUIET, SERIES, heading, panel, save


class Frame(NamedTuple):
    """One hand, in millimetres in the camera's axes."""

    title: str
    points: Tensor
    """(N, 3)"""
    predicted: Tensor
    """(J, 3)"""
    truth: Tensor
    """(J, 3)"""


def plot_skeletons(frames: Sequence[Frame], bones: Sequence[tuple[int, int]], path: str | Path) -> Path:
    """The path of a PNG: each hand as the camera sees it, and below from the side.

    Args:
        frames: The hands, one in each column.
        bones: Which joints are joined by a line.
        path: Where to write.
    """
    figure, axes = panel(3.4 * len(frames), 6.8, 2, len(frames))
    for column, frame in enumerate(frames):
        middle = frame.truth.mean(0)
        for ax, (across, name) in zip(axes[column :: len(frames)], ((0, "x (mm)"), (2, "z (mm)")), strict=True):
            points, predicted, truth = (
                (each - middle)[:, [across, 1]].numpy() for each in (frame.points, frame.predicted, frame.truth)
            )
            ax.scatter(points[:, 0], points[:, 1], s=1.5, color=QUIET, alpha=0.35, linewidths=0)
            for joints, color, label in ((truth, SERIES[0], "true"), (predicted, SERIES[1], "predicted")):
                for a, b in bones:
                    ax.plot(*joints[[a, b]].T, color=color, linewidth=1.4)
                ax.scatter(joints[:, 0], joints[:, 1], s=9, color=color, zorder=3, linewidths=0, label=label)
            ax.set_aspect("equal", adjustable="datalim")
            ax.set_xlabel(name)
            ax.set_ylabel("y (mm)")
            ax.invert_yaxis()
        heading(axes[column], frame.title)
    axes[0].legend(fontsize=8, frameon=False)
    return save(figure, path)
