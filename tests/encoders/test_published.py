"""Every known public layout is told apart and loaded whole; DGCNN's file handling is in test_dgcnn."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from geo3d.encoders.published import KNOWN, from_published
from geo3d.errors import CheckpointError


def reference(module: str, name: str, *args: Any) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location(module, Path(__file__).with_name(f"{module}.py"))
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return getattr(loaded, name)(*args)


CASES = {
    "dgcnn": ("DGCNN", ("reference_dgcnn", "PublishedDGCNN"), 2048),
    "pointnet": ("PointNet", ("reference_pointnet", "PublishedPointNet"), 1024),
    "pointnet2 ssg": ("PointNet2", ("reference_pointnet2", "PublishedPointNet2", "ssg"), 1024),
    "pointnet2 msg": ("PointNet2", ("reference_pointnet2", "PublishedPointNet2", "msg"), 1024),
}


@pytest.mark.parametrize("case", CASES)
def test_layouts_are_told_apart(case: str, tmp_path: Path) -> None:
    expected, source, channels = CASES[case]
    state = reference(*source).state_dict()
    readers = [cls.__name__ for _, cls, reader in KNOWN if reader(dict(state)) is not None]
    assert readers == [expected]
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "best_model.pth")
    encoder = from_published(tmp_path / "best_model.pth")
    assert type(encoder).__name__ == expected and not encoder.training
    pos = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    features = encoder(Data(pos=pos / pos.norm(dim=1).max()))
    assert features.cloud.shape == (1, channels) == (1, encoder.cloud_channels)
    stored = {value.shape.numel() for value in state.values()}
    assert {p.numel() for p in encoder.parameters()} <= stored


def test_files_from_before_norms_counted_their_batches_are_read(tmp_path: Path) -> None:
    state = reference("reference_dgcnn", "PublishedDGCNN").state_dict()
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
