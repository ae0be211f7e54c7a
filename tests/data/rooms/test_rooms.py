import numpy as np
import pytest
import torch

from geo3d.data import Rooms
from geo3d.data.check import check
from geo3d.data.rooms import dataset
from geo3d.data.rooms.furniture import KINDS, furnish
from geo3d.data.rooms.layout import REST, flat_height, furnished
from geo3d.data.rooms.scan import mesh_of, overlap
from geo3d.data.rooms.thing import CLASSES, OF_THE_ROOM, Area, area_of, box
from geo3d.data.shapes.placing import Draws
from geo3d.errors import ConfigError
from geo3d.geometry.camera import to_camera

SHELL = ("floor", "ceiling", "wall", "door", "window")


def rooms(count=12):
    return [furnished(Draws(np.random.default_rng(seed))) for seed in range(count)]


@pytest.fixture(scope="module")
def some_rooms():
    return rooms()


def boxes_meet(a, b):
    return bool(np.all(a.low < b.high) and np.all(b.low < a.high))


def test_no_two_things_intersect(some_rooms):
    """The boxes around things on the floor are apart; of things that lie on others, those that rest on the same."""
    for room in some_rooms:
        inside = [thing for thing in room.things if thing.label not in SHELL]
        standing = [thing for thing in inside if abs(float(thing.low[2]) - REST) < 1e-4]
        lying = [t for t in inside if not any(t is s for s in standing) and t.label not in ("picture", "curtain")]
        for group in (standing, lying, [t for t in inside if t.label in ("picture", "curtain")] + standing):
            for i, a in enumerate(group):
                assert not any(boxes_meet(a, b) for b in group[i + 1 :])


def test_everything_is_inside_and_nothing_floats(some_rooms):
    for room in some_rooms:
        for thing in room.things:
            if thing.label in SHELL:
                continue
            low, high = thing.low, thing.high
            assert min(low) >= -1e-4 and high[0] <= room.shell.width + 1e-4 and high[1] <= room.shell.depth + 1e-4
            assert high[2] <= room.shell.height + 1e-4
            if thing.label in ("picture", "curtain", "column") or high[2] > room.shell.height - 0.01:
                continue  # they hang, or reach from the floor to the ceiling
            below = max(heights_below(room, thing))
            assert 0 < float(low[2]) - below < 0.001


def heights_below(room, thing):
    """Heights of what is under the middle of a thing: the floor, or tops of other things."""
    middle = (thing.low + thing.high) / 2
    place = Area(*(float(middle[d]) + s for d in (0, 1) for s in (-1e-3, 1e-3)))
    heights = [0.0]
    for other in room.things:
        if other is not thing and other.label not in SHELL and other.low[2] < thing.low[2]:
            height = flat_height(other.corner, place)
            if height is not None and height <= float(thing.low[2]):
                heights.append(height)
    return heights


def test_there_is_plenty_and_all_of_it_known(some_rooms):
    labels = {thing.label for room in rooms(30) for thing in room.things}
    assert labels <= set(CLASSES) and len(labels) >= 17
    for room in some_rooms:
        tops = [float(thing.high[2]) for thing in room.things if thing.label not in (*SHELL, "column")]
        assert max(tops) <= room.shell.height
        names = [thing.label for thing in room.things]
        assert names.count("floor") == names.count("ceiling") == names.count("door") == 1 and names.count("wall") == 4
        assert all(thing.color.min() >= 0 and thing.color.max() <= 1 for thing in room.things)
        assert all(thing.color.shape == (len(thing.corner), 3) for thing in room.things)


def test_some_doors_stand_open_into_the_room_and_nothing_is_in_their_way():
    swings = []
    for room in rooms(30):
        (door,) = (thing for thing in room.things if thing.label == "door")
        ((wall, opening),) = ((w, o) for w in room.shell.walls for o in w.openings if o.label == "door")
        place = door.corner.reshape(-1, 3)[:, :2] - np.array(wall.start)
        along, inward = place @ np.array(wall.along), place @ np.array(wall.inward)
        wide = opening.stop - opening.start
        assert opening.start - 0.11 < along.min() and along.max() < opening.stop + 0.11
        assert wide * np.sin(abs(opening.swing)) - 0.1 < inward.max() < wide * np.sin(abs(opening.swing)) + 0.06
        hinge = along[inward > 0.5 * inward.max()].mean()
        if abs(opening.swing) > 1.2:
            assert (hinge > (opening.start + opening.stop) / 2) == (opening.swing > 0)
        free = wall.area(opening.start, opening.stop, 1.0)
        assert not any(
            area_of(thing).meets(free) for thing in room.things if thing.label not in SHELL and thing.low[2] < 2
        )
        swings.append(opening.swing)
    assert 5 < np.count_nonzero(swings) < 20 and min(swings) < -0.3 and max(swings) > 0.3


@pytest.mark.parametrize("name", KINDS)
def test_furniture_has_its_true_size(name):
    for seed in range(5):
        thing, kind = furnish(name, Draws(np.random.default_rng(seed))), KINDS[name]
        extent = thing.high - thing.low
        for size, (least, most) in ((extent[2], kind.height), (max(extent[:2]), kind.length)):
            assert 0.999 * least <= size <= 1.001 * most
        assert thing.low[2] == pytest.approx(0, abs=1e-5)


def test_flat_heights():
    table = box((0, 0, 0), (1, 1, 0.7))
    assert flat_height(table, Area(0.2, 0.4, 0.2, 0.4)) == pytest.approx(0.7)
    assert flat_height(table, Area(0.9, 1.1, 0.2, 0.4)) is None  # over the edge
    assert flat_height(table, Area(2, 3, 2, 3)) is None
    step = np.concatenate([table, box((0, 0, 0.7), (0.3, 1, 0.8))])
    assert flat_height(step, Area(0.2, 0.4, 0.2, 0.4)) is None
    assert flat_height(step, Area(0.1, 0.2, 0.2, 0.4)) == pytest.approx(0.8)


def test_a_room_depends_on_its_key_alone():
    options = {"size": 4, "points": 300, "frames": 3}
    one, again = Rooms(**options)[2], Rooms(**options)[2]
    assert all(torch.equal(one[name], again[name]) for name in one.keys())  # noqa: SIM118
    assert torch.equal(one.pos, Rooms(**options)[-2].pos)
    for other in ({"seed": 1}, {"split": "test"}):
        assert not torch.equal(one.pos, Rooms(**options, **other)[2].pos)
    assert not torch.equal(one.pos, Rooms(**options)[1].pos)
    with pytest.raises(IndexError, match="outside of 4 generated rooms"):
        Rooms(**options)[4]


def test_a_check_makes_a_few_rooms_only(monkeypatch):
    monkeypatch.setattr(Rooms, "sampled", 2)
    rows = dict(check(Rooms(size=9, points=100, frames=2)))
    assert rows["clouds"] == "9; only the first 2 were checked"


def test_a_scan_without_noise_lies_on_the_surfaces():
    data = Rooms(size=2, points=400, frames=4, noise=0)
    mesh, cloud = mesh_of(data.room(0)), data[0]
    for row in range(0, 400, 7):
        own = ((mesh.instance == cloud.instance[row]) & (mesh.label == cloud.point_y[row])).nonzero()[:, 0]
        first = mesh.corner[own][:, 0]
        distance = ((cloud.pos[row] - first) * mesh.normal[own]).sum(1).abs()
        assert float(distance.min()) < 1e-3  # on the plane of one of its own triangles
        assert int(cloud.point_y[row]) in mesh.label[own].tolist()
        assert (int(cloud.instance[row]) == 0) == (CLASSES[int(cloud.point_y[row])] in OF_THE_ROOM)
    assert bool(((cloud.rgb >= 0) & (cloud.rgb <= 1)).all())
    torch.testing.assert_close(cloud.normal.norm(dim=1), torch.ones(400))


def test_normals_look_at_the_camera():
    data = Rooms(size=2, frames=3)
    for frame in data.scan(1):
        towards = frame.pose[:3, 3] - frame.cloud.pos
        assert bool(((towards * frame.cloud.normal).sum(1) > -0.05).all())
        assert float(to_camera(frame.cloud.pos, frame.pose)[:, 2].min()) > 0


def test_frames_are_parts_of_scans():
    options = {"size": 3, "points": 100_000, "frames": 4}
    for index in range(3):
        scan, one = Rooms(**options).scan(index), Rooms(**options, view="frame")[index]
        same = next(frame for frame in scan if len(frame.cloud.pos) == len(one.pos))
        assert torch.equal(one.pos.sort(0).values, same.cloud.pos.sort(0).values) and "view_id" not in one


@pytest.mark.parametrize("frames", [1, 20])
def test_pairs_overlap(frames):
    """Of the points of each frame, at least 30 % have a point of the other within 5 cm."""
    data = Rooms(size=6, points=100_000, frames=frames, view="pair", noise=0)
    shared = []
    for index in range(6):
        pair = data[index]
        a, b = (pair.pos[pair.view_id == number] for number in (0, 1))
        near = [(torch.cdist(x[::23], y).amin(1) < 0.05).float().mean().item() for x, y in ((a, b), (b, a))]
        shared.append(min(near))
    assert min(shared) > 0.28 and max(shared) < 0.999


def test_overlap_is_the_part_that_the_other_frame_sees():
    data = Rooms(size=1, frames=2, noise=0)
    frame = data.scan(0)[0]
    assert overlap(frame, frame, data.camera) > 0.99
    behind = frame._replace(pose=frame.pose * torch.tensor([-1.0, 1, -1, 1]))  # turned about its vertical axis
    assert overlap(frame, behind, data.camera) < 0.01


def test_what_hides_or_is_hidden_is_not_shared():
    """The other frame looks through the same pixels, but at something nearer or farther."""
    data = Rooms(size=1, frames=1, noise=0)
    frame = data.scan(0)[0]
    for shift, shared in ((0.0, True), (0.03, True), (-0.5, False), (0.5, False)):
        depth = torch.where(frame.depth > 0, frame.depth + shift, frame.depth)
        assert (overlap(frame, frame._replace(depth=depth), data.camera) > 0.9) == shared


def test_the_seed_decides_the_faults_of_the_camera_too():
    class SameRooms(Rooms):
        def _draws(self, purpose, index):
            return Draws(np.random.default_rng(0))

    one, other = (SameRooms(size=1, frames=1, points=10**6, seed=seed, view="frame")[0] for seed in (0, 1))
    assert one.pos.shape != other.pos.shape or not torch.equal(one.pos.sort(0).values, other.pos.sort(0).values)


def test_second_frames_are_tried_until_one_overlaps(monkeypatch):
    tried, known = [], dataset.beside

    def first_away(room, pose, draws):
        tried.append(pose)
        away = pose.clone()
        away[:3, :3] = away[:3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))  # looks back
        return away if len(tried) < 4 else known(room, pose, draws)

    monkeypatch.setattr(dataset, "beside", first_away)
    pair = Rooms(size=1, frames=4, points=10**6, view="pair", noise=0)[0]
    a, b = (pair.pos[pair.view_id == number] for number in (0, 1))
    assert len(tried) >= 4 and float((torch.cdist(a[::23], b).amin(1) < 0.05).float().mean()) > 0.28


def test_voxels_thin_a_scan():
    fine, coarse = (len(Rooms(size=1, points=10**6, frames=4, voxel=voxel)[0].pos) for voxel in (0.0, 0.1))
    assert coarse < fine / 3


def test_the_default_dtype_does_not_matter():
    options = {"size": 2, "points": 300, "frames": 4}
    for view in ("scan", "pair", "frame"):
        expected = Rooms(**options, view=view)[1]
        torch.set_default_dtype(torch.float64)
        try:
            cloud = Rooms(**options, view=view)[1]
        finally:
            torch.set_default_dtype(torch.float32)
        assert all(torch.equal(cloud[name], expected[name]) for name in expected.keys())  # noqa: SIM118
        assert cloud.pos.dtype == cloud.rgb.dtype == cloud.normal.dtype == torch.float32


@pytest.mark.parametrize("option", [{"view": "both"}, {"frames": 0}, {"voxel": -1.0}, {"noise": 11.0}, {"size": 0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ConfigError, match=f"Rooms.{next(iter(option))}"):
        Rooms(**option)
