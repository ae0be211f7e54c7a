"""Cross masks (Masked Scene Contrast, arXiv 2303.14191): parts of a scene that one view hides and the other shows."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import layout_of, with_
from geo3d.errors import CloudError
from geo3d.invariance.views import View
from geo3d.ops.search.voxel import voxel_groups

CLIP = 2.0
"""Noise is limited to this many standard deviations, on both sides."""


def cross_masks(batch: Batch, cell: float, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each of two views (M,) bool, which points of ``batch`` it hides; no point is hidden by both.

    The cells of a grid are drawn at random: ``rate`` of them for the first view, and as many others for the second.

    Args:
        batch: The clouds that the views are made of.
        cell: Edge of a cell, in units of the clouds.
        rate: At most one half.
        generator: For the draw.

    Raises:
        CloudError: If there are too few cells to hide one.
    """
    group, first, _, _ = voxel_groups(batch.pos, layout_of(batch), cell)
    rank = torch.randperm(len(first), generator=generator, device=generator.device).to(group.device)[group]
    count = int(rate * len(first))
    if rate and not count:
        raise CloudError(
            f"cross masks: a share of {rate} of {len(first)} cells of size {cell} is none; take smaller cells "
            "(objective.cell)"
        )
    return rank < count, (count <= rank) & (rank < 2 * count)


def hide(batch: Batch, masked: Tensor, noise: float, generator: torch.Generator) -> Batch:
    """The batch without what is known of the masked points: ``rgb``, ``normal`` and ``x`` are 0, and ``masked`` is 1.

    An encoder that reads ``masked`` (see ``geo3d.encoders.inputs``) learns what to take in their place: the weights of
    that channel are the published mask token. Coordinates stay, so that the points can be told apart.

    Args:
        batch: One view.
        masked: (M,) bool.
        noise: Standard deviation of a shift of the masked points, in units of the view, limited to two of them, so that
            exact coordinates do not give away what is hidden (arXiv 2503.16429).
        generator: For the shifts.
    """
    flag = masked[:, None].to(batch.pos.dtype)
    shift = torch.randn(batch.pos.shape, generator=generator, device=generator.device).clamp(-CLIP, CLIP) * noise
    known = {name: batch[name] * (1 - flag) for name in ("rgb", "normal", "x") if batch.get(name) is not None}
    return with_(batch, pos=batch.pos + flag * shift.to(batch.pos), masked=flag, **known)


def cross_masked(
    views: Sequence[View], batch: Batch, cell: float, rate: float, noise: float, generator: torch.Generator
) -> list[View]:
    """Two views of ``batch``, each of which hides what the other shows. See :func:`cross_masks` and :func:`hide`."""
    masks = cross_masks(batch, cell, rate, generator)
    return [
        view._replace(batch=hide(view.batch, mask[view.batch.point_id], noise, generator))
        for view, mask in zip(views, masks, strict=True)
    ]
