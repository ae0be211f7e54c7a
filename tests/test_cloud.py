import pytest
import torch
from torch_geometric.data import Batch, Data

from geo3d.cloud import (
    FIELDS,
    Field,
    as_batch,
    check_cloud,
    collate,
    common_size,
    first_points,
    make_batch,
    num_clouds,
    select_points,
    with_,
    without_frame,
)
from geo3d.errors import CloudError
from geo3d.geometry.normalize import normalized
from geo3d.geometry.rotation import apply_linear, rotate, rotation_about_z
from geo3d.invariance import AnisotropicScale, Scale, Translation
from geo3d.invariance.views import Views


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


def test_frames_are_stacked_and_a_cloud_without_one_lies_where_it_says():
    far = torch.eye(4, dtype=torch.float64)
    far[:3, 3] = torch.tensor([5e5, 5e6, 100])
    a, b = Data(pos=torch.zeros(2, 3), frame=far), Data(pos=torch.ones(3, 3))
    batch = collate([a, b])
    assert batch.frame.tolist() == [far.tolist(), torch.eye(4).tolist()] and batch.frame.dtype == torch.float64
    assert "frame" not in collate([b, b])
    assert as_batch(a).frame.shape == (1, 4, 4) and as_batch(Batch.from_data_list([a, a])).frame.shape == (2, 4, 4)
    part = select_points(batch, torch.tensor([1, 2, 4]), ptr=torch.tensor([0, 1, 3]))
    assert part.frame.equal(batch.frame) and with_(part, pos=part.pos + 1).frame.equal(batch.frame)
    assert as_batch(batch) is batch and collate([a]).frame.shape == (1, 4, 4)
    assert "frame" not in without_frame(batch) and "frame" in batch and without_frame(b) is b


def test_what_belongs_to_a_cloud_is_stacked():
    clouds = [Data(pos=torch.zeros(2, 3), joints=torch.full((5, 3), float(i)), y=torch.tensor(i)) for i in range(3)]
    for batch in (collate(clouds), as_batch(Batch.from_data_list(clouds))):
        assert batch.joints.shape == (3, 5, 3) and batch.joints[:, 0, 0].tolist() == [0, 1, 2]
        assert batch.y.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "name, shape, expected",
    [
        ("normal", (5, 3), r"\(6, 3\), one row per point"),
        ("normal", (6, 2), r"\(6, 3\), one row per point"),
        ("x", (6,), r"\(6, any\), one row per point"),
        ("point_y", (6, 1), r"\(6,\), one row per point"),
        ("joints", (2, 4, 2), r"\(2, any, 3\), one row per cloud"),
        ("frame", (4, 4), r"\(2, 4, 4\), one row per cloud"),
        ("frame", (4, 8), r"\(2, 4, 4\), one row per cloud"),
        ("y", (3,), r"\(2,\), one row per cloud"),
        ("y", (), r"\(2,\), one row per cloud"),
        # Of the right number of values, which reshaping alone would mix up.
        ("joints", (3, 4), r"\(2, any, 3\), one row per cloud"),
        ("joints", (2, 3, 4), r"\(2, any, 3\), one row per cloud"),
        ("joints", (4, 2, 3), r"\(2, any, 3\), one row per cloud"),
        ("joints", (2, 6), r"\(2, any, 3\), one row per cloud"),
        ("joints", (6,), r"\(2, any, 3\), one row per cloud"),
        ("joints", (5, 3), r"\(2, any, 3\), one row per cloud"),
    ],
)
def test_a_field_of_another_shape_is_refused(name, shape, expected):
    with pytest.raises(CloudError, match=f"{name}: expected the shape {expected}; found"):
        make_batch(torch.zeros(6, 3), num_points=3, **{name: torch.zeros(shape)})


def test_numbers_are_stacked_as_tensors():
    clouds = [Data(pos=torch.zeros(2, 3), y=i, name=str(i)) for i in range(3)]
    batch = collate(clouds)
    assert batch.y.tolist() == [0, 1, 2] and batch.y.dtype == torch.int64 and batch.name == ["0", "1", "2"]
    with pytest.raises(CloudError, match="no cloud to collate"):
        collate([])


def test_tensors_that_are_no_fields_are_refused():
    with pytest.raises(CloudError, match="normals: not a field of a cloud; did you mean 'normal'"):
        collate([Data(pos=torch.zeros(3, 3), normals=torch.zeros(3, 3))])
    with pytest.raises(CloudError, match="qqq: not a field of a cloud; there are pos, normal"):
        as_batch(Data(pos=torch.zeros(3, 3), qqq=torch.zeros(3)))


def test_a_new_field_is_one_line(monkeypatch):
    """Offsets from points to the centre of their part are selected, collated and mapped like other displacements."""
    monkeypatch.setitem(FIELDS, "offset", Field("point", "displacement", (3,)))
    clouds = [Data(pos=torch.randn(n, 3), offset=torch.randn(n, 3)) for n in (4, 6)]
    batch = collate(clouds)
    few = select_points(batch, torch.tensor([1, 5]), ptr=torch.tensor([0, 1, 2]))
    assert few.offset.equal(batch.offset[[1, 5]])
    ends = with_(batch, pos=batch.pos + batch.offset)
    for act in (
        lambda b: apply_linear(torch.tensor([[0, 2.0, 0], [1, 0, 0], [0, 1, 1]]).expand(2, 3, 3), b),
        lambda b: rotate(rotation_about_z(torch.tensor([1.0, 2.0])), b),
        lambda b: Translation().act(torch.ones(2, 3), b),
        lambda b: AnisotropicScale().act(torch.tensor([[1, 2.0, 3], [2, 2, 2]]), b),
        lambda b: Scale().act(torch.full((2, 3), 2.0), b),
    ):
        torch.testing.assert_close(act(batch).pos + act(batch).offset, act(ends).pos)
    moved = normalized(batch, "unit_sphere")
    ratio = moved.offset / batch.offset
    torch.testing.assert_close(ratio[:4], ratio[:1, :1].expand(4, 3))


def test_moved_clouds_have_no_frame():
    batch = collate([Data(pos=torch.randn(4, 3), frame=torch.eye(4, dtype=torch.float64))])
    assert "frame" not in rotate(torch.eye(3)[None], batch) and "frame" in batch
    assert "frame" not in Views(Translation(0.1))(batch, 0)[0].batch


def test_first_points_are_cut_off_every_cloud():
    batch = make_batch(torch.arange(30.0).view(10, 3), num_points=5)
    few = first_points(batch, 2)
    assert torch.equal(few.pos, batch.pos[[0, 1, 5, 6]]) and few.ptr.tolist() == [0, 2, 4]
    assert torch.equal(first_points(batch, 5).pos, batch.pos)
    for clouds in (batch, make_batch(torch.zeros(5, 3), ptr=torch.tensor([0, 2, 5]))):
        with pytest.raises(CloudError, match="first_points needs clouds of one size with at least 6 points; found"):
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


def test_clouds_with_other_numbers_of_joints_are_not_shuffled_together():
    clouds = [Data(pos=torch.zeros(2, 3), joints=torch.ones(count, 3)) for count in (3, 1)]
    with pytest.raises(CloudError, match=r"clouds of one batch have \[3, 1\] rows of joints; give all the same"):
        as_batch(Batch.from_data_list(clouds))
    assert as_batch(Batch.from_data_list(clouds[:1] * 2)).joints.shape == (2, 3, 3)


def test_clouds_of_one_batch_have_attributes_of_one_type():
    colours = [torch.full((2, 3), 255, dtype=torch.uint8), torch.ones(2, 3)]
    with pytest.raises(CloudError, match="rgb as integers and as floats; give all the same"):
        collate([Data(pos=torch.zeros(2, 3), rgb=rgb) for rgb in colours])
    assert collate([Data(pos=torch.zeros(2, 3), y=y) for y in (1, torch.tensor(2))]).y.tolist() == [1, 2]
    with pytest.raises(CloudError, match="frame: expected the shape"):
        collate([Data(pos=torch.zeros(2, 3), frame=torch.eye(4, dtype=torch.float64)[:3])])


def test_a_cloud_number_below_zero_is_refused():
    with pytest.raises(CloudError, match="batch must be sorted: all points of cloud 0 first"):
        as_batch(Data(pos=torch.zeros(3, 3), batch=torch.tensor([-1, 0, 1])))
