"""The category of each cloud, such as chair or lamp, as heads and decoders of parts read it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.errors import CloudError


def one_hot_categories(category: Tensor | None, categories: int, layout: Layout | None, reader: str) -> Tensor:
    """(B, categories) int64: 1 in the column of each cloud's category, else 0.

    Args:
        category: (B,) int64 category of each cloud.
        categories: How many there are.
        layout: Which points belong to which cloud.
        reader: Who reads the category, for the error message: ``"the head"``.

    Raises:
        CloudError: If there is no category, it is not one whole number for each cloud, or one is out of range (on a
            CPU).
    """
    if category is None or layout is None:
        raise CloudError(f"{reader} has {categories} categories; give the clouds y (B,), the category of each")
    clouds = len(layout.ptr) - 1
    if tuple(category.shape) != (clouds,) or category.dtype != torch.int64:
        raise CloudError(
            f"y: {reader} reads the category of each cloud, ({clouds},) int64; found {tuple(category.shape)} "
            f"{str(category.dtype).removeprefix('torch.')}"
        )
    if category.device.type == "cpu" and not bool(((category >= 0) & (category < categories)).all()):
        raise CloudError(f"y: expected categories from 0 to {categories - 1}; found {category.tolist()[:9]}")
    return F.one_hot(category, categories)
