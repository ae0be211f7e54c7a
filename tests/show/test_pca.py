"""Colours from principal components against numpy's singular value decomposition."""

import numpy as np
import pytest

from geo3d.errors import ConfigError
from geo3d.show.pca import fitted, read_basis, write_basis


def features(count: int = 400, channels: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, channels)) * np.linspace(3, 0.5, channels) + 7


def test_directions_are_the_first_right_singular_vectors():
    x = features()
    basis = fitted(x)
    _, sizes, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(basis.directions @ right[:3].T), np.eye(3), atol=1e-8)
    assert basis.explained == pytest.approx((sizes[:3] ** 2).sum() / (sizes**2).sum())
    assert (np.take_along_axis(basis.directions, np.abs(basis.directions).argmax(1)[:, None], 1) > 0).all()


def test_colours_do_not_depend_on_the_order_of_points_and_span_the_range():
    x = features()
    order = np.random.default_rng(1).permutation(len(x))
    colors = fitted(x).colors(x)
    np.testing.assert_array_equal(colors[order], fitted(x[order]).colors(x[order]))
    assert colors.dtype == np.uint8 and colors.min(0).tolist() == [0] * 3 and colors.max(0).tolist() == [255] * 3


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (6, 1), (6, 2), (4, 4)])
def test_few_points_and_few_channels_have_colours(shape):
    x = np.random.default_rng(0).normal(size=shape)
    basis = fitted(x)
    assert basis.colors(x).shape == (shape[0], 3) and np.isfinite(basis.explained)
    assert fitted(np.ones(shape)).colors(np.ones(shape)).shape == (shape[0], 3)


def test_a_basis_is_read_as_it_was_written_and_refuses_other_features(tmp_path):
    x = features()
    write_basis(fitted(x), tmp_path / "b.npz")
    basis = read_basis(tmp_path / "b.npz")
    np.testing.assert_array_equal(basis.colors(features(seed=3)), fitted(x).colors(features(seed=3)))
    with pytest.raises(ConfigError, match="expected one of features with 5 channels.*found 12"):
        basis.colors(np.zeros((2, 5)))
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(ConfigError, match="other.npz: expected a basis"):
        read_basis(tmp_path / "other.npz")
