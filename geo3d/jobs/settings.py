"""A score for each setting of an adaptive encoder."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.compress import Adaptive, Setting
from geo3d.compress.adaptive.slices import farthest_subset
from geo3d.compress.adaptive.statistics import head_for
from geo3d.tasks.datamodule import DataModule

CLOUDS = 512
"""About how many training clouds give a head's running statistics, and the scores on the training split."""


@torch.no_grad()
def score_settings(adaptive: Adaptive, head: nn.Module | None, data: DataModule, split: str) -> dict[str, float]:
    """Score of each setting by name: the accuracy of the head, or without a head the similarity of the features.

    The accuracy is that of a copy of the head whose running statistics were taken from the setting's features of
    training clouds. The similarity is the mean cosine to the largest setting's features, over the channels that the
    setting computes.

    Args:
        adaptive: The encoder, in evaluation mode.
        head: The classifier that was trained with it, or None.
        data: The clouds.
        split: The split to score on; of ``train`` a sample of about ``CLOUDS`` clouds, which lets users choose between
            settings without a look at test clouds.
    """
    few = data.stratified(min(1.0, CLOUDS / len(data.dataset("train"))), "settings")
    asked = data.loader("train", few) if split == "train" else data.loader(split)
    scores = {}
    largest = None if head is not None else _clouds(adaptive, adaptive.settings[0], asked)
    for setting in adaptive.settings:
        cloud = _clouds(adaptive, setting, asked)
        if head is None:
            assert largest is not None
            shared = (cloud != 0).any(0)
            scores[str(setting)] = float(torch.cosine_similarity(cloud[:, shared], largest[:, shared]).mean())
        else:
            labels = data.labels(split)[few] if split == "train" else data.labels(split)
            own = head_for(head, adaptive, setting, data.loader("train", few))
            scores[str(setting)] = float((own(cloud).argmax(1) == labels).float().mean())
    return scores


def _clouds(adaptive: Adaptive, setting: Setting, batches: Iterable[Batch]) -> Tensor:
    """(n, cloud_channels) features of one setting."""
    n = setting.num_points
    return torch.cat([adaptive.encode(setting, farthest_subset(batch, [n])[n]).cloud for batch in batches])
