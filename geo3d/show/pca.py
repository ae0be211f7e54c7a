"""Colours of features: three principal components as red, green and blue, the same for all clouds of a picture."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from geo3d.errors import ConfigError
from geo3d.io.arrays import read_archive
from geo3d.io.files import replacing

TAIL = 1.0
"""Percent of the points at either end whose colours are the darkest or the brightest."""


class Basis(NamedTuple):
    """Three directions in the space of features, and the range of values along each."""

    mean: np.ndarray
    """(C,)"""
    directions: np.ndarray
    """(3, C) orthonormal; the entry of largest magnitude of each is positive, so that a model keeps its colours."""
    low: np.ndarray
    """(3,)"""
    high: np.ndarray
    """(3,)"""
    explained: float
    """Fraction of the variance along the three."""

    def colors(self, features: np.ndarray) -> np.ndarray:
        """(N, 3) uint8 colours of features (N, C).

        Raises:
            ConfigError: If the features have another number of channels.
        """
        if features.shape[1] != len(self.mean):
            raise ConfigError(
                f"basis: expected one of features with {features.shape[1]} channels, as these are; found "
                f"{len(self.mean)}; give another file"
            )
        along = (features.astype(np.float64) - self.mean) @ self.directions.T
        part = (along - self.low) / np.where(self.high > self.low, self.high - self.low, 1)
        return (255 * part.clip(0, 1)).round().astype(np.uint8)


def fitted(features: np.ndarray) -> Basis:
    """The basis of features (N, C): eigenvectors of their covariance, largest eigenvalue first.

    With fewer than three channels or points the remaining directions are zero, and their colour is constant.

    Example:
        >>> basis = fitted(np.array([[0.0, 0, 0, 0], [2, 0, 0, 0], [4, 0, 0, 0]]))
        >>> basis.directions[0].tolist(), round(basis.explained, 6)
        ([1.0, 0.0, 0.0, 0.0], 1.0)
    """
    x = features.astype(np.float64)
    mean = x.mean(0)
    values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    directions = np.zeros((3, x.shape[1]))
    kept = vectors.T[::-1][:3]
    largest = np.take_along_axis(kept, np.abs(kept).argmax(1)[:, None], 1)
    directions[: len(kept)] = kept * np.sign(largest)
    low, high = np.percentile((x - mean) @ directions.T, [TAIL, 100 - TAIL], axis=0)
    total = float(values.clip(0).sum())
    return Basis(mean, directions, low, high, float(values[::-1][:3].clip(0).sum()) / total if total > 0 else 1.0)


def write_basis(basis: Basis, path: str | Path) -> None:
    """Write a basis as an NPZ file."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(file, **basis._asdict())


def read_basis(path: str | Path) -> Basis:
    """The basis in a file.

    Raises:
        CloudError: If the file is missing or damaged.
        ConfigError: If it holds something else.
    """
    arrays = read_archive(path)
    if set(arrays) != set(Basis._fields) or arrays["directions"].shape != (3, len(arrays["mean"])):
        raise ConfigError(f"{path}: expected a basis written by geo3d inspect; give another file as basis")
    mean, directions, low, high, explained = (arrays[name] for name in Basis._fields)
    return Basis(mean, directions, low, high, float(explained))
