"""The probe that trains nothing: the vote of the nearest training features."""

import torch

from geo3d import metrics
from geo3d.errors import ConfigError
from geo3d.probes.features import ArrayLike, train_and_test


def knn_accuracy(train_x: ArrayLike, train_y: ArrayLike, test_x: ArrayLike, test_y: ArrayLike, k: int = 20) -> float:
    """Fraction of test rows that a vote of their ``k`` nearest training rows, by cosine, classifies correctly.

    Args:
        train_x: (n, D) features that vote.
        train_y: (n,) labels.
        test_x: (m, D) features to classify.
        test_y: (m,) labels.
        k: Number of votes; all training rows vote if there are fewer.

    Raises:
        CloudError: If the features or labels cannot be used.
        ConfigError: If ``k`` is below 1.

    Example:
        >>> bank, queries = torch.eye(2), torch.tensor([[2.0, 1.0], [0.0, 3.0]])
        >>> knn_accuracy(bank, torch.tensor([0, 1]), queries, torch.tensor([0, 0]), k=1)
        0.5
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, found {k}")
    x, y, tx, ty = (torch.from_numpy(array) for array in train_and_test(train_x, train_y, test_x, test_y))
    return float(metrics.knn_accuracy(x.float(), y, tx.float(), ty, k=k))
