"""Another order of the points."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import common_size, select_points
from geo3d.invariance.base import Group
from geo3d.invariance.order import order_within, random_keys


class Permutation(Group):
    """Another order of the points within each cloud; the element is (M,) flat indices: new point i was element[i]."""

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(M,) uniformly drawn orders, cloud by cloud."""
        return order_within(random_keys(batch, generator), batch)

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The same clouds, with the points and their attributes in the new order."""
        n = common_size(batch)
        return select_points(batch, element, num_points=n, ptr=None if n is not None else batch.ptr)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """Point i after both was ``b[a[i]]``."""
        return b[a]

    def inverse(self, a: Tensor) -> Tensor:
        """(M,) the new index of each point."""
        return a.argsort()

    def identity(self, batch: Batch) -> Tensor:
        """(M,) indices 0, 1, 2, ..."""
        return torch.arange(batch.pos.shape[0], device=batch.pos.device)
