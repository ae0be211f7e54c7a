"""Another implementation of one of geo3d's encoders, with the same weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Place(NamedTuple):
    """A tensor of the counterpart that holds a tensor of the geo3d encoder."""

    name: str
    """Key in the encoder's ``state_dict``."""
    tensor: Tensor
    shift: int = 0
    """By how much the input columns are rolled to the right, if the counterpart has another order."""


class Counterpart(nn.Module, ABC):
    """A network that computes the same function as a geo3d encoder, layer by layer, in another way."""

    @abstractmethod
    def places(self) -> Iterator[Place]:
        """The place of each weight and running statistic of the encoder."""

    @torch.no_grad()
    def load(self, encoder: nn.Module) -> None:
        """Copy all weights and running statistics of the encoder."""
        state = encoder.state_dict()
        for place in self.places():
            value = state.pop(place.name)
            if place.shift:
                value = value.roll(place.shift, 1)
            place.tensor.copy_(value.view_as(place.tensor))
        left = [name for name in state if not name.endswith("num_batches_tracked")]
        assert not left, f"{type(self).__name__} has no place for {left}"

    def gradients(self) -> dict[str, Tensor]:
        """The gradients by the encoder's parameter names, with its order of columns."""
        gradients = {}
        for place in self.places():
            if place.tensor.grad is not None:
                grad = place.tensor.grad
                gradients[place.name] = (
                    grad.flatten(1).roll(-place.shift, 1) if place.shift else grad.flatten(1 - (grad.dim() == 1))
                )
        return gradients


def norm_places(prefix: str, norm: nn.Module) -> Iterator[Place]:
    """The places of a BatchNorm."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield Place(f"{prefix}.{name}", getattr(norm, name))
