"""A check of every cloud of a data set, to find broken clouds before a training run does."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import check_cloud, collate
from geo3d.data.cache import Cached
from geo3d.data.modelnet import ModelNet
from geo3d.data.targets import labels_of
from geo3d.errors import CloudError

Rows = list[tuple[str, str]]
SAMPLED = 256
"""How many generated clouds are checked: generating them is slow, and no single one is damaged as a file may be."""
LISTED = 20
"""At most this many broken clouds get a row each."""
NAMED = 3
"""The error at the end names at most this many broken clouds."""


class Figures(NamedTuple):
    """The measurements of one cloud."""

    size: int
    low: Tensor
    high: Tensor
    mean: Tensor
    repeated: int
    asymmetry: Tensor
    broken: tuple[str, ...]
    """Attributes other than the coordinates that have a NaN or infinite value."""


def check(dataset: Any) -> Iterator[tuple[str, str]]:
    """(what, finding) rows about a data set. Each cloud is read once; of a generated set only some are.

    Args:
        dataset: Anything with ``__len__`` and ``__getitem__``, such as the classes of geo3d.data. One that makes its
            clouds has an attribute ``generated = True``, and only its first ``sampled`` (256) are read. One that
            can compare its files with sums kept of them has ``damaged_files()``, one message each.

    Raises:
        CloudError: If the data set is empty, if a cloud is broken, or if the labels do not fit. Errors of clouds are
            raised after the rows, which name the first 20 broken clouds with their files. ModelNet reads all its
            clouds at once, before the rows, and stops at the first broken one.
    """
    if len(dataset) == 0:
        raise CloudError(f"{type(dataset).__name__}: the data set has no cloud")
    if isinstance(dataset, ModelNet):
        _ = dataset.pos
    sampled = getattr(dataset, "sampled", SAMPLED)
    number = min(len(dataset), sampled) if getattr(dataset, "generated", False) else len(dataset)
    clouds, labels = Cached(dataset), labels_of(dataset)
    sound: list[Figures] = []
    damaged = dataset.damaged_files() if hasattr(dataset, "damaged_files") else []
    broken: dict[str, str] = {text: text for text in damaged}
    for i in range(number):
        try:
            cloud, source = clouds[i], _source(dataset, i)
            sound.append(_figures(cloud, source))
            if labels is not None and cloud.get("y") is not None and int(cloud.y) != int(labels[i]):
                raise CloudError(f"{source}: y is {int(cloud.y)}, but labels[{i}] is {int(labels[i])}")
        except CloudError as error:  # all clouds of a damaged HDF5 file raise the same message: it counts once
            broken.setdefault(str(error), _source(dataset, i))
    described = dataset.manifest() if hasattr(dataset, "manifest") else {}
    yield "data set", type(dataset).__name__
    yield from ((key, str(described[key])) for key in ("form", "split") if key in described)
    yield "clouds", str(len(dataset)) + (f"; only the first {number} were checked" if number < len(dataset) else "")
    if unread := getattr(dataset, "unread", None):
        suffixes = sorted(unread.items())
        yield "not read", ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes) + " files"
    if sound:
        yield from _summary(sound, described.get("up"))
    yield from (("broken", message) for message in list(broken)[:LISTED])
    if len(broken) > LISTED:
        yield "broken", f"and {len(broken) - LISTED} more"
    yield from _labels(labels, getattr(dataset, "classes", []))
    if broken:
        raise CloudError(_one_line(broken))


def _source(dataset: Any, index: int) -> str:
    """Where a cloud comes from: its file if the data set knows it, else its number."""
    return dataset.source(index) if hasattr(dataset, "source") else f"{type(dataset).__name__}, cloud {index}"


def _figures(data: Data, source: str) -> Figures:
    """The measurements of one cloud."""
    pos = data.pos
    check_cloud(pos, source)
    try:
        collate([data])
    except CloudError as error:
        raise CloudError(f"{source}: {error}") from None
    low, high = pos.amin(0), pos.amax(0)
    if low.equal(high):
        raise CloudError(f"{source}: its {len(pos)} points all lie in one place")
    others = [key for key in ("normal", "x") if key in data and not bool(torch.isfinite(data[key]).all())]
    return Figures(len(pos), low, high, pos.mean(0), len(pos) - _distinct(pos), _asymmetry(pos), tuple(others))


def _summary(sound: Sequence[Figures], up: str | None) -> Rows:
    """Rows about the clouds that can be used."""
    sizes, repeated = torch.tensor([cloud.size for cloud in sound]), sum(cloud.repeated for cloud in sound)
    low, high = torch.stack([cloud.low for cloud in sound]), torch.stack([cloud.high for cloud in sound])
    mean = torch.stack([cloud.mean for cloud in sound]).mean(0)
    asymmetry = torch.stack([cloud.asymmetry for cloud in sound]).mean(0)
    if up == "y":  # clouds are (x, -z, y) of their files; the rows are about the axes of the files
        asymmetry = asymmetry[[0, 2, 1]]
    guess, place = _up_guess(asymmetry), "in the files " if up else ""
    others = Counter(key for cloud in sound for key in cloud.broken).items()
    figures = ", ".join(f"{name} {value:.3f}" for name, value in zip("xyz", asymmetry.tolist(), strict=True))
    return [
        *([("up", _up(up, guess))] if up else []),
        ("up, by shape", f"{f'perhaps {guess}' if guess else 'unclear'} (asymmetry {place}{figures})"),
        ("points per cloud", _spread(sizes, "{:.0f}")),
        ("bounding box", f"{_triple(low.amin(0))} to {_triple(high.amax(0))}"),
        ("centre", f"{_triple(mean)} (mean over clouds)"),
        ("diagonal", _spread((high - low).norm(dim=1), "{:.4g}")),
        ("repeated points", f"{repeated / int(sizes.sum()):.2%}"),
        *[(f"NaN in {key}", f"{count} clouds; matters with in_channels above 3") for key, count in others],
    ]


def _up(stated: str, guess: str | None) -> str:
    """The stated up axis of the files, and whether the shapes agree with it."""
    if guess is None:
        return f"{stated} (as stated); the shapes leave it unclear"
    if guess == stated:
        return f"{stated} (as stated); the shapes look {guess}-up in the files, too"
    cure = "turn the files, as up must be y or z" if guess == "x" else f"give up={guess}"
    return f"{stated} (as stated); the shapes look {guess}-up in the files: {cure}"


def _one_line(broken: dict[str, str]) -> str:
    """The message of the error that ends the check."""
    if len(broken) == 1:
        return next(iter(broken))
    rest = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    names = "; ".join(list(broken.values())[:NAMED])
    return f"{len(broken)} broken clouds or files: {names}{rest}; mend or remove them"


def _labels(labels: Tensor | None, classes: Sequence[str]) -> Rows:
    """Rows about the labels."""
    if labels is None:
        return [("labels", "none")]
    if int(labels.min()) < 0 or int(labels.max()) >= len(classes):
        raise CloudError(f"labels {int(labels.min())} to {int(labels.max())} do not fit the {len(classes)} classes")
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    rows = [("labels", f"{int(labels.min())} to {int(labels.max())} for {len(classes)} classes")]
    return rows + [(f"class {name}", f"{count} clouds") for name, count in zip(classes, counts, strict=True)]


def _distinct(pos: Tensor) -> int:
    """The number of different points. Rows are compared as raw bytes, which is much faster than as numbers."""
    return len(np.unique(np.ascontiguousarray(pos.numpy()).view(f"V{pos.shape[1] * pos.element_size()}")))


def _asymmetry(pos: Tensor) -> Tensor:
    """(3,) how far the points' distribution along each axis is from its mirror image, as a fraction of the extent."""
    low = pos.amin(0)
    place = ((pos - low) / (pos.amax(0) - low).clamp_min(1e-12)).sort(dim=0).values
    return (place + place.flip(0) - 1).abs().mean(0)


def _up_guess(asymmetry: Tensor) -> str | None:
    """The axis along which the shapes differ most from their mirror image; None if no axis stands out.

    For most things this is the up axis: top and bottom differ more than left and right.
    """
    order = asymmetry.argsort(descending=True).tolist()
    first, second = float(asymmetry[order[0]]), float(asymmetry[order[1]])
    return "xyz"[order[0]] if first > 1.5 * second and first > 0.02 else None


def _spread(values: Tensor, form: str) -> str:
    ordered = values.sort().values
    parts = (ordered[0], ordered[len(ordered) // 2], ordered[-1])
    return " / ".join(form.format(float(part)) for part in parts) + " (min / median / max)"


def _triple(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values.tolist()) + ")"
