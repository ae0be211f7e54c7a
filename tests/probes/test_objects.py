import pytest
import torch

from geo3d import seeds
from geo3d.probes.objects import area_under_curve, mean_areas, object_auc


def plain_area(scores, same):
    wins = [
        (a > b) + 0.5 * (a == b)
        for a, s in zip(scores, same, strict=True)
        for b, t in zip(scores, same, strict=True)
        if s and not t
    ]
    return sum(wins) / len(wins)


def test_area_by_counting_all_comparisons():
    draw = seeds.generator("auc")
    scores = torch.randint(0, 12, (80,), generator=draw).float()  # with ties
    same = torch.rand(80, generator=draw) < 0.3
    assert area_under_curve(scores, same) == pytest.approx(plain_area(scores.tolist(), same.tolist()), rel=1e-12)


def test_pairs_are_those_of_objects_within_the_radius():
    draw = seeds.generator("objects")
    pos, x = torch.rand(1500, 3, generator=draw), torch.randn(1500, 4, generator=draw)
    instance = torch.randint(0, 4, (1500,), generator=draw)
    cosines, nearness, same = [], [], []
    for i in range(1500):
        near = ((pos[i] - pos).norm(dim=1) <= 0.05).nonzero()[:, 0]
        for j in near[near > i].tolist():
            if instance[i] and instance[j]:
                cosines.append(float(torch.cosine_similarity(x[i], x[j], dim=0)))
                nearness.append(-float((pos[i].double() - pos[j].double()).norm()))
                same.append(bool(instance[i] == instance[j]))
    expected = [area_under_curve(torch.tensor(s, dtype=torch.float64), torch.tensor(same)) for s in (cosines, nearness)]
    assert object_auc(x, pos, instance) == pytest.approx(expected, abs=1e-4)
    assert len(set(same)) == 2


def test_features_that_are_the_objects_know_all_and_clouds_without_touching_objects_say_nothing():
    pos = torch.rand(300, 3, generator=seeds.generator("pos")) * 0.2
    instance = (pos[:, 0] > 0.1).long() + 1
    perfect, _ = object_auc(torch.eye(3)[instance], pos, instance)
    assert perfect == 1.0
    assert object_auc(torch.eye(3)[instance], pos, torch.zeros(300)) is None
    assert object_auc(torch.eye(3)[instance], pos, torch.ones(300)) is None
    assert object_auc(torch.eye(3)[instance], pos * 1e4, instance) is None
    assert mean_areas([None, (1.0, 0.5), (0.5, 0.5)]) == (0.75, 0.5) and mean_areas([None]) is None
