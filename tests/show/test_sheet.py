import numpy as np
import pytest
import torch
from matplotlib.image import imread

from geo3d.errors import CloudError
from geo3d.show.sheet import _lines, _seen, picture_sheet, project


def ball(number: int = 800) -> torch.Tensor:
    pos = torch.randn(number, 3, generator=torch.Generator().manual_seed(0))
    return pos / pos.norm(dim=1, keepdim=True)


def ink(path) -> np.ndarray:  # type: ignore[no-untyped-def]
    return imread(path)[..., :3].min(2) < 0.97


def test_the_picture_has_a_row_for_each_class(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "sheet.png"
    picture_sheet({"full": [ball()] * 3, "short": [ball()]}, path)
    dark = ink(path)
    height, width = dark.shape
    assert (width, height) == (round(100 * (0.95 + 3 + 0.16)), round(100 * 2.16))
    tiles = dark[8:-8, 103:-8].reshape(2, 100, 3, 100).any((1, 3))
    assert tiles.tolist() == [[True] * 3, [True, False, False]]
    assert dark[:, :100].any()  # the names
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_many_classes_stand_in_two_columns(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "sheet.png"
    picture_sheet({f"c{i}": [ball(50)] for i in range(10)}, path)
    height, width = ink(path).shape
    assert height == 516 and width == round(100 * (2 * 1.95 + 0.3 + 0.16))


def test_normals_and_colours_change_the_picture(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pos = ball()
    red = torch.tensor([0.9, 0.1, 0.1]).expand(800, 3)
    picture_sheet({"a": [pos]}, tmp_path / "depth.png")
    picture_sheet({"a": [torch.cat([pos, pos], 1)]}, tmp_path / "normal.png")
    picture_sheet({"a": [pos]}, tmp_path / "red.png", colors={"a": [red]})
    depth, normal, reds = (imread(tmp_path / f"{n}.png")[:, 103:, :3] for n in ("depth", "normal", "red"))
    assert not np.array_equal(depth, normal)
    assert (reds[..., 0] - reds[..., 2]).max() > 0.2 > (depth[..., 0] - depth[..., 2]).max()


def test_project_keeps_lengths_and_up() -> None:
    pos = ball(20).double().numpy()
    spot = project(pos)
    np.testing.assert_allclose(np.linalg.norm(spot, axis=1), 1, atol=1e-6)
    assert project(np.array([[0.0, 0, 1]]))[0, 1] > 0.9


def test_points_far_behind_others_are_not_seen() -> None:
    near, far = np.zeros((1, 3)), np.array([[0.0, 0, -0.9]])
    assert _seen(np.concatenate([near, far])).tolist() == [True, False]


@pytest.mark.parametrize("clouds", [{}, {"a": []}, {"a": [torch.zeros(4, 2)]}, {"a": [torch.zeros(0, 3)]}])
def test_unfit_clouds_are_named_and_leave_no_file(clouds: dict, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CloudError, match="sheet.png"):
        picture_sheet(clouds, tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_long_names_of_folders_are_broken_at_their_underscores() -> None:
    assert _lines("short_name") == "short_name"
    assert _lines("night_stand_of_oak") == "night stand\nof oak"


def test_points_hide_only_what_lies_behind_them_in_the_same_square() -> None:
    spot = np.array([[-0.9, 0.0, 1.0], [-0.5, 0.0, -1.0], [0.5, 0.0, 1.0], [0.51, 0.01, -1.0]])
    assert _seen(spot).tolist() == [True, True, True, False]
    assert _seen(spot[:, [1, 0, 2]]).tolist() == [True, True, True, False]
