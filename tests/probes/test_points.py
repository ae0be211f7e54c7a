import pytest
import torch

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.errors import CloudError
from geo3d.probes.points import CS, LinearProbe, labelled_rows


def clouds(count=6, n=60, noise=0.3):
    """Three classes, 0, 1 and 3, that lie on three sides of the origin; classes 2 and 4 never occur."""
    draw, out = seeds.generator("clouds"), []
    middle = torch.tensor([[2.0, 0, 5], [-2, 2, 5], [-2, -2, 5]])
    for _ in range(count):
        which = torch.randint(0, 3, (n,), generator=draw)
        x = middle[which] + noise * torch.randn(n, 3, generator=draw)
        out.append((x * torch.tensor([1.0, 100.0, 1e-3]), torch.tensor([0, 1, 3])[which]))
    return out


def test_what_is_linear_is_learned_whatever_the_scale_of_the_channels():
    train, test = clouds()[:4], clouds()[4:]
    probe = LinearProbe(train, classes=5)
    assert probe.C in CS
    for x, y in test:
        logits = probe.logits(x)
        assert torch.equal(logits.argmax(1), y)
        assert bool((logits[:, [2, 4]] == -torch.inf).all()) and bool(logits[:, [0, 1, 3]].isfinite().all())


def test_rows_are_labelled_points_of_each_cloud():
    pos = torch.arange(30.0)[:, None].expand(30, 3).contiguous()
    labels = torch.tensor([0, 1, -1] * 10)
    batch = make_batch(pos, num_points=15, point_y=labels)
    kept = labelled_rows(lambda b: b.pos, [batch, batch], -1, 6, (0, "rows"))
    assert len(kept) == 4
    for cloud, (x, y) in enumerate(kept):
        index = x[:, 0].long()
        assert len(y) == 6 == len(index.unique()) and torch.equal(labels[index], y) and (y >= 0).all()
        assert bool((index // 15 == cloud % 2).all())
    again = labelled_rows(lambda b: b.pos, [batch, batch], -1, 6, (0, "rows"))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(kept, again, strict=True))
    assert not torch.equal(kept[0][0], kept[2][0])
    assert len(labelled_rows(lambda b: b.pos, [batch], -1, 100, (0,))[0][1]) == 10


def test_one_class_is_not_enough():
    x = torch.randn(20, 3, generator=seeds.generator("x"))
    with pytest.raises(CloudError, match="labels of at least two classes"):
        LinearProbe([(x, torch.ones(20, dtype=torch.long)), (x[:0], torch.zeros(0, dtype=torch.long))], classes=3)
