"""Completion (OcCo, arXiv 2010.01089): draw the whole cloud from the embedding of a part of it.

The reconstruction baseline. Views should show parts of the clouds in the pose of the whole, such as
``invariance=occlude`` makes them; what else they change must be undone by the prediction.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from geo3d.checks import Range, Size, checked
from geo3d.objectives.objective import Objective, Terms
from geo3d.seeds import seeded


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """(B,) mean distance of each point of ``a`` (B, P, 3) to the nearest of ``b`` (B, Q, 3), plus that of b to a.

    Example:
        >>> chamfer(torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0.0, 3.0], [0.0, 4.0, 0.0]]])).tolist()
        [6.5]
    """
    distance = torch.cdist(a, b)
    return distance.amin(2).mean(1) + distance.amin(1).mean(1)


class Completion(Objective):
    """Occlusion completion: an MLP draws ``points`` points from each view's embedding; see :func:`chamfer`.

    Args:
        dim: Size of the embeddings, the projector's last size.
        points: How many points are drawn, and how many of the cloud they are compared with.
        hidden: Size of the MLP's two hidden layers.
    """

    needs = "clouds"

    @checked
    def __init__(self, dim: Size = 128, points: Annotated[int, Range(1, 16384)] = 256, hidden: Size = 512) -> None:
        super().__init__()
        self.dim, self.points, self.hidden = dim, points, hidden
        with seeded("completion", dim, points, hidden):
            self.draw = nn.Sequential(
                nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3 * points)
            )

    def loss_given(self, views: list[Tensor], targets: list[Tensor], given: Tensor) -> tuple[Tensor, Terms]:
        """The mean over views and clouds of the Chamfer distance; it needs no gathering."""
        losses = [chamfer(self.draw(view).view(len(view), self.points, 3), given.to(view.dtype)) for view in views]
        loss = torch.stack(losses).mean()
        return loss, {"chamfer": loss}

    def extra_repr(self) -> str:
        """The arguments."""
        return f"dim={self.dim}, points={self.points}, hidden={self.hidden}"
