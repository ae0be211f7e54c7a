import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from geo3d.data.shapes import CLASSES, PARTS, Shapes, generate, mesh, warp
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.dataset import DIVISION, MAKERS
from geo3d.data.shapes.placing import Draws, turn
from geo3d.data.shapes.sample import Sampler
from geo3d.data.shapes.vessels import wall
from geo3d.errors import ConfigError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_makes_sound_clouds(name: str) -> None:
    """Standardised, finite, unit normals, across the surface as the neighbouring points show it, known labels."""
    for index in range(4):
        pos, normal, part = generate(name, rng(index), 500)
        assert pos.shape == normal.shape == (500, 3) and part.shape == (500,)
        assert pos.dtype == normal.dtype == np.float32 and part.dtype == np.int64
        assert np.isfinite(pos).all() and np.isfinite(normal).all()
        np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(pos.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(pos, axis=1).max(), 1, atol=1e-5)
        assert part.min() >= 0 and part.max() < len(PARTS)
    pos, normal, _ = generate(name, rng(9), 30000)
    some = rng().choice(len(pos), 800, replace=False)
    # the plane through those neighbours that lie on the same side of a thin wall
    index = cKDTree(pos).query(pos[some], 12)[1]
    same = (normal[index] * normal[some, None]).sum(2, keepdims=True) > 0.5
    near = pos[index].astype(np.float64)
    near = (near - (near * same).sum(1, keepdims=True) / same.sum(1, keepdims=True)) * same
    enough = same.sum((1, 2)) >= 5
    _, _, axes = np.linalg.svd(near[enough])
    off = np.degrees(np.arccos(np.clip(np.abs((axes[:, 2] * normal[some][enough]).sum(1)), 0, 1)))
    assert enough.mean() > 0.5 and np.median(off) < 4, (enough.mean(), np.median(off))


def test_classes_differ_within_and_share_parts() -> None:
    for name in CLASSES:
        clouds = [generate(name, rng(i), 400)[0] for i in range(5)]
        extents = np.stack([np.ptp(c, axis=0) for c in clouds])
        assert (extents.std(0) > 0.01).any(), name
    used = {name: set(np.concatenate([generate(name, rng(i), 400)[2] for i in range(10)])) for name in CLASSES}
    leg = PARTS.index("leg")
    assert sum(leg in parts for parts in used.values()) >= 8
    assert {PARTS.index(p) for p in ("seat", "back", "leg")} <= used["chair"]
    assert set().union(*(used[name] for name in CLASSES if name != "sculpture")) == set(range(len(PARTS)))


def test_points_are_even_by_area_on_a_box() -> None:
    a, size = Assembly(), (1.0, 2.0, 3.0)
    a.box("body", (4, 5, 6), size, turn(20, 30, 40))
    pos, normal, _ = a.sample(6000, rng())
    frame = np.array(turn(20, 30, 40))
    face = np.abs(normal @ frame)
    np.testing.assert_allclose(face.max(1), 1, atol=1e-5)
    seen = np.bincount(face.argmax(1), minlength=3)
    area = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    expected = 6000 * area / area.sum()
    assert ((seen - expected) ** 2 / expected).sum() < 9.2  # 1 % of chi-square with 2 degrees
    # inside a face as well: the coordinates of points on the largest face are uniform
    local = (pos @ frame)[face.argmax(1) == 0]
    for axis, parts in ((1, 10), (2, 10)):
        inside = (local[:, axis] - local[:, axis].min()) / np.ptp(local[:, axis])
        counts = np.histogram(inside, parts, (0, 1))[0]
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 21.7  # 1 % with 9 degrees


def test_a_sphere_has_the_moments_of_a_sphere() -> None:
    a = Assembly()
    a.ball("body", (0, 0, 0), (1, 1, 1))
    pos, normal, _ = a.sample(20000, rng())
    np.testing.assert_allclose((normal**2).mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose((normal**4).mean(0), 1 / 5, atol=0.01)
    assert np.degrees(np.arccos(np.clip((mesh.unit(pos) * normal).sum(1), -1, 1))).max() < 1


def test_the_wall_of_a_vessel_thinner_than_its_wall_ends_at_its_axis() -> None:
    corner = wall([(0.05, 0.0), (0.05, 1.0)], 0.1, times=1).corner
    radii = np.unique(np.linalg.norm(corner[..., :2].astype(float), axis=-1).round(6))
    assert radii.tolist() == [0.0, 0.01, 0.05]


def test_an_ellipsoid_has_its_exact_normals() -> None:
    a, radii = Assembly(), np.array([1.0, 0.5, 0.3])
    a.ball("body", (0, 0, 0), tuple(radii))
    sampler = Sampler(a)
    pos, normal, _ = sampler._candidates(4000, rng())
    round_ = pos.T / radii
    np.testing.assert_allclose(np.linalg.norm(round_, axis=1), 1, atol=1e-3)
    expected = round_ / radii
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(normal.T, expected, atol=3e-3)


def test_a_union_has_no_points_inside() -> None:
    a = Assembly()
    a.box("body", (0, 0, 0), (2, 2, 2))
    a.ball("top", (0, 0, 1), (0.8, 0.8, 0.8))
    a.rod("leg", (0, 0, 0), (0, 0, -3), 0.4, top=0.5)
    pos, _, part = Sampler(a)._candidates(8000, rng())
    box, ball, rod = ((part == k) for k in range(3))
    assert box.any() and ball.any() and rod.any()
    assert (np.abs(pos[:, ball | rod]).max(0) > 0.998).all()
    assert (np.linalg.norm(pos[:, box] - [[0], [0], [1]], axis=0) > 0.79).all()
    z = pos[2, box]
    below = pos[:2, box][:, z < -0.999]
    assert (np.linalg.norm(below, axis=0) > 0.3).all()  # where the rod goes through the box's underside
    # what is left is still even: top face without the ball's disc, against an untouched side face
    on_top, on_side = (z > 0.999).sum(), (pos[0, box] > 0.999).sum()
    assert on_top / on_side == pytest.approx((4 - math.pi * 0.64) / 4, rel=0.12)


@pytest.mark.parametrize(
    "act", [warp.taper(0.3), warp.twist(0.6), warp.bend(-0.5), warp.on_axes(warp.bend(0.4), (2, 1, 0))]
)
def test_warps_carry_normals_by_the_cofactor_matrix(act: warp.Warp) -> None:
    pos, normal = rng().uniform(-0.9, 0.9, (3, 50)), rng(1).normal(size=(3, 50))
    step = 1e-6
    jacobian = np.stack(
        [(act(pos + step * e, normal)[0] - act(pos - step * e, normal)[0]) / (2 * step) for e in np.eye(3)[:, :, None]],
        -1,
    )
    jacobian = jacobian.transpose(1, 0, 2)
    cofactor = np.linalg.det(jacobian)[:, None, None] * np.linalg.inv(jacobian).transpose(0, 2, 1)
    np.testing.assert_allclose(act(pos, normal)[1].T, np.einsum("nij,nj->ni", cofactor, normal.T), atol=1e-7)


def test_a_tapered_surface_is_still_sampled_by_area() -> None:
    a = Assembly()
    a.rod("shaft", (0, 0, -1), (0, 0, 1), 0.2)
    sampler = Sampler(a)
    rate = 0.6
    centre, radius = sampler._extent()
    pos, normal, _ = sampler.draw(20000, rng(), [warp.taper(rate)])
    side = np.abs(normal[:, 2]) < 0.5
    z = pos[side, 2]
    height = (z - z.min()) / np.ptp(z)
    counts = np.histogram(height, 8, (0, 1))[0]
    end = 1 / radius  # z of the upper end where the warp acts; the circumference grows linearly with z
    middle = (np.arange(8) + 0.5) / 4 - 1
    expected = 1 + rate * end * middle
    expected *= counts.sum() / expected.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 1 % with 7 degrees


def test_surfaces_have_their_areas_and_normals() -> None:
    def area(surface: mesh.Surface) -> float:
        return float(np.linalg.norm(surface.across, axis=1).sum())

    assert area(mesh.box()) == pytest.approx(24)
    assert area(mesh.cylinder()) == pytest.approx(2 * math.pi * 2 + 2 * math.pi, rel=0.02)
    assert area(mesh.ball()) == pytest.approx(4 * math.pi, rel=0.03)
    assert area(mesh.torus(1.0, 0.2)) == pytest.approx(4 * math.pi**2 * 0.2, rel=0.06)
    rounded = (
        8 + 4 * 3 * 0 + 16 + 4 * math.pi
    )  # cube of side 4 with radius 1: 6 faces 2x2, 12 quarter cylinders, a ball
    rounded = 6 * 4 + 12 * 2 * math.pi / 2 + 4 * math.pi
    assert area(mesh.rounded_box((4, 4, 4), 1.0)) == pytest.approx(rounded, rel=0.03)
    assert area(mesh.extrude([(0, 0), (2, 0), (2, 1), (0, 1)])) == pytest.approx(2 * 2 + 6 * 2)
    assert area(mesh.ribbon([(0, 1), (2, 1)], [(0, 0), (2, 0)])) == pytest.approx(2 * 2 + 6 * 2)
    ring = np.stack([np.cos(np.linspace(0, 6, 60)), np.sin(np.linspace(0, 6, 60)), np.zeros(60)], axis=1)
    tube = mesh.sweep(ring, 0.2)
    assert area(tube) == pytest.approx(6 * 2 * math.pi * 0.2 + 2 * math.pi * 0.04, rel=0.06)
    # a pyramid has flat sides
    pyramid = mesh.lathe([(1, 0), (0, 1)], segments=4)
    face = np.cross(pyramid.corner[:, 1] - pyramid.corner[:, 0], pyramid.corner[:, 2] - pyramid.corner[:, 0])
    face = mesh.unit(face)[np.linalg.norm(face, axis=1) > 1e-6]
    np.testing.assert_allclose(np.abs(face), 1 / math.sqrt(3), atol=1e-5)
    np.testing.assert_allclose(np.abs(pyramid.normal), 1 / math.sqrt(3), atol=1e-5)
    # a cone swept along z: the normal leans by the slope
    cone = mesh.sweep([(0, 0, 0), (0, 0, 0.5), (0, 0, 1)], np.array([1.0, 0.75, 0.5]))
    side = cone.normal[np.abs(np.linalg.norm(cone.normal[..., :2], axis=2)).min(1) > 0.1]
    np.testing.assert_allclose(side[..., 2], 0.5 / math.sqrt(1.25), atol=1e-5)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_normals_point_outwards_of_the_solids(make) -> None:  # type: ignore[no-untyped-def]
    sampler = Sampler(make(Draws(rng(3))))
    pos, normal, part = sampler._candidates(3000, rng())
    solid = np.isin(part, np.concatenate(list(sampler.solids.values())))
    if solid.any():
        away = pos[:, solid] - sampler.offset[part[solid]].T
        assert ((normal[:, solid] * away).sum(0) > 0).all()  # all solids are convex and hold their own origin


def test_items_depend_on_seed_split_and_index_alone() -> None:
    shapes = Shapes(size=40, num_points=128, seed=3)
    forwards = [shapes[i] for i in range(5)]
    again = Shapes(size=200, num_points=128, seed=3)
    for i in reversed(range(5)):
        item = pickle.loads(pickle.dumps(again))[i]
        for key in ("pos", "normal", "point_y", "y"):
            assert torch.equal(item[key], forwards[i][key])
    assert torch.equal(shapes[-1].pos, shapes[39].pos)
    for other in (Shapes("test", 40, 128, 3), Shapes("train", 40, 128, 4)):
        assert all(not torch.equal(other[i].pos, forwards[i].pos) for i in range(5))


def test_the_data_set_keeps_its_contract() -> None:
    shapes = Shapes(size=70, num_points=64)
    item = shapes[36]
    assert item.pos.dtype == item.normal.dtype == torch.float32 and item.point_y.dtype == torch.int64
    assert item.y.tolist() == [2] == [int(shapes.labels[36])] and item.y.dtype == torch.int64
    assert len(shapes) == len(shapes.labels) == 70 and shapes.classes == list(CLASSES)
    assert len(list(shapes)) == 70  # an IndexError ends the iteration
    with pytest.raises(IndexError):
        shapes[70]
    with pytest.raises(IndexError):
        shapes[-71]
    state = json.loads(json.dumps(shapes.manifest()))
    assert state["classes"] == list(CLASSES) and state["size"] == 70 and state["split"] == "train"


def test_the_division_of_the_classes() -> None:
    pretrain, heldout = set(DIVISION["pretrain"]), set(DIVISION["heldout"])
    assert not pretrain & heldout and pretrain | heldout == set(CLASSES) and len(CLASSES) >= 20
    assert len(heldout) >= 8 and len(pretrain) >= 1.5 * len(heldout)
    assert Shapes(part="heldout").classes == list(DIVISION["heldout"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "tests"}, "'tests' is not train or test"),
        ({"part": "held_out"}, "'held_out' is not all, pretrain or heldout"),
        ({"classes": ["chair", "tabel"]}, "did you mean 'table'"),
        ({"classes": ["zzz"]}, "there are chair"),
        ({"classes": ["chair", "chair"]}, "different names"),
        ({"classes": []}, "different names"),
        ({"classes": ["chair"], "part": "heldout"}, "either classes or part"),
        ({"size": 0}, "Shapes.size: 0 is not an int from 1"),
        ({"num_points": 0}, "Shapes.num_points: 0 is not an int from 1"),
    ],
)
def test_mistakes_are_named(options: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Shapes(**options)


def test_generate_names_mistakes() -> None:
    with pytest.raises(ConfigError, match="did you mean 'chair'"):
        generate("chairs", rng(), 10)
    with pytest.raises(ConfigError, match="at least 1"):
        generate("chair", rng(), 0)
    assert generate("chair", rng(), 1)[0].shape == (1, 3)


def moments(name: str) -> list[float]:
    """The mean squares of the coordinates, and of each of them times the part's number, of three clouds of a class."""
    found = []
    for seed in range(3):
        pos, _, part = generate(name, rng(seed), 3000)
        square = pos.astype(np.float64) ** 2
        found += [square.mean(0), (square * (1 + part[:, None])).mean(0)]
    return np.concatenate(found).tolist()


@pytest.mark.parametrize("name", CLASSES)
def test_the_shapes_are_those_that_published_figures_were_made_with(name: str) -> None:
    """Who changes a shape on purpose writes the file anew, and says so: encoders are compared on these clouds."""
    expected = json.loads(Path(__file__).with_name("shapes.json").read_text())[name]
    np.testing.assert_allclose(moments(name), expected, rtol=2e-3, atol=1e-4)


def test_a_tube_of_two_points_is_a_cylinder() -> None:
    tube = mesh.sweep([(0, 0, 0), (0, 0, 2)], 0.5)
    pos = tube.corner.reshape(-1, 3)
    assert np.ptp(pos, axis=0) == pytest.approx([1, 1, 2], abs=0.02)
