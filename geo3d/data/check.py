"""Looking at every cloud of a data set, to find what is broken before a training run does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geo3d.cloud import check_cloud
from geo3d.errors import CloudError

Rows = list[tuple[str, str]]


def available() -> Rows:
    """(name, one line about it) of every data set that geo3d can read or make."""
    from geo3d import data  # the package imports its parts, this one too

    return [(name, (getattr(data, name).__doc__ or "").strip().split("\n")[0]) for name in data.__all__]


def check(dataset: Any) -> Rows:
    """(what, finding) rows about a data set, all of whose clouds are read.

    Args:
        dataset: Anything with ``__len__``, ``__getitem__``, ``classes`` and ``labels``, such as those of geo3d.data.

    Raises:
        CloudError: At the first cloud or label that is broken; the message names it.
    """
    if len(dataset) == 0:
        raise CloudError(f"{type(dataset).__name__}: the data set has no cloud")
    sizes, lows, highs, means, repeated = [], [], [], [], 0
    asymmetry = torch.zeros(3)
    for i in range(len(dataset)):
        pos = dataset[i].pos
        check_cloud(pos, f"{type(dataset).__name__} {getattr(dataset, 'root', '')}, cloud {i}")
        sizes.append(len(pos))
        lows.append(pos.amin(0))
        highs.append(pos.amax(0))
        means.append(pos.mean(0))
        repeated += len(pos) - _distinct(pos)
        asymmetry += _asymmetry(pos)
    low, high, mean = torch.stack(lows), torch.stack(highs), torch.stack(means)
    extent = (high - low).norm(dim=1)
    if bool((extent == 0).any()):
        first = int((extent == 0).nonzero()[0])
        raise CloudError(f"{type(dataset).__name__}: all points of cloud {first} lie in one place")
    described = dataset.manifest() if hasattr(dataset, "manifest") else {}
    rows = [("data set", type(dataset).__name__)]
    rows += [(key, str(described[key])) for key in ("form", "split", "up") if key in described]
    rows += [
        ("clouds", str(len(dataset))),
        ("points per cloud", _spread(torch.tensor(sizes), "{:.0f}")),
        ("bounding box", f"{_triple(low.amin(0))} to {_triple(high.amax(0))}"),
        ("centre", f"{_triple(mean.mean(0))} (mean over clouds)"),
        ("diagonal", _spread(extent, "{:.4g}")),
        ("repeated points", f"{repeated / sum(sizes):.2%}"),
        ("not finite", "0"),
        ("up, by shape", _up_guess(asymmetry / len(dataset))),
    ]
    return rows + _labels(dataset.labels, dataset.classes, len(dataset))


def _labels(labels: Tensor | None, classes: Sequence[str], number: int) -> Rows:
    """Rows about the labels."""
    if labels is None:
        return [("labels", "none")]
    if labels.shape != (number,):
        raise CloudError(f"expected {number} labels, one a cloud; found {tuple(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= len(classes):
        raise CloudError(f"labels {int(labels.min())} to {int(labels.max())} do not fit the {len(classes)} classes")
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    rows = [("labels", f"{int(labels.min())} to {int(labels.max())} for {len(classes)} classes")]
    return rows + [(f"class {name}", f"{count} clouds") for name, count in zip(classes, counts, strict=True)]


def _distinct(pos: Tensor) -> int:
    """How many different points there are; rows are compared as raw bytes, which is much faster than as numbers."""
    return len(np.unique(np.ascontiguousarray(pos.numpy()).view(f"V{pos.shape[1] * pos.element_size()}")))


def _asymmetry(pos: Tensor) -> Tensor:
    """(3,) how far the points' distribution along each axis is from its mirror image, as a share of the extent."""
    low = pos.amin(0)
    place = ((pos - low) / (pos.amax(0) - low).clamp_min(1e-12)).sort(dim=0).values
    return (place + place.flip(0) - 1).abs().mean(0)


def _up_guess(asymmetry: Tensor) -> str:
    """The axis along which things look least like their mirror image: most things stand, few look sideways."""
    order = asymmetry.argsort(descending=True).tolist()
    clear = float(asymmetry[order[0]]) > 1.5 * float(asymmetry[order[1]]) and float(asymmetry[order[0]]) > 0.02
    figures = ", ".join(f"{name} {value:.3f}" for name, value in zip("xyz", asymmetry.tolist(), strict=True))
    return f"{'perhaps ' + 'xyz'[order[0]] if clear else 'unclear'} (asymmetry {figures})"


def _spread(values: Tensor, form: str) -> str:
    ordered = values.sort().values
    parts = (ordered[0], ordered[len(ordered) // 2], ordered[-1])
    return " / ".join(form.format(float(part)) for part in parts) + " (min / median / max)"


def _triple(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values.tolist()) + ")"
