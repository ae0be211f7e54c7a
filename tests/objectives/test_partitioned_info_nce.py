from math import exp, log, sqrt

import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import PartitionedInfoNCE
from geo3d.objectives.objective import Places
from geo3d.objectives.partitioned_info_nce import partition, partitioned_info_nce
from geo3d.seeds import generator

P = 40


def rows(*key, D=4):
    return torch.randn(P, D, generator=generator("partitioned", *key), dtype=torch.float64)


def some_places():
    pos = torch.rand(P, 3, generator=generator("places"), dtype=torch.float64)
    pos[:5, 2] = 0.5  # level with one another
    return Places(pos, torch.arange(P) // 15)


def part_of(places, i, j, inner, outer):
    (x, y), same = places.pos[[i, j]].tolist(), bool(places.cloud[i] == places.cloud[j])
    distance, height = sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True))), y[2] - x[2]
    if not same or distance <= inner or height == 0:
        return -1
    return (0 if height > 0 else 1) + (2 if distance > outer else 0)


def formula(query, key, places, temperature, inner, outer):
    def e(q, k):
        cosine = sum(a * b for a, b in zip(q, k, strict=True)) / sqrt(sum(a * a for a in q) * sum(b * b for b in k))
        return exp(cosine / temperature)

    query, key, losses = query.tolist(), key.tolist(), []
    for number in range(4):
        for i, q in enumerate(query):
            own = e(q, key[i])
            others = [e(q, k) for j, k in enumerate(key) if part_of(places, i, j, inner, outer) == number]
            losses.append(-log(own / (own + sum(others))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.4])
def test_formula(temperature):
    places, a, b = some_places(), rows(0), rows(1)
    inner, outer = 0.2, 0.6
    part = partition(places, inner, outer)
    assert part.tolist() == [[part_of(places, i, j, inner, outer) for j in range(P)] for i in range(P)]
    assert part.unique().tolist() == [-1, 0, 1, 2, 3]
    one, other = (formula(x, y, places, temperature, inner, outer) for x, y in ((a, b), (b, a)))
    assert float(partitioned_info_nce(a, b, part, temperature)) == pytest.approx(one, rel=1e-12)
    objective = PartitionedInfoNCE(temperature=temperature, inner=inner, outer=outer)
    loss, terms = objective([a, b], None, places)
    assert float(loss) == pytest.approx((one + other) / 2, rel=1e-12)
    assert float(terms["positive_similarity"]) == pytest.approx(float(torch.cosine_similarity(a, b).mean()), rel=1e-12)


def test_gradient():
    places, a, b = some_places(), rows(0).requires_grad_(), rows(1).requires_grad_()
    part = partition(places, 0.2, 0.6)
    assert torch.autograd.gradcheck(lambda a, b: partitioned_info_nce(a, b, part, 0.3), (a, b))


def test_two_processes_are_one_with_both_batches():
    """Clouds do not meet, so that the mean of the losses of two halves is the loss of the whole."""
    a, b, pos = rows(0), rows(1), some_places().pos
    cloud = torch.arange(P) // (P // 4)
    objective = PartitionedInfoNCE(inner=0.1)
    whole = objective([a, b], None, Places(pos, cloud))[0]
    halves = [
        objective([a[rank], b[rank]], None, Places(pos[rank], cloud[rank]))[0]
        for rank in (slice(0, P // 2), slice(P // 2, P))
    ]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-12, atol=0)


def test_places_are_needed_and_the_radii_are_in_order():
    with pytest.raises(ConfigError, match="PartitionedInfoNCE needs places; give just that"):
        PartitionedInfoNCE()([rows(0), rows(1)])
    with pytest.raises(ConfigError, match="inner must not be above outer"):
        PartitionedInfoNCE(inner=2.0, outer=1.0)
