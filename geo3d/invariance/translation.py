"""Translations."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import Distance, checked
from geo3d.cloud import map_fields, num_clouds
from geo3d.geometry.per_cloud import on_field
from geo3d.invariance.base import Group
from geo3d.invariance.draws import uniform


class Translation(Group):
    """Translations, drawn uniformly from a cube; the element is the shifts (B, 3).

    Args:
        max_shift: Largest shift along each axis, in the units of the cloud.
    """

    @checked
    def __init__(self, max_shift: Distance = 0.2) -> None:
        self.max_shift = max_shift

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B, 3) shifts."""
        return uniform(batch, generator, 3, low=-self.max_shift, high=self.max_shift).to(batch.pos.dtype)

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The clouds with all their positions shifted."""
        return map_fields(batch, {"position": on_field(torch.add, element, batch)})

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The sums of the shifts."""
        return a + b

    def inverse(self, a: Tensor) -> Tensor:
        """The opposite shifts."""
        return -a

    def identity(self, batch: Batch) -> Tensor:
        """Shifts of zero."""
        return batch.pos.new_zeros(num_clouds(batch), 3)
