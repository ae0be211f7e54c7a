"""Ways to colour the points of a record."""

from collections.abc import Sequence

import numpy as np
from torch_geometric.data import Data

from geo3d.show.palette import COLORS, UNKNOWN, distinct, gradient
from geo3d.show.scene import Coloring


def colorings_of(cloud: Data, names: Sequence[str] = ()) -> tuple[Coloring, ...]:
    """Every way to colour the points of a cloud: its own colours, its labels, normals, and height, best first.

    Args:
        cloud: A record of one cloud with z up.
        names: Of the classes of ``point_y``.
    """
    ways = []
    if "rgb" in cloud:
        ways.append(Coloring("colour", (255 * cloud.rgb.numpy().clip(0, 1)).round().astype(np.uint8)))
    if "point_y" in cloud:
        ways.append(of_labels("label", cloud.point_y.numpy(), names))
    if "instance" in cloud:
        ways.append(of_labels("instance", cloud.instance.numpy()))
    ways.append(of_scalar("height", cloud.pos[:, 2].numpy()))
    if "normal" in cloud:
        shown = np.nan_to_num(cloud.normal.numpy()).clip(-1, 1)
        ways.append(Coloring("normal", (127.5 * (shown + 1)).round().astype(np.uint8)))
    return tuple(ways)


def of_labels(name: str, labels: np.ndarray, names: Sequence[str] = ()) -> Coloring:
    """Points coloured by class; a label without a name is shown as its number, and a negative one as unlabelled.

    Args:
        name: What the labels are.
        labels: (N,) integers.
        names: Of the labels 0, 1, ...
    """
    order, values = np.unique(labels.clip(-1), return_inverse=True)
    colors = distinct(COLORS)[order % COLORS]
    colors[order < 0] = UNKNOWN
    called = tuple(
        "unlabelled" if each < 0 else names[each].replace("_", " ") if each < len(names) else f"{name} {each}"
        for each in order.tolist()
    )
    return Coloring(name, values.reshape(-1).astype(np.int64), colors, called)


def of_scalar(name: str, values: np.ndarray, limits: tuple[float, float] | None = None) -> Coloring:
    """Points coloured from low to high; values beyond the limits have the colours of the limits.

    Args:
        name: What the values are.
        values: (N,) finite numbers.
        limits: Of the scale; by default the lowest and the highest value.
    """
    low, high = limits or (float(values.min()), float(values.max()))
    part = (values - low) / (high - low if high > low else 1.0)
    return Coloring(name, (255 * part.clip(0, 1)).round().astype(np.int64), gradient(), limits=(low, high))
