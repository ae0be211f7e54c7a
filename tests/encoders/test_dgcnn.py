"""DGCNN against the published network, and the reading of its public weight files."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from support import reference_dgcnn as reference
from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.cloud import make_batch
from geo3d.encoders import DGCNN, dgcnn
from geo3d.errors import CheckpointError, CloudError, ConfigError
from geo3d.published import from_published

SMALL = {"channels": (8, 8, 12), "embedding": 16}
SIZES = {"uniform": [30, 30, 30], "ragged": [30, 1, 4, 50], "one": [40]}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def published(seed: int = 0, **keywords: object) -> nn.Module:
    """The reference with drawn weights; norm weights of both signs, running statistics far from the initial ones."""
    model = reference.PublishedDGCNN(**(SMALL | keywords))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "num_batches" in name:
                value.fill_(3)
            elif name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
            elif value.dim() > 1:
                value.copy_(torch.randn(value.shape, generator=draw) / value.shape[1] ** 0.5)
            else:
                value.copy_(torch.randn(value.shape, generator=draw))
    return model


def twin(model: nn.Module, k: int = 5) -> DGCNN:
    found = dgcnn.published_state(model.state_dict())
    assert found is not None
    keywords, weights = found
    encoder = DGCNN(k=k, **keywords)
    encoder.load_state_dict(weights)
    return encoder


def clouds(sizes: list[int], dtype: torch.dtype = torch.float64, seed: int = 3) -> Data:
    pos = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return make_batch(pos, ptr=torch.tensor([0, *sizes]).cumsum(0))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The neighbour tables that the encoder goes on to build."""
    built: list[Tensor] = []
    search = dgcnn.knn
    monkeypatch.setattr(dgcnn, "knn", lambda *args: built.append(search(*args)) or built[-1])
    return built


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SIZES)
def test_equals_the_published_network(name: str, training: bool, dtype: torch.dtype, tables: list[Tensor]) -> None:
    model = published().to(dtype).train(training)
    encoder = twin(model).to(dtype).train(training)
    batch = clouds(SIZES[name], dtype)
    batch.pos.requires_grad_()
    ours = encoder(batch)
    pos = batch.pos.detach().clone().requires_grad_()
    theirs = model.features(pos, batch.ptr, tables)
    assert len(tables) == 3

    def close(got: Tensor | None, expected: Tensor | None, factor: float = 1.0) -> None:
        assert got is not None and expected is not None
        bound = factor * TOLERANCE[dtype]
        torch.testing.assert_close(got, expected, rtol=bound, atol=bound * float(expected.detach().abs().max() + 1e-3))

    close(ours.point, theirs[0])
    close(ours.cloud, theirs[1])
    draw = torch.Generator().manual_seed(9)
    weights = [torch.randn(part.shape, generator=draw).to(dtype) for part in ours[:2]]
    sum((part * w).sum() for part, w in zip(ours[:2], weights, strict=True)).backward()
    sum((part * w).sum() for part, w in zip(theirs[:2], weights, strict=True)).backward()
    close(batch.pos.grad, pos.grad, 10)
    for i, layer in enumerate(encoder.layers, 1):
        conv, norm = getattr(model, f"conv{i}")
        close(layer.linear.weight.grad, conv.weight.grad.flatten(1), 10)
        close(layer.norm.weight.grad, norm.weight.grad, 10)
        close(layer.norm.bias.grad, norm.bias.grad, 10)
        close(layer.norm.running_mean, norm.running_mean)
        close(layer.norm.running_var, norm.running_var)
    close(encoder.embed.weight.grad, model.conv4[0].weight.grad.flatten(1), 10)
    close(encoder.norm.weight.grad, model.bn4.weight.grad, 10)
    close(encoder.norm.running_var, model.bn4.running_var)


def test_graphs_are_of_the_features_or_of_the_coordinates(tables: list[Tensor]) -> None:
    batch = clouds([40, 40])
    DGCNN(k=5, **SMALL).double()(batch)
    assert len(tables) == 3 and not torch.equal(tables[0], tables[1])
    expected, _ = tables[0], tables.clear()
    DGCNN(k=5, dynamic=False, **SMALL).double()(batch)
    assert len(tables) == 1 and torch.equal(tables[0], expected)


def test_size_is_the_published_one() -> None:
    """Layer list of the public code for 40 classes: conv1-5, bn1-5, linear1-3, bn6-7 have 1,809,576 parameters."""
    encoder = sum(p.numel() for p in DGCNN().parameters())
    edges = 6 * 64 + 128 * 64 + 128 * 128 + 256 * 256
    assert encoder == edges + 512 * 1024 + 2 * (64 + 64 + 128 + 256 + 1024) == 617_856
    head = 2048 * 512 + 2 * 512 + (512 + 1) * 256 + 2 * 256 + (256 + 1) * 40
    assert encoder + head == 1_809_576
    whole = reference.PublishedDGCNN()
    assert sum(p.numel() for p in whole.parameters()) == 1_809_576


@pytest.mark.parametrize("sizes", [[40, 40], [40, 25]])
def test_order_of_points_does_not_matter(sizes: list[int]) -> None:
    encoder = twin(published()).double().eval()
    batch = clouds(sizes)
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randperm(n, generator=draw) + int(start) for n, start in zip(sizes, batch.ptr[:-1], strict=True)]
    order = torch.cat(parts)
    features, moved = encoder(batch), encoder(make_batch(batch.pos[order], ptr=batch.ptr))
    torch.testing.assert_close(moved.cloud, features.cloud, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moved.point, features.point[order], rtol=1e-12, atol=1e-12)


def test_duplicated_points_give_equal_features() -> None:
    encoder = twin(published()).double().eval()
    pos = clouds([12]).pos
    once, many = encoder(Data(pos=pos)), encoder(Data(pos=pos.repeat_interleave(7, 0)))
    assert bool(many.point.isfinite().all())
    spread = many.point.view(12, 7, -1)
    torch.testing.assert_close(spread, spread[:, :1].expand_as(spread), rtol=1e-12, atol=1e-12)
    assert once.point.shape[0] == 12


def test_more_channels_and_bad_arguments() -> None:
    batch = clouds([20, 20], torch.float32)
    encoder = DGCNN(k=4, in_channels=5, **SMALL)
    with pytest.raises(CloudError, match="in_channels=5"):
        encoder(batch)
    batch.x = torch.ones(40, 2)
    assert encoder(batch).point.shape == (40, 28)
    for wrong in ({"k": 0}, {"channels": ()}, {"embedding": 0}, {"in_channels": 2}):
        with pytest.raises(ConfigError, match=r"^DGCNN\.\w+: .* is not an? "):
            DGCNN(**wrong)


# --- public weight files ---


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "model_state_dict"])
def test_published_file(tmp_path: Path, prefix: str, wrapper: str | None, tables: list[Tensor]) -> None:
    model = published().double().eval()
    state: object = OrderedDict((prefix + key, value) for key, value in model.state_dict().items())
    torch.save({"epoch": 7, wrapper: state} if wrapper else state, tmp_path / "model.t7")
    encoder = from_published(tmp_path / "model.t7", k=6)
    assert isinstance(encoder, DGCNN) and not encoder.training
    assert (encoder.k, encoder.channels, encoder.embedding) == (6, (8, 8, 12), 16)
    batch = clouds([30, 30])
    ours = encoder.double()(batch)
    theirs = model.features(batch.pos, batch.ptr, tables)
    torch.testing.assert_close(ours.cloud, theirs[1], rtol=1e-6, atol=1e-6)  # loaded in float32
    assert from_published(tmp_path / "model.t7").k == 20


def test_norms_stored_once_are_enough(tmp_path: Path) -> None:
    state = {k: v for k, v in published().state_dict().items() if ".1." not in k and "num_batches" not in k}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(from_published(tmp_path / "old.pth").norm.running_var, state["bn4.running_var"])


def test_unusable_files_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    with pytest.raises(CheckpointError, match="no such file"):
        from_published(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="torch.save"):
        from_published(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="found list"):
        from_published(path)
    torch.save({"backbone.weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"DGCNN classification.*found the keys backbone.weight"):
        from_published(path)
    state = published().state_dict()
    torch.save({k: v for k, v in state.items() if not k.endswith("running_mean")}, path)
    with pytest.raises(CheckpointError, match=r"missing weights: layers.0.norm.running_mean"):
        from_published(path)
    torch.save(state | {"conv2.0.weight": torch.ones(8, 17, 1, 1)}, path)  # the layers do not fit together
    with pytest.raises(CheckpointError, match="expected the weights of one of"):
        from_published(path)
    torch.save(state, path)
    with pytest.raises(ConfigError, match="no argument 'neighbours'"):
        from_published(path, neighbours=3)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")  # a pickled module, not a state
    with pytest.raises(CheckpointError, match="tensors"):
        from_published(tmp_path / "whole.pth")


def test_large_batches_are_evaluated_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgcnn, "CACHED", 100)
    encoder = DGCNN(k=4, **SMALL).eval()
    batch = make_batch(torch.randn(7 * 40, 3, generator=torch.Generator().manual_seed(0)), num_points=40)
    seen = []
    encoder.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    whole = encoder(batch)
    with torch.no_grad():
        pieces = encoder(batch)
    assert seen == [280, 80, 80, 80, 40]
    for one, other in zip(whole[:2], pieces[:2], strict=True):
        torch.testing.assert_close(one.detach(), other)
