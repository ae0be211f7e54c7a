"""Scenes of features, of neighbours and of two encoders, against plain loops."""

import numpy as np
import pytest
from support.torus import torus

from geo3d.show.pca import fitted
from geo3d.show.scenes.compare import NEAREST, agreeing, compare_scene
from geo3d.show.scenes.features import MARK, Featured, cosines, feature_scene
from geo3d.show.scenes.neighbors import neighbor_scene


def features(count: int, channels: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels)).astype(np.float32)


def test_clouds_share_their_colours_and_the_chosen_point_is_marked():
    first, second = features(50), features(70, seed=1)
    basis = fitted(np.concatenate([first, second]))
    clouds = [Featured("a", torus(50), first, np.arange(50) * 2), Featured("b", torus(70), second)]
    scene = feature_scene(clouds, basis, point=7)
    assert [pane.title for pane in scene.panes] == ["a", "b", "a, similarity to point 14", "b, similarity to point 14"]
    assert scene.columns == 2
    np.testing.assert_array_equal(scene.panes[1].points[0].colorings[0].rgb(), basis.colors(second))
    shown, mark = scene.panes[2].points
    assert mark.pos.tolist() == [torus(50)[7].tolist()] and mark.colorings[0].rgb().tolist() == [list(MARK)]
    assert shown.colorings[0].values[7] == 255 and len(scene.panes[3].points) == 1


def test_cosines_agree_with_a_loop_and_zero_is_similar_to_nothing():
    x = features(20)
    x[3] = 0
    plain = [0 if i == 3 else x[i] @ x[5] / np.linalg.norm(x[i]) / np.linalg.norm(x[5]) for i in range(20)]
    np.testing.assert_allclose(cosines(x, x[5]), plain, atol=1e-6)
    assert (cosines(x, x[3]) == 0).all()


def test_neighbours_are_joined_with_the_point():
    pos, numbers = torus(30), np.arange(30) + 100
    scene = neighbor_scene(pos, {"one": np.array([4, 9, 2, 4]), "two": np.array([4])}, 4, numbers)
    first, second = scene.panes
    assert first.title.startswith("one: 2 neighbours, mean distance") and second.title == "two: 0 neighbours"
    _, drawn, mark = first.points
    assert drawn.numbers.tolist() == [102, 109] and mark.name == "chosen point 104"
    np.testing.assert_array_equal(first.lines[0].ends, np.stack([pos[[4, 4]], pos[[2, 9]]], 1))


@pytest.mark.parametrize("count", [40, 1500])
def test_agreement_is_the_common_part_of_the_most_similar_points(count):
    a, b = features(count, 6), features(count, 4, seed=1) + 0.1
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    agreed = agreeing(a, b)
    for row in (0, 17, count - 1):
        sets = []
        for x in unit:
            similar = x @ x[row]
            similar[row] = -np.inf
            sets.append(set(np.argsort(-similar)[:NEAREST].tolist()))
        assert agreed[row] == pytest.approx(len(sets[0] & sets[1]) / NEAREST)
    assert agreeing(a, 3 * a).min() == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_points_agree_with_themselves(count):
    assert agreeing(features(count), features(count)).tolist() == [1] * count


def test_encoders_with_other_channels_have_colours_of_their_own():
    pos, numbers = torus(60), np.arange(60)
    same = compare_scene(pos, features(60), features(60, seed=1), ("a", "b"), numbers)
    other = compare_scene(pos, features(60), features(60, 3), ("a", "b"), numbers)
    assert [each.name for each in same.panes[2].points[0].colorings] == ["agreement", "cosine similarity"]
    assert [each.name for each in other.panes[2].points[0].colorings] == ["agreement"]
    assert "6 and 3 channels" in other.notes[1]
    np.testing.assert_array_equal(
        same.panes[1].points[0].colorings[0].rgb(), fitted(features(60)).colors(features(60, seed=1))
    )
