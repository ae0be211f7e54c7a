import pytest
import torch
from torch_geometric.data import Batch, Data

from geo3d.cloud import (
    as_batch,
    check_cloud,
    collate,
    common_size,
    first_points,
    make_batch,
    num_clouds,
    select_points,
    with_,
)
from geo3d.errors import CloudError


def test_uniform_and_ragged_batches_agree_with_pyg():
    clouds = [
        Data(pos=torch.randn(n, 3), y=torch.tensor([i]), point_y=torch.arange(n)) for i, n in enumerate((4, 2, 3))
    ]
    mine, theirs = collate(clouds), Batch.from_data_list(clouds)
    for key in ("pos", "y", "point_y", "batch", "ptr"):
        assert torch.equal(mine[key], theirs[key])
    assert common_size(mine) is None and num_clouds(mine) == 3
    assert torch.equal(mine.point_id, torch.arange(9))
    assert common_size(collate(clouds[:1] * 3)) == 4


def test_ptr_of_equal_clouds_is_recognised_as_uniform():
    assert common_size(make_batch(torch.zeros(6, 3), ptr=torch.tensor([0, 3, 6]))) == 3


def test_attributes_that_some_clouds_lack_are_left_out():
    batch = collate([Data(pos=torch.zeros(2, 3), normal=torch.zeros(2, 3)), Data(pos=torch.zeros(2, 3))])
    assert "normal" not in batch


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_points": 4},
        {"num_points": 0},
        {"ptr": torch.tensor([0, 3, 3, 6])},
        {"ptr": torch.tensor([0, 5])},
        {"ptr": torch.tensor([1, 6])},
        {},
        {"num_points": 3, "ptr": torch.tensor([0, 6])},
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments):
    with pytest.raises(CloudError):
        make_batch(torch.zeros(6, 3), **arguments)


def test_pyg_data_and_batches_become_batches():
    single = as_batch(Data(pos=torch.randn(5, 3), normal=torch.randn(5, 3)))
    assert num_clouds(single) == 1 and common_size(single) == 5 and single.normal.shape == (5, 3)
    pyg = Batch.from_data_list([Data(pos=torch.randn(n, 3)) for n in (2, 3)])
    assert as_batch(pyg).ptr.tolist() == [0, 2, 5]
    bare = Data(pos=torch.randn(5, 3), batch=torch.tensor([0, 0, 1, 1, 1]))
    assert as_batch(bare).ptr.tolist() == [0, 2, 5]
    assert as_batch(single) is single


def test_select_and_with_leave_the_batch_alone():
    batch = make_batch(torch.randn(6, 3), num_points=3, y=torch.tensor([7, 8]), point_y=torch.arange(6))
    before = batch.pos.clone()
    part = select_points(batch, torch.tensor([2, 4, 5]), ptr=torch.tensor([0, 1, 3]))
    assert part.point_y.tolist() == part.point_id.tolist() == [2, 4, 5] and part.y.tolist() == [7, 8]
    moved = with_(batch, pos=batch.pos + 1)
    assert torch.equal(batch.pos, before) and torch.equal(moved.pos, before + 1) and common_size(moved) == 3


@pytest.mark.parametrize("pos", [torch.zeros(0, 3), torch.zeros(3, 2), torch.tensor([[0, 0, float("nan")]])])
def test_unusable_clouds_are_named(pos):
    with pytest.raises(CloudError, match="scan.ply"):
        check_cloud(pos, "scan.ply")


def test_origins_are_stacked_and_a_cloud_without_one_has_zero():
    far = torch.tensor([5e5, 5e6, 100], dtype=torch.float64)
    a, b = Data(pos=torch.zeros(2, 3), origin=far), Data(pos=torch.ones(3, 3))
    batch = collate([a, b])
    assert batch.origin.tolist() == [far.tolist(), [0, 0, 0]] and batch.origin.dtype == torch.float64
    assert "origin" not in collate([b, b])
    assert as_batch(a).origin.shape == (1, 3) and as_batch(Batch.from_data_list([a, a])).origin.shape == (2, 3)
    part = select_points(batch, torch.tensor([1, 2, 4]), ptr=torch.tensor([0, 1, 3]))
    assert part.origin.equal(batch.origin) and with_(part, pos=part.pos + 1).origin.equal(batch.origin)
    assert as_batch(batch) is batch and collate([a]).origin.shape == (1, 3)


def test_first_points_are_cut_off_every_cloud():
    batch = make_batch(torch.arange(30.0).view(10, 3), num_points=5)
    few = first_points(batch, 2)
    assert torch.equal(few.pos, batch.pos[[0, 1, 5, 6]]) and few.ptr.tolist() == [0, 2, 4]
    assert torch.equal(first_points(batch, 5).pos, batch.pos)
    for clouds in (batch, make_batch(torch.zeros(5, 3), ptr=torch.tensor([0, 2, 5]))):
        with pytest.raises(CloudError, match="first_points needs clouds of one size"):
            first_points(clouds, 6)


def test_text_of_clouds_becomes_a_list_beside_tensors():
    clouds = [Data(pos=torch.zeros(2, 3), file=name, normal=torch.ones(2, 3), y=torch.tensor(1)) for name in "ab"]
    batch = collate(clouds)
    assert batch.file == ["a", "b"] and batch.normal.shape == (4, 3) and batch.y.tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 4), (2, 3, 3), (2, 3, 4)])
def test_positions_of_another_shape_make_no_batch(shape):
    with pytest.raises(CloudError, match=r"pos must be \(M, 3\); found"):
        make_batch(torch.zeros(shape), num_points=3)


def test_clouds_of_one_batch_have_attributes_of_one_width():
    clouds = [Data(pos=torch.zeros(3, 3), x=torch.zeros(3, width)) for width in (2, 4)]
    with pytest.raises(CloudError, match=r"clouds of one batch have x of different widths, \[\(2,\), \(4,\)\]"):
        collate(clouds)
