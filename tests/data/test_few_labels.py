import torch
from torch_geometric.data import Data

from geo3d.data.few_labels import few_labels
from geo3d.seeds import generator


def test_the_labels_that_are_kept_are_true_and_as_many_as_asked():
    labels = torch.arange(50) % 7 - 1
    cloud = Data(pos=torch.zeros(50, 3), point_y=labels)
    few, kept = few_labels(cloud, 9, -1, generator("few"))
    assert len(kept.unique()) == 9 and bool((labels[kept] >= 0).all())
    assert torch.equal(few.point_y[kept], labels[kept]) and int((few.point_y >= 0).sum()) == 9
    assert torch.equal(cloud.point_y, labels), "the cloud itself has changed"
    every, indices = few_labels(cloud, 1000, -1, generator("few"))
    assert torch.equal(every.point_y, labels) and len(indices) == int((labels >= 0).sum())


def test_clouds_without_labels_stay_as_they_are():
    cloud = Data(pos=torch.zeros(5, 3))
    assert few_labels(cloud, 3, -1, generator("few")) == (cloud, None)
