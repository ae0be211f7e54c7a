"""Are poses of generated hands like real ones? Distances and angles of joints beside those of NYU's test frames."""

from pathlib import Path

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from geo3d.data import Hands
from geo3d.data.hands.skeleton import FINGERS
from geo3d.errors import CloudError
from geo3d.io.arrays import read_archive
from geo3d.jobs.pose_scoring import in_millimetres
from geo3d.show.curves import QUIET, SERIES, heading, panel, save

SECOND = 2440
"""The first frame of the second of the two people in NYU's test set."""
TIP, MID, PALM = (8, 6, 4, 2, 0), (9, 7, 5, 3, 1), 13
"""Rows of the 14 joints: tips and middle joints from the thumb to the little finger, and the palm."""
WRISTS = (11, 12)
PALM_AT, WRIST_AT = 0.56, -0.17
"""Where NYU's palm and wrist are on the line from our wrist (0) to the middle finger's first joint (1).

With these, the medians of three lengths of the index finger agree: wrist to palm, palm to middle joint, middle joint to
tip. NYU has no first joints of fingers, and its wrist is farther back than ours.
"""


def hand_poses(truth: Path, picture: Path, number: int) -> str:
    """A table of Wasserstein distances, each for both people, in palm-wrist distances or degrees.

    Beside each stands the distance between the two people, which is as near as one can hope to come.

    Args:
        truth: NPZ file with ``groundtruth`` (8252, 14, 3), pixels and depths of NYU's test frames.
        picture: The PNG file with the distributions.
        number: How many hands to make.
    """
    joints = read_archive(truth).get("groundtruth")
    if joints is None or joints.shape[1:] != (14, 3):
        raise CloudError(f"{truth}: expected groundtruth (frames, 14, 3), the joints of NYU's test frames")
    real = in_millimetres(torch.from_numpy(joints), "nyu")
    hands = Hands(size=number)
    mapped = as_nyu(torch.stack([hands.hand(index).joints for index in range(number)]).double())
    made = features(mapped, palm_lengths(mapped)[:, None])
    people = [features(each, palm_lengths(each).median()) for each in (real[:SECOND], real[SECOND:])]
    lines = ["| | first person | second | first against second |", "|---|---|---|---|"]
    for name in made:
        first, second = (each[name] for each in people)
        cells = [wasserstein_distance(a, b) for a, b in ((made[name], first), (made[name], second), (first, second))]
        lines.append(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    draw(made, people, picture)
    return "\n".join(lines)


def as_nyu(joints: Tensor) -> Tensor:
    """(F, 14, 3) the joints of NYU from ours (F, 21, 3); both wrist joints are the one wrist."""
    mapped = torch.zeros(len(joints), 14, 3, dtype=joints.dtype)
    for finger in range(len(FINGERS)):
        mapped[:, TIP[finger]], mapped[:, MID[finger]] = (
            joints[:, 4 * finger + 4],
            joints[:, 4 * finger + 3 - (finger > 0)],
        )
    mapped[:, 10] = joints[:, 2]
    for places, at in ((list(WRISTS), WRIST_AT), ([PALM], PALM_AT)):
        mapped[:, places] = (joints[:, 0] + at * (joints[:, 9] - joints[:, 0]))[:, None]
    return mapped


def palm_lengths(joints: Tensor) -> Tensor:
    """(F,) distances from the palm to the middle of both wrist joints."""
    return (joints[:, PALM] - joints[:, list(WRISTS)].mean(1)).norm(dim=1)


def features(joints: Tensor, unit: Tensor) -> dict[str, np.ndarray]:
    """Distances in units of a palm's length, and angles in degrees, each over all frames.

    Args:
        joints: (F, 14, 3).
        unit: () the length of one person's palm, or (F, 1) for frames of many people.
    """
    tip, mid, palm = joints[:, list(TIP)], joints[:, list(MID)], joints[:, PALM : PALM + 1]
    to_tip, to_palm = tip - mid, palm - mid
    lengths = {"tip to middle joint": to_tip, "middle joint to palm": to_palm}
    angle = torch.nn.functional.cosine_similarity(to_tip, to_palm, 2).clamp(-1, 1).acos() * 180 / torch.pi
    scaled = {name: vectors.norm(dim=2) / unit for name, vectors in lengths.items()}
    between = (tip[:, 1:] - tip[:, :-1]).norm(dim=2) / unit
    values = {}
    for finger, name in enumerate(FINGERS):
        values |= {f"{name}: {length}": row[:, finger] for length, row in scaled.items()}
        values[f"{name}: angle at the middle joint"] = angle[:, finger]
        if finger:
            values[f"tips of {FINGERS[finger - 1]} and {name}"] = between[:, finger - 1]
    return {name: row.numpy() for name, row in values.items()}


def draw(made: dict[str, np.ndarray], people: list[dict[str, np.ndarray]], path: Path) -> None:
    """Write the distributions of all features, one small panel each."""
    figure, axes = panel(12, 13, 5, 4)
    for ax, (name, values) in zip(axes, made.items(), strict=False):
        every = np.concatenate([values, *(each[name] for each in people)])
        bins = np.linspace(*np.quantile(every, (0.002, 0.998)), 40)
        for sample, color, label in ((values, SERIES[0], "generated"), (people[0][name], QUIET, "real, first person"),
                                     (people[1][name], SERIES[1], "real, second person")):  # fmt: skip
            ax.hist(sample, bins=bins, density=True, histtype="step", color=color, label=label)
        heading(ax, name)
        ax.set_yticks([])
    axes[0].legend(fontsize=7, frameon=False)
    axes[-1].set_axis_off()
    save(figure, path)
