import pytest
import torch

from geo3d.cloud import make_batch
from geo3d.errors import CloudError
from geo3d.invariance import SO3
from geo3d.invariance.masks import cross_masked, cross_masks, hide
from geo3d.invariance.views import Views
from geo3d.seeds import generator
from geo3d.testing import tiny_batch


def scenes(sizes=(400, 300)):
    pos = torch.rand(sum(sizes), 3, generator=generator("scenes"))
    return make_batch(pos, ptr=torch.tensor([0, sizes[0], sum(sizes)]))


def cells_of(batch, cell):
    low = torch.stack([cloud.amin(0) for cloud in batch.pos.split(batch.ptr.diff().tolist())])
    number = ((batch.pos - low[batch.batch]).double() / cell).floor().long()
    return torch.cat([batch.batch[:, None], number], 1)


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.5])
def test_masks_hide_whole_cells_and_none_twice(rate):
    batch = scenes()
    masks = cross_masks(batch, 0.25, rate, generator("masks"))
    cells, where = torch.unique(cells_of(batch, 0.25), dim=0, return_inverse=True)
    for mask in masks:
        hidden = torch.zeros(len(cells), dtype=torch.long).index_add(0, where, mask.long())
        sizes = torch.bincount(where)
        assert bool(((hidden == 0) | (hidden == sizes)).all())
        assert int((hidden > 0).sum()) == int(rate * len(cells))
    assert not (masks[0] & masks[1]).any()


def test_masks_are_drawn_anew():
    batch = scenes()
    first, again, other = (cross_masks(batch, 0.25, 0.4, generator("masks", key))[0] for key in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    none = cross_masks(batch, 0.25, 0.0, generator("masks"))
    assert not none[0].any() and not none[1].any()


def test_cells_that_are_too_large_to_hide_any_are_refused():
    with pytest.raises(CloudError, match=r"a share of 0.4 of 2 cells of size 50.0 is none; take smaller cells"):
        cross_masks(scenes(), 50.0, 0.4, generator("masks"))


def test_hidden_points_lose_what_is_known_of_them():
    batch = tiny_batch(num_points=[9, 14])
    batch.x = torch.rand(23, 2, generator=generator("x"), dtype=batch.pos.dtype)
    masked = torch.arange(23) % 3 == 0
    out = hide(batch, masked, 0.0, generator("hide"))
    for name in ("rgb", "normal", "x"):
        assert not out[name][masked].any() and torch.equal(out[name][~masked], batch[name][~masked])
    assert torch.equal(out.pos, batch.pos) and out.masked[:, 0].tolist() == masked.to(batch.pos.dtype).tolist()
    assert batch.get("masked") is None and batch.rgb[masked].any(), "the batch itself has changed"


def test_hidden_points_are_shifted_by_at_most_two_deviations_to_both_sides():
    batch = scenes((4000, 4000))
    masked = torch.arange(8000) % 2 == 0
    shift = hide(batch, masked, 0.01, generator("hide")).pos - batch.pos
    assert not shift[~masked].any()
    moved = shift[masked]
    assert float(moved.amin()) == pytest.approx(-0.02, abs=1e-6) and float(moved.amax()) == pytest.approx(
        0.02, abs=1e-6
    )
    assert float(moved.std()) == pytest.approx(0.0096, rel=0.03)  # of a normal distribution limited to +-2


def test_views_hide_what_the_other_shows():
    batch = scenes()
    views = Views(SO3(), num_points=200)(batch, "masks")
    one, other = cross_masked(views, batch, 0.25, 0.4, 0.0, generator("masks"))
    masks = cross_masks(batch, 0.25, 0.4, generator("masks"))
    for view, before, mask in zip((one, other), views, masks, strict=True):
        assert torch.equal(view.batch.masked[:, 0] > 0, mask[before.batch.point_id])
        assert torch.equal(view.batch.pos, before.batch.pos) and view.source is before.source
    assert not torch.equal(one.batch.masked, other.batch.masked)
