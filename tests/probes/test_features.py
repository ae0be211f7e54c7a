import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from geo3d.errors import CloudError
from geo3d.probes.features import as_features, as_labels, check_class_sizes, standardise, train_and_test


def test_torch_and_numpy_alike():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    np.testing.assert_array_equal(as_features(x), as_features(x.detach().numpy()))
    assert as_features(x).dtype == np.float64
    assert as_labels(torch.tensor([[1], [2]]), 2).tolist() == [1, 2]
    assert as_labels(np.array([1, 2], dtype=np.uint8), 2).dtype == np.int64


def test_standardise_is_sklearns_also_for_constant_channels():
    g = np.random.default_rng(0)
    x, other = g.normal(5, 3, (50, 4)), g.normal(size=(7, 4))
    x[:, 1] = 1e6 + 0.1  # its deviation is rounding noise
    x[:, 2] = 0.0
    x[:, 3] *= 1e-9
    scaler = StandardScaler().fit(x)
    train, test = standardise(x, other)
    np.testing.assert_allclose(train, scaler.transform(x), atol=1e-9)
    np.testing.assert_allclose(test, scaler.transform(other), rtol=1e-9, atol=1e-9)


def test_splits_must_fit_together():
    x, y = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1] * 3)
    with pytest.raises(CloudError, match="3 channels but test features 2; embed both with one encoder"):
        train_and_test(x, y, x[:, :2], y)
    with pytest.raises(CloudError, match="test features: 6 rows but labels"):
        train_and_test(x, y, x, y[:5])
    with pytest.raises(CloudError, match="test features: 6 of 6 rows hold NaN or infinity"):
        train_and_test(x, y, x * np.inf, y)
    train_and_test(x, y, x[:1], y[:1])  # one test class is enough


def test_class_sizes():
    y = np.array([0, 0, 0, 5])
    check_class_sizes(y, 1, "never said")
    with pytest.raises(CloudError, match="class 5 has 1 clouds, expected at least 2; take fewer"):
        check_class_sizes(y, 2, "take fewer")
    with pytest.raises(CloudError, match="class 3 has 0 clouds"):
        check_class_sizes(y, 1, "take fewer", classes=np.array([0, 3]))
