"""The category of each cloud: what is read, and what is refused in one line."""

import pytest
import torch

from geo3d.cloud import Layout
from geo3d.errors import CloudError
from geo3d.nn.category import one_hot_categories

LAYOUT = Layout(torch.tensor([0, 2, 5]))


def test_each_cloud_has_one_row():
    assert one_hot_categories(torch.tensor([2, 0]), 3, LAYOUT, "it").tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(("category", "message"), [
    (None, r"the head has 3 categories; give the clouds y \(B,\)"),
    (torch.tensor([0, 3]), r"y: expected categories from 0 to 2; found \[0, 3\]"),
    (torch.tensor([-1, 0]), r"y: expected categories from 0 to 2; found \[-1, 0\]"),
    (torch.tensor([0.0, 1.0]), r"y: the head reads the category of each cloud, \(2,\) int64; found \(2,\) float32"),
    (torch.tensor([0, 1, 2]), r"y: the head reads the category of each cloud, \(2,\) int64; found \(3,\) int64"),
])  # fmt: skip
def test_what_is_no_category_is_refused(category, message):
    with pytest.raises(CloudError, match=message):
        one_hot_categories(category, 3, LAYOUT, "the head")
