import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from geo3d.errors import CloudError, ConfigError
from geo3d.probes.knn import knn_accuracy


@pytest.mark.parametrize("k", [1, 5, 20])
def test_is_sklearns_cosine_vote(k):
    g = np.random.default_rng(k)
    centres = g.normal(size=(5, 12))
    y, ty = g.integers(0, 5, 300) + 2, g.integers(0, 5, 1500) + 2  # more queries than one chunk
    x, tx = (centres[labels - 2] + 1.5 * g.normal(size=(len(labels), 12)) for labels in (y, ty))
    reference = KNeighborsClassifier(k, metric="cosine").fit(x, y).score(tx, ty)
    assert knn_accuracy(x, y, tx, ty, k=k) == pytest.approx(reference, abs=1e-6)


def test_length_of_features_does_not_matter_and_small_banks_vote_whole():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(6, 4)), np.array([0, 0, 0, 0, 1, 1])
    assert knn_accuracy(x, y, x * g.uniform(1, 9, (6, 1)), y, k=1) == 1.0
    assert knn_accuracy(x, y, x, y, k=20) == pytest.approx(4 / 6)


def test_bad_input():
    x, y = np.eye(3), np.array([0, 1, 1])
    with pytest.raises(ConfigError, match="k must be at least 1"):
        knn_accuracy(x, y, x, y, k=0)
    with pytest.raises(CloudError, match="NaN"):
        knn_accuracy(x * np.nan, y, x, y)
