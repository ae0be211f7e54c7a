"""Every known public layout is told apart and loaded whole; DGCNN's file handling is in test_dgcnn."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.reference_dgcnn import PublishedDGCNN
from support.reference_pointnet import PublishedPointNet
from support.reference_pointnet2 import PublishedPointNet2
from torch_geometric.data import Data

from geo3d.errors import CheckpointError
from geo3d.published import ENCODERS, KNOWN, from_published

CASES = {
    "dgcnn": ("DGCNN", PublishedDGCNN, 2048),
    "pointnet": ("PointNet", PublishedPointNet, 1024),
    "pointnet2 ssg": ("PointNet2", partial(PublishedPointNet2, "ssg"), 1024),
    "pointnet2 msg": ("PointNet2", partial(PublishedPointNet2, "msg"), 1024),
}


@pytest.mark.parametrize("case", CASES)
def test_layouts_are_told_apart(case: str, tmp_path: Path) -> None:
    expected, source, channels = CASES[case]
    state = source().state_dict()
    assert [ENCODERS[reader].__name__ for _, reader in KNOWN if reader(dict(state)) is not None] == [expected]
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "best_model.pth")
    encoder = from_published(tmp_path / "best_model.pth")
    assert type(encoder).__name__ == expected and not encoder.training
    pos = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    features = encoder(Data(pos=pos / pos.norm(dim=1).max()))
    assert features.cloud.shape == (1, channels) == (1, encoder.cloud_channels)
    stored = {value.shape.numel() for value in state.values()}
    assert {p.numel() for p in encoder.parameters()} <= stored


def test_containers_that_hold_themselves_or_nothing_that_fits(tmp_path: Path) -> None:
    ring: dict[str, Any] = {}
    ring["model"] = ring
    deep: dict[str, Any] = {}
    for _ in range(20):
        deep = {"net": deep}
    for content in (ring, deep):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=r"a\.pth: .* found 8 nested dictionaries"):
            from_published(tmp_path / "a.pth")
    state = PublishedDGCNN().state_dict()
    torch.save({"model": {"net": state}}, tmp_path / "a.pth")
    assert type(from_published(tmp_path / "a.pth")).__name__ == "DGCNN"
    state["conv5.0.weight"] = torch.zeros(1).expand(10**9, 512, 1)
    for content in (state, {"conv1.0.weight": torch.zeros(())}, [1], {"feat.conv1.weight": torch.zeros(2)}):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=r"a\.pth"):
            from_published(tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"a\.pth: expected a file of tensors"):
        from_published(tmp_path / "a.pth")


def test_sizes_that_do_not_fit_together_ask_for_no_memory(tmp_path: Path) -> None:
    state = PublishedPointNet().state_dict()
    state["feat.conv1.weight"], state["feat.conv3.weight"] = torch.zeros(10**6, 3, 1), torch.zeros(10**6, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match="should be|missing weights|no PointNet classification network has such weights"
    ):
        from_published(tmp_path / "a.pth")


def test_files_from_before_norms_counted_their_batches_are_read(tmp_path: Path) -> None:
    state = PublishedDGCNN().state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    for name, content in (("old", old), ("new", state)):
        torch.save(content, tmp_path / f"{name}.pth")
    a, b = (from_published(tmp_path / f"{name}.pth").state_dict() for name in ("old", "new"))
    assert all(torch.equal(a[name], b[name]) for name in a)


class Trap:
    """Unpickled by anyone who trusts the file, it makes a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    torch.save({"model_state_dict": {"conv1.0.weight": Trap(tmp_path / "sprung")}}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="model.pth: expected a file of tensors"):
        from_published(tmp_path / "model.pth")
    assert not (tmp_path / "sprung").exists()
