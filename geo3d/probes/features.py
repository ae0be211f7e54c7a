"""Checks of the input of every probe: a matrix of finite features and a label for each row."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geo3d.errors import CloudError

Matrix: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]
ArrayLike: TypeAlias = NDArray | Tensor


def as_features(x: ArrayLike, name: str = "features") -> Matrix:
    """The features (n, D) as float64 on the CPU.

    Raises:
        CloudError: If they are not a matrix, are empty, or hold NaN or infinity.
    """
    matrix = x.detach().cpu().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise CloudError(f"{name}: expected a matrix (clouds, channels), found {matrix.shape}; give one row a cloud")
    bad = int((~np.isfinite(matrix)).any(1).sum())
    if bad:
        raise CloudError(
            f"{name}: {bad} of {len(matrix)} rows hold NaN or infinity; "
            "check the clouds and the encoder that made them before probing"
        )
    return matrix


def as_labels(y: ArrayLike, rows: int, name: str = "features") -> Labels:
    """The labels (n,) as int64; a column (n, 1), as some files have it, is flattened.

    Raises:
        CloudError: If they are not whole numbers, or not one for each of the ``rows``.
    """
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if labels.shape not in ((rows,), (rows, 1)):
        raise CloudError(f"{name}: {rows} rows but labels of shape {labels.shape}; give one label a row")
    if not np.issubdtype(labels.dtype, np.integer):
        raise CloudError(f"{name}: labels must be whole numbers, found {labels.dtype}; number the classes from 0")
    return labels.reshape(rows).astype(np.int64)


def labelled(x: ArrayLike, y: ArrayLike, name: str = "features") -> tuple[Matrix, Labels]:
    """Features (n, D) and labels (n,) of at least two classes, ready to train on.

    Raises:
        CloudError: As ``as_features`` and ``as_labels`` do, and if there are fewer than two classes.
    """
    features = as_features(x, name)
    labels = as_labels(y, len(features), name)
    if (labels == labels[0]).all():
        raise CloudError(f"{name}: all {len(labels)} rows are of class {labels[0]}; a probe needs at least 2 classes")
    return features, labels


def train_and_test(
    train_x: ArrayLike, train_y: ArrayLike, test_x: ArrayLike, test_y: ArrayLike
) -> tuple[Matrix, Labels, Matrix, Labels]:
    """Features and labels of both splits, after checking each split and that they fit together.

    Raises:
        CloudError: If a split cannot be used or the splits have different numbers of channels.
    """
    x, y = labelled(train_x, train_y, "train features")
    tx = as_features(test_x, "test features")
    ty = as_labels(test_y, len(tx), "test features")
    if x.shape[1] != tx.shape[1]:
        raise CloudError(
            f"train features have {x.shape[1]} channels but test features {tx.shape[1]}; embed both with one encoder"
        )
    return x, y, tx, ty


def check_class_sizes(y: Labels, least: int, purpose: str, classes: Labels | None = None) -> None:
    """Check that every class has at least ``least`` rows.

    Args:
        y: (n,) labels.
        least: Rows that a class needs.
        purpose: Ends the message, saying what to change.
        classes: The classes to look at; those that occur in ``y``, if left out.

    Raises:
        CloudError: If a class has fewer rows.
    """
    for c in np.unique(y) if classes is None else classes:
        size = int((y == c).sum())
        if size < least:
            raise CloudError(f"class {c} has {size} clouds, expected at least {least}; {purpose}")


def standardise(train: Matrix, *others: Matrix) -> tuple[Matrix, ...]:
    """``train`` and ``others`` shifted and scaled so that every channel of ``train`` has mean 0 and std 1.

    Channels that are constant in ``train`` are only shifted.

    Example:
        >>> train, test = standardise(np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 6.0]]))
        >>> train.tolist(), test.tolist()
        ([[-1.0, 0.0], [1.0, 0.0]], [[3.0, 1.0]])
    """
    mean, std = train.mean(0), train.std(0)
    std[std <= 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0  # constant up to rounding
    return tuple((x - mean) / std for x in (train, *others))
