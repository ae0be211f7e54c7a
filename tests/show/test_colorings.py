"""Colourings: labels with names and without, scales, palettes that stay apart."""

import numpy as np
import torch
from torch_geometric.data import Data

from geo3d.show.colorings import colorings_of, of_labels, of_scalar
from geo3d.show.palette import DISTINCT, UNKNOWN, distinct, gradient, rgb


def test_labels_have_the_colours_of_their_numbers_and_their_names():
    labels = np.array([3, -1, 0, 3, -100, 1])
    coloring = of_labels("label", labels, ["chair", "table"])
    assert coloring.names == ("unlabelled", "chair", "table", "label 3")
    shown = coloring.rgb()
    assert shown[1].tolist() == shown[4].tolist() == list(UNKNOWN)
    np.testing.assert_array_equal(shown[[2, 5, 0]], distinct(4)[[0, 1, 3]])
    assert [coloring.names[value] for value in coloring.values] == [
        "label 3", "unlabelled", "chair", "label 3", "unlabelled", "table",
    ]  # fmt: skip


def test_a_scale_goes_from_its_lowest_to_its_highest_value():
    coloring = of_scalar("height", np.array([1.0, 3.0, 2.0]))
    assert coloring.limits == (1.0, 3.0) and coloring.values.tolist() == [0, 255, 128]
    assert of_scalar("height", np.array([5.0, -1, 0.5]), (0, 1)).values.tolist() == [255, 0, 128]
    assert of_scalar("height", np.full(3, 7.0)).values.tolist() == [0, 0, 0]


def test_a_cloud_offers_all_that_it_has_and_its_own_colours_come_first():
    pos = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    plain = colorings_of(Data(pos=pos))
    assert [each.name for each in plain] == ["height"]
    normal = torch.tensor([[0.0, 0, 1], [0, 0, -1], [float("nan"), 0, 0], [1, 0, 0]])
    full = Data(pos=pos, rgb=torch.tensor([[0.0, 0.5, 1]] * 4), point_y=torch.arange(4), normal=normal)
    every = colorings_of(full, ["a", "b", "c", "d"])
    assert [each.name for each in every] == ["colour", "label", "height", "normal"]
    assert every[0].rgb()[0].tolist() == [0, 128, 255] and every[1].names == ("a", "b", "c", "d")
    assert every[3].rgb().tolist() == [[128, 128, 255], [128, 128, 0], [128, 128, 128], [255, 128, 128]]


def seen_without_red_or_green(colors: np.ndarray, missing: str) -> np.ndarray:
    """The colours as people with protanopia or deuteranopia see them (Vienot, Brettel and Mollon 1999), in sRGB."""
    linear = (colors / 255.0) ** 2.2
    to_cones = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    cones = linear @ to_cones.T
    if missing == "red":
        cones[:, 0] = 2.02344 * cones[:, 1] - 2.52581 * cones[:, 2]
    else:
        cones[:, 1] = 0.494207 * cones[:, 0] + 1.24827 * cones[:, 2]
    return 255 * np.clip(cones @ np.linalg.inv(to_cones).T, 0, 1) ** (1 / 2.2)


def test_the_first_eight_colours_stay_apart_without_red_or_green_cones():
    first = distinct(8).astype(float)
    for missing in ("red", "green"):
        shown = seen_without_red_or_green(first, missing)
        apart = np.linalg.norm(shown[:, None] - shown[None], axis=2) + 1e9 * np.eye(8)
        assert apart.min() > 25


def test_palettes_have_their_sizes_and_forty_eight_different_colours():
    assert len(np.unique(distinct(48), axis=0)) == 48 and distinct(100).shape == (100, 3)
    np.testing.assert_array_equal(distinct(48)[:16], [rgb(color) for color in DISTINCT])
    light = gradient().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert gradient().shape == (256, 3) and (np.diff(light) > -0.8).all() and light[-1] > light[0] + 150


def test_labels_may_be_any_numbers():
    coloring = of_labels("instance", np.array([2**31, 5, 2**31]))
    assert coloring.names == ("instance 5", f"instance {2**31}") and coloring.values.tolist() == [1, 0, 1]
    assert coloring.table.shape == (2, 3)


def test_a_label_has_the_colour_of_its_number():
    np.testing.assert_array_equal(of_labels("label", np.arange(60)).rgb(), distinct(60))
    assert of_labels("label", np.array([50])).rgb().tolist() == distinct(3)[2:].tolist()
