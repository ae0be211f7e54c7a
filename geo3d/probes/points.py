"""A linear classifier on frozen features of points."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.errors import CloudError
from geo3d.probes.features import standardise
from geo3d.probes.linear import LogisticRegression
from geo3d.seeds import Key, generator

CS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Values of C that are tried."""
TOL = 1e-4


def labelled_rows(
    rows: Callable[[Batch], Tensor],
    loader: Any,
    ignore: int,
    points: int,
    key: tuple[Key, ...],
    device: torch.device | str = "cpu",
) -> list[tuple[Tensor, Tensor]]:
    """For each cloud, features (n, C) and labels (n,) of up to ``points`` labelled points, drawn at random.

    Args:
        rows: Gives features (M, C) of the points of a batch.
        loader: Batches of clouds with ``point_y``.
        ignore: The label of points without one.
        points: How many points of each cloud are kept.
        key: Seeds the choice.
        device: Where ``rows`` computes.
    """
    kept = []
    for number, batch in enumerate(loader):
        x, labels, ends = rows(batch.to(device)).float().cpu(), batch.point_y.cpu(), batch.ptr.tolist()
        for cloud, (start, stop) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
            known = start + (labels[start:stop] != ignore).nonzero()[:, 0]
            order = torch.randperm(len(known), generator=generator(*key, "rows", number, cloud))[:points]
            kept.append((x[known[order]], labels[known[order]]))
    return kept


class LinearProbe:
    """Softmax regression on standardised features; C is the best of :data:`CS` for the second half of the clouds.

    Args:
        clouds: Features and labels of each training cloud, as :func:`labelled_rows` gives them.
        classes: Number of classes.

    Attributes:
        C: The value that was chosen.

    Raises:
        CloudError: If the points have fewer than two labels.
    """

    def __init__(self, clouds: Sequence[tuple[Tensor, Tensor]], classes: int) -> None:
        self.classes = classes
        clouds = [each for each in clouds if len(each[1])]
        if len({label for _, y in clouds for label in y.unique().tolist()}) < 2:
            raise CloudError("a probe of points needs labels of at least two classes on the training clouds")
        half = (len(clouds) + 1) // 2
        first, second = _joined(clouds[:half]), _joined(clouds[half:])
        self.C = CS[len(CS) // 2]
        if len(second[1]) and len(np.unique(first[1])) > 1:
            x, other = standardise(first[0], second[0])
            scores = {C: LogisticRegression(C, tol=TOL).fit(x, first[1]).accuracy(other, second[1]) for C in CS}
            self.C = max(CS, key=lambda C: scores[C])
        x, y = _joined(clouds)
        self.mean, self.std = x.mean(0), np.where(x.std(0) > 1e-9, x.std(0), 1.0)
        self.model = LogisticRegression(self.C, tol=TOL).fit((x - self.mean) / self.std, y)

    def logits(self, x: Tensor) -> Tensor:
        """(M, classes) logits of features (M, C); -infinity for classes that no training point has."""
        weight = torch.from_numpy(self.model.weight / self.std).to(x)
        bias = torch.from_numpy(self.model.bias - (self.model.weight / self.std) @ self.mean).to(x)
        out = x.new_full((len(x), self.classes), -torch.inf)
        out[:, torch.from_numpy(self.model.classes).to(x.device)] = x @ weight.T + bias
        return out


def _joined(clouds: Sequence[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    if not clouds:
        return np.zeros((0, 1)), np.zeros(0, dtype=np.int64)
    return torch.cat([x for x, _ in clouds]).double().numpy(), torch.cat([y for _, y in clouds]).numpy()
