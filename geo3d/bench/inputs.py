"""Inputs of the contenders: clouds of synthetic surfaces, and encoders with random norms."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d import seeds
from geo3d.cloud import collate, make_batch
from geo3d.data.shapes import Shapes


def surfaces(num_clouds: int, num_points: int, seed: int = 0) -> Batch:
    """A batch of the first clouds of :class:`geo3d.data.Shapes`, in the unit sphere, coordinates only.

    Example:
        >>> surfaces(2, 64).pos.shape
        torch.Size([128, 3])
    """
    shapes = Shapes(size=num_clouds, num_points=num_points, seed=seed)
    return make_batch(torch.cat([shapes[i].pos for i in range(num_clouds)]), num_points=num_points)


def ragged_surfaces(sizes: Sequence[int], seed: int = 0) -> Batch:
    """A batch of clouds of :class:`geo3d.data.Shapes` with the given sizes.

    Example:
        >>> ragged_surfaces([5, 3]).ptr.tolist()
        [0, 5, 8]
    """
    return collate([Shapes(size=i + 1, num_points=size, seed=seed)[i] for i, size in enumerate(sizes)])


def uneven(num_clouds: int, smallest: int, largest: int) -> list[int]:
    """Sizes spread evenly from ``smallest`` to ``largest``, alternately small and large, with a whole number as mean.

    Example:
        >>> uneven(4, 300, 2000)
        [300, 2000, 867, 1433]
    """
    sizes = torch.linspace(smallest, largest, num_clouds).round().long().tolist()
    sizes[num_clouds // 2] -= sum(sizes) % num_clouds
    return [sizes[i // 2] if i % 2 == 0 else sizes[-1 - i // 2] for i in range(num_clouds)]


def spread(sizes: Sequence[int]) -> str:
    """Title of the comparison of a ragged batch with the uniform one of as many points.

    Example:
        >>> spread([300, 500, 400])
        'ragged: 3 clouds of 300 to 500 points, or all of 400'
    """
    return f"ragged: {len(sizes)} clouds of {min(sizes)} to {max(sizes)} points, or all of {sum(sizes) // len(sizes)}"


def more_pairs(sizes: Sequence[int]) -> str:
    """A note on how many more pairs of points of one cloud a ragged batch has than the uniform one."""
    factor = len(sizes) * sum(size * size for size in sizes) / sum(sizes) ** 2
    return f"{factor:.2f} times as many pairs of points in the ragged batch; 0.77x is 1.3 times the time"


def dense(batch: Batch) -> Tensor:
    """(B, 3, N) the clouds in the layout of public code."""
    return batch.pos.view(len(batch.ptr) - 1, -1, 3).transpose(1, 2).contiguous()


@torch.no_grad()
def randomized(encoder: nn.Module, seed: int = 0) -> nn.Module:
    """The encoder with random BatchNorm statistics and scales, a fifth of them negative, as training may leave them.

    The linear layers stay as they are.
    """
    draw = seeds.generator(seed, "bench", "norms")
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            size = module.num_features
            assert isinstance(module.running_mean, Tensor) and isinstance(module.running_var, Tensor)
            sign = 1 - 2 * (torch.rand(size, generator=draw) < 0.2).float()
            module.weight.copy_(sign * (0.5 + torch.rand(size, generator=draw)))
            module.bias.copy_(0.1 * torch.randn(size, generator=draw))
            module.running_mean.copy_(0.1 * torch.randn(size, generator=draw))
            module.running_var.copy_(0.5 + torch.rand(size, generator=draw))
    return encoder


def labels(num_clouds: int, classes: int = 40, seed: int = 0) -> Tensor:
    """(num_clouds,) random classes."""
    return torch.randint(classes, (num_clouds,), generator=seeds.generator(seed, "bench", "labels"))
