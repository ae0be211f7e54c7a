"""MaskedSceneContrast (MSC, arXiv 2303.14191): contrast of points, and the colours of those that a view hides."""

from itertools import permutations
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.checks import Range, Size, checked
from geo3d.distributed import gather
from geo3d.objectives.objective import Cell, Hidden, Objective, Pairs, Radius, Temperature, Terms
from geo3d.objectives.point_info_nce import point_info_nce
from geo3d.seeds import seeded


def color_error(predicted: Tensor, rgb: Tensor, masked: Tensor) -> Tensor:
    """The squared error () of colours, summed over channels, averaged over the masked points; 0 if there are none.

    Args:
        predicted: (P, 3)
        rgb: (P, 3) the true colours.
        masked: (P,) 1 for the points that count, else 0.
    """
    return ((predicted - rgb).square().sum(1) * masked).sum() / masked.sum().clamp(min=1)


class MaskedSceneContrast(Objective):
    """Contrast between two views with cross masks, averaged over both directions, and reconstruction of colours.

    Each view hides some cells of a grid from the encoder, and the other view hides other ones, see
    ``geo3d.invariance.masks``. Colours are predicted by a linear layer from the embeddings of hidden points; of clouds
    without ``rgb`` nothing is reconstructed. Give the encoder ``inputs=("rgb", "masked")``, so that it reads colours
    and which points are hidden, or ``("masked",)`` for coordinates alone.

    Args:
        dim: Size of the embeddings, the projector's last size.
        pairs: Pairs of matching points that a process draws from its batch.
        temperature: Divides the cosines.
        radius: How far matching points may be apart, as in ``PointInfoNCE``; .03 m as published.
        cell: Edge of the grid's cells, in units of the clouds as the data module prepares them: metres only with
            ``data.normalize=center``. As published .1 m.
        rate: Share of the cells that each view hides.
        noise: Standard deviation of a shift of hidden points, in units of the views.
        color: Weight of the colours.
    """

    on = "point"
    needs = "hidden"

    @checked
    def __init__(
        self,
        dim: Size = 128,
        pairs: Pairs = 1024,
        temperature: Temperature = 0.4,
        radius: Radius = 0.0,
        cell: Cell = 0.1,
        rate: Annotated[float, Range(0, 0.5)] = 0.4,
        noise: Annotated[float, Range(0, 1e6)] = 0.0,
        color: Annotated[float, Range(0, 1e6)] = 1.0,
    ) -> None:
        super().__init__()
        self.dim, self.pairs, self.temperature, self.radius = dim, pairs, temperature, radius
        self.cell, self.rate, self.noise, self.color = cell, rate, noise, color
        with seeded("colours of hidden points", dim):
            self.painter = nn.Linear(dim, 3)

    def loss_given(self, views: list[Tensor], targets: list[Tensor], given: Hidden) -> tuple[Tensor, Terms]:
        """The loss, the mean cosine of matching points, and the error of the colours where there are any."""
        pairs = list(permutations([gather(view) for view in views], 2))
        loss = torch.stack([point_info_nce(query, key, self.temperature) for query, key in pairs]).mean()
        terms = {"positive_similarity": torch.stack([F.cosine_similarity(*pair).mean() for pair in pairs]).mean()}
        without = (
            given.rgb is None
        )  # then nothing counts, but all processes do the same and every weight has a gradient
        masked = [torch.zeros_like(each) for each in given.masked] if without else given.masked
        rgb = [view.new_zeros(len(view), 3) for view in views] if given.rgb is None else given.rgb
        painted = [gather(self.painter(view.to(self.painter.weight.dtype))) for view in views]
        truth = [(gather(color), gather(hidden)) for color, hidden in zip(rgb, masked, strict=True)]
        errors = [color_error(one, *true) for one, true in zip(painted, truth, strict=True)]
        error = torch.stack(errors).mean()
        return loss + self.color * error, terms if without else terms | {"color_error": error}

    def extra_repr(self) -> str:
        """The arguments."""
        names = ("dim", "pairs", "temperature", "radius", "cell", "rate", "noise", "color")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
