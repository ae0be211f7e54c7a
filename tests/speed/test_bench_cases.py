"""Every case at tiny sizes: all contenders compute the same, and one that does not is detected."""

from functools import partial

import pytest
import torch
from speed import encoders
from speed.augmenting import RECIPES, view_cases
from speed.contenders import own_paths, usable
from speed.encoders import dgcnn_case, encoder_cases
from speed.kernels import kernel_cases
from speed.measure import measure, measure_all, values
from speed.pyg import PyGPointNet2
from speed.report import table
from speed.room import room_cases
from speed.searches import knn_case, near, shortfall
from speed.segmentation import segmentation_cases
from speed.training import training_case, training_cases

from geo3d.bench.case import Case
from geo3d.bench.inputs import randomized, surfaces, uneven
from geo3d.cli.build import build_value
from geo3d.cli.config import config_dir, read
from geo3d.cloud import Layout
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.ops import native
from geo3d.ops.search.farthest import farthest_points

SIZES = {"clouds": (2,), "points": 96}
RAGGED = {"ragged": (40, 100)}
CASES = {
    "kernels": kernel_cases(**SIZES, **RAGGED, large=128, k=6, ragged_clouds=3),
    "encoder": encoder_cases(**SIZES, **RAGGED, k=6, ragged_clouds=3),
    "train": training_cases(**SIZES, **RAGGED, k=6),
    "segment": segmentation_cases(**SIZES, k=6),
    "room": room_cases(points=4000, k=6),
    "data": view_cases(**SIZES),
}
MAKES = [pytest.param(make, id=f"{name}-{i}") for name, makes in CASES.items() for i, make in enumerate(makes)]


@pytest.mark.parametrize("make", MAKES)
def test_contenders_agree(make):
    case = make()
    checks = case.check()
    assert set(checks) <= set(case.calls) and case.reference in case.calls
    compared = [name for name, made in checks.items() if made]
    assert any(name.startswith("geo3d") for name in compared)
    for name in compared:
        assert all(check.passed for check in checks[name]), (case.title, name, checks[name])


def test_geo3d_without_its_library_is_a_contender_of_its_own():
    assert usable()[-1] == "torch"
    paths = own_paths()
    assert list(paths)[-1] == "geo3d (torch)" and len(paths) == len(usable())
    with paths["geo3d (torch)"]():
        assert native.name() is None
        with pytest.raises(ConfigError, match="no native library"):
            own_paths(("native",))


def test_an_encoder_that_computes_something_else_has_no_ratio(monkeypatch):
    make = partial(dgcnn_case, 2, 96, 6, ("torch",))
    whole = DGCNN.forward
    monkeypatch.setattr(DGCNN, "forward", lambda self, data: (f := whole(self, data))._replace(cloud=1.01 * f.cloud))
    record = measure(make, repeats=1, memory=False, shortest=0)
    wrong, published, pyg = record["rows"]
    assert wrong["name"] == "geo3d (torch)" and wrong["ratio"] is None and not wrong["equal"]
    assert published["ratio"] == 1.0 and pyg["ratio"] > 0
    text = table(record)
    assert "NOT EQUAL, no ratio" in text and text.count("differs") == 1


def test_the_rivals_run_in_their_best_forms(monkeypatch):
    made = []
    monkeypatch.setattr(
        encoders, "PyGPointNet2", lambda *_, distinct: made.append(distinct) or PyGPointNet2(*_, distinct)
    )
    encoders.pointnet2_case(2, 96, ("torch",))
    assert made == [True]  # without repeated edges, as PyG's users build it


def test_wrong_gradients_are_found():
    case = training_case("DGCNN", 2, 96, 6, ("torch",))
    assert case.check()["geo3d (torch)"][0].passed
    step = case.calls["geo3d (torch)"].func
    step.model.layers[0].linear.weight.register_hook(lambda grad: 1.2 * grad)
    from speed.training import agreement, gradients

    right, wrong = training_case("DGCNN", 2, 96, 6, ("torch",)).calls["geo3d (torch)"].func, step
    y = torch.tensor([0, 1])
    found, expected = ((each.loss(y), gradients(each.model)) for each in (wrong, right))
    assert not agreement(found, expected, "")[0].passed


def test_a_record_tells_everything():
    record = measure(CASES["encoder"][0], repeats=2, gflops=100.0, memory=False, shortest=0)
    for row in record["rows"]:
        assert len(row["times_ms"]) == 2 and row["min_ms"] <= row["median_ms"]
        assert row["share_of_limit"] == pytest.approx(row["gflops"] / 100)
        assert row["clouds_per_second"] == pytest.approx(1e3 * SIZES["clouds"][0] / row["median_ms"])
        assert sum(row["stages"].values()) == pytest.approx(1)
        searched = {"knn", "neighbours"} if "geo3d" in row["name"] else {"neighbours"}
        assert sum(row["stages"].get(kind, 0) for kind in searched) > 0
        assert row["peak_mb_per_cloud"] is None
    printed = table(record)
    assert all(row["name"] in printed for row in record["rows"])


def test_only_the_cases_asked_for():
    titles = []
    measure_all(CASES["data"], lambda record: titles.append(record["title"]), "RECIPE Z", repeats=1, memory=False)
    assert titles == ["two views, recipe z, 2 clouds of 96 points"]


def test_nothing_compared_is_marked():
    def make():
        return Case("t", {"a": lambda: 0, "b": lambda: 0}, "a", dict)

    text = table(measure(make, 1, memory=False, profiled=False, shortest=0))
    assert "* not compared: b" in text and "x *" in text


def test_recipes_are_those_of_the_configurations():
    for name, recipe in RECIPES.items():
        assert repr(recipe) == repr(build_value(read(config_dir() / "invariance" / f"{name}.yaml"), object))


def test_random_norms_have_negative_scales():
    norm = randomized(torch.nn.BatchNorm1d(1000))
    assert 0.15 < float((norm.weight < 0).float().mean()) < 0.25
    assert float(norm.running_var.min()) > 0.4


def test_uneven_sizes():
    sizes = uneven(16, 300, 2000)
    assert (len(sizes), min(sizes), max(sizes), sum(sizes) % 16) == (16, 300, 2000, 0)


def test_nan_is_never_equal():
    assert not values(torch.tensor([float("nan")]), torch.ones(1), 1e-3).passed


def test_near_ties_pass_and_other_neighbours_do_not():
    x = torch.tensor([[0.0, 0, 0], [1, 0, 0], [-1, 0, 0], [3, 0, 0]])
    y, expected = x[:1], torch.tensor([[0, 1]])
    assert near(x, y, torch.tensor([[0, 2]]), expected, "").passed
    assert not near(x, y, torch.tensor([[0, 3]]), expected, "").passed


def test_picks_that_are_not_the_farthest_fall_short():
    batch = surfaces(1, 64)
    picks = farthest_points(batch.pos, Layout(batch.ptr, 64), 16)
    assert shortfall(batch.pos, picks, 64) < 1e-6
    assert shortfall(batch.pos, picks.roll(1), 64) > 1e-2


@pytest.mark.parametrize(("channels", "what"), [(3, "points"), (64, "features")])
def test_a_case_says_what_is_searched(channels, what):
    assert knn_case(2, 32, channels, 4, ("torch",)).title == f"kNN, 2 x 32 {what}, C = {channels}, k = 4"
