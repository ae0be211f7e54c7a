import numpy as np
import pytest
import torch

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.probes.shortcut import NEIGHBORS, RIDGES, explained, held_out_score, plain_geometry
from geo3d.testing import tiny_batch


def draws(*shape, key=0):
    return torch.randn(*shape, generator=seeds.generator("shortcut", key), dtype=torch.float64)


def test_ridge_by_the_normal_equations_of_each_column():
    x, y, other_x, other_y = draws(60, 5), draws(60, 2, key=1), draws(40, 5, key=2), draws(40, 2, key=3)
    y, other_y = y + x[:, :2], other_y + other_x[:, :2]
    a = ((x - x.mean(0)) / x.std(0)).numpy()
    b = ((other_x - x.mean(0)) / x.std(0)).numpy()
    scores = []
    for column in range(2):
        t = y[:, column].numpy()
        rows = np.concatenate([a, np.sqrt(0.1 * 60) * np.eye(5)])  # a ridge is least squares with more rows
        weight = np.linalg.lstsq(rows, np.concatenate([t - t.mean(), np.zeros(5)]), rcond=None)[0]
        truth = other_y[:, column].numpy()
        scores.append(1 - ((b @ weight + t.mean() - truth) ** 2).mean() / truth.var())
    assert explained(x, y, other_x, other_y, 0.1) == pytest.approx(np.mean(scores), rel=1e-9)


def test_scores_of_features_that_know_and_that_do_not():
    x, y = draws(500, 4), draws(500, 1, key=1)
    assert explained(x, x[:, :1], x, x[:, :1]) > 0.99
    assert explained(x, y, draws(500, 4, key=2), draws(500, 1, key=3)) < 0.05
    constant = torch.cat([x, torch.ones(500, 1, dtype=torch.float64)], 1)
    assert explained(constant, x[:, :1], constant, x[:, :1]) > 0.99
    assert explained(x, torch.ones(500, 1), x, torch.ones(500, 1)) == 0.0


@pytest.mark.parametrize("sizes", [40, [30, 25]], ids=["uniform", "ragged"])
def test_plain_geometry_by_a_loop(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    geometry = plain_geometry(batch)
    for start, stop in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        pos = batch.pos[start:stop]
        torch.testing.assert_close(geometry["height"][start:stop, 0], pos[:, 2] - pos[:, 2].mean())
        torch.testing.assert_close(geometry["position"][start:stop], pos[:, :2] - pos[:, :2].mean(0))
        sparse = torch.cdist(pos, pos).sort(1).values[:, :NEIGHBORS].mean(1).log()
        torch.testing.assert_close(geometry["density"][start:stop, 0], sparse - sparse.mean())
        n = batch.normal[start:stop]
        products = torch.stack([n[:, i] * n[:, j] for i in range(3) for j in range(i, 3)], 1)
        torch.testing.assert_close(geometry["normal"][start:stop], products)


def test_normals_of_neighbors_stand_for_those_of_the_clouds():
    pos = torch.rand(200, 3, generator=seeds.generator("plane"))
    pos[:, 2] = 0.5 * pos[:, 0]
    normal = torch.tensor([-0.5, 0.0, 1.0]).double() / 1.25**0.5
    products = plain_geometry(make_batch(pos, num_points=200))["normal"]
    expected = torch.stack([normal[i] * normal[j] for i in range(3) for j in range(i, 3)])
    torch.testing.assert_close(products, expected.expand_as(products), rtol=1e-3, atol=1e-3)


def test_clouds_that_are_scored_are_not_fitted_and_the_penalty_is_chosen_without_them():
    x = [draws(30, 40, key=key) for key in range(8)]
    y = [each[:, :1] + 2 * draws(30, 1, key=100 + key) for key, each in enumerate(x)]

    def joined(values, start, stop):
        return torch.cat(values[start:stop])

    def score(a, b, c, ridge):
        return explained(joined(x, a, b), joined(y, a, b), joined(x, b, c), joined(y, b, c), ridge)

    best = max(RIDGES, key=lambda ridge: score(0, 2, 4, ridge))
    assert best > RIDGES[0]  # 60 rows of 40 noisy columns
    assert held_out_score(x, y) == score(0, 4, 8, best)
    assert held_out_score(x[:2], y[:2]) == score(0, 1, 2, 0.1)
