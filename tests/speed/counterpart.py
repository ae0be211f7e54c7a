"""Another implementation of one of geo3d's encoders, with the same weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Place(NamedTuple):
    """Where a tensor of a geo3d encoder is kept."""

    name: str
    """In the encoder's ``state_dict``."""
    tensor: Tensor
    shift: int = 0
    """How far the input columns are rolled to the right, where another order is used."""


class Counterpart(nn.Module, ABC):
    """A network that computes what a geo3d encoder computes, layer by layer in another way."""

    @abstractmethod
    def places(self) -> Iterator[Place]:
        """The place of each weight and statistic of the encoder."""

    @torch.no_grad()
    def load(self, encoder: nn.Module) -> None:
        """Take over all weights and statistics."""
        state = encoder.state_dict()
        for place in self.places():
            value = state.pop(place.name)
            if place.shift:
                value = value.roll(place.shift, 1)
            place.tensor.copy_(value.view_as(place.tensor))
        left = [name for name in state if not name.endswith("num_batches_tracked")]
        assert not left, f"{type(self).__name__} has no place for {left}"

    def gradients(self) -> dict[str, Tensor]:
        """The gradients by the encoder's names, in its column order."""
        found = {}
        for place in self.places():
            if place.tensor.grad is not None:
                grad = place.tensor.grad
                found[place.name] = (
                    grad.flatten(1).roll(-place.shift, 1) if place.shift else grad.flatten(1 - (grad.dim() == 1))
                )
        return found


def norm_places(prefix: str, norm: nn.Module) -> Iterator[Place]:
    """The places of a BatchNorm."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield Place(f"{prefix}.{name}", getattr(norm, name))
