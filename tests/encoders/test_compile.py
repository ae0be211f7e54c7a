"""Encoders under ``torch.compile`` and under autocast."""

import copy
import os
import shutil
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch_geometric.data import Batch

from geo3d.cloud import Features, make_batch
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.ops import native

MAKE = {
    "dgcnn": lambda: DGCNN(k=3, channels=(12, 16), embedding=16),
    "pointnet": lambda: PointNet(embedding=16, input_transform=False, width=0.125),
    "ssg": lambda: PointNet2("ssg", (8, 4), (0.5, 0.8), (6, 6), ((4, 8), (8, 12), (16, 20))),
    "msg": lambda: PointNet2("msg", (8,), ((0.3, 0.6),), ((4, 6),), (((4, 8), (4, 12)), (16, 20))),
}
each = pytest.mark.parametrize("name", MAKE)


@pytest.fixture(params=["native", "reference"])
def path(request):
    """Both paths, one after the other."""
    if request.param == "native" and native.name() is None:
        pytest.skip("no compiled kernels are installed")
    with nullcontext() if request.param == "native" else native.disabled():
        yield request.param


@pytest.fixture(autouse=True)
def _forget():
    """What was compiled before counts as compilations of the same forward."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make(name: str) -> nn.Module:
    """A small encoder with norms that are not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = MAKE[name]()
    draw = torch.Generator().manual_seed(1)
    for norm in (m for m in encoder.modules() if isinstance(m, nn.BatchNorm1d)):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.data = torch.randn(tensor.shape, generator=draw)
        norm.running_var = torch.rand(norm.running_var.shape, generator=draw) + 0.5
    return encoder


def clouds(seed: int, sizes: tuple[int, ...] = (20, 20, 20)) -> Batch:
    pos = torch.rand(sum(sizes), 3, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6
    if len(set(sizes)) == 1:
        return make_batch(pos, num_points=sizes[0])
    return make_batch(pos, ptr=torch.tensor([0, *sizes]).cumsum(0))


def loss(features: Features) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    return sum((out * torch.randn(out.shape, generator=draw)).sum() for out in features[:2])


def assert_same(got: nn.Module, expected: nn.Module) -> None:
    """The same gradients and running statistics."""
    for (key, a), b in zip(got.named_parameters(), expected.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")
    for (key, a), b in zip(got.named_buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, key=key: f"{key}: {m}")


def distance(a: Tensor, b: Tensor) -> float:
    """Relative."""
    return float((a - b).norm() / b.norm())


def check(encoder: nn.Module, batches: list[Batch], backend: str = "aot_eager") -> None:
    """The compiled encoder does what it does uncompiled, and is compiled once for all the batches."""
    counter = CompileCounterWithBackend(backend)
    traced = copy.deepcopy(encoder)
    compiled = torch.compile(traced, fullgraph=True, backend=counter)
    for batch in batches:
        expected, got = encoder(batch), compiled(batch)
        torch.testing.assert_close(got.point, expected.point)
        torch.testing.assert_close(got.cloud, expected.cloud)
        if torch.is_grad_enabled():
            loss(expected).backward()
            loss(got).backward()
        assert_same(traced, encoder)
    assert counter.frame_count == 1


@each
@pytest.mark.parametrize("train", [True, False])
def test_uniform(name: str, train: bool, path: str) -> None:
    with torch.set_grad_enabled(train):
        check(make(name).train(train), [clouds(3), clouds(4)])


@each
@pytest.mark.parametrize("path", ["native"], indirect=True)
def test_gradients_through_fixed_norms(name: str, path: str) -> None:
    check(make(name).eval(), [clouds(3), clouds(4)])


# Sizes that are data: not all of the torch path can be traced without knowing them.
@pytest.mark.parametrize(
    ("path", "name", "train"),
    [
        ("native", "dgcnn", True),
        ("native", "dgcnn", False),
        ("reference", "dgcnn", True),
        ("reference", "dgcnn", False),
        ("native", "pointnet", True),
        ("native", "pointnet", False),
        ("reference", "pointnet", True),
        ("reference", "pointnet", False),
        ("native", "ssg", True),
        ("native", "msg", True),
        ("native", "ssg", False),
        ("native", "msg", False),
    ],
    indirect=["path"],
)
def test_ragged(path: str, name: str, train: bool) -> None:
    with torch.set_grad_enabled(train):
        check(make(name).train(train), [clouds(3, (20, 7, 33)), clouds(4, (20, 28, 12))])


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="inductor needs a C++ compiler")
def test_inductor() -> None:
    check(DGCNN(k=3, channels=(8,), embedding=16), [clouds(3), clouds(4)], "inductor")


def test_compiled_under_autocast(path: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        check(make("dgcnn"), [clouds(3), clouds(4)])


@each
def test_statistics_are_single_precision_under_autocast(name: str, path: str) -> None:
    batch = clouds(3, (300, 300, 300))
    exact = make(name)
    mixed = copy.deepcopy(exact)
    for _ in range(3):
        exact(batch)
        with torch.autocast("cpu", torch.bfloat16):
            features = mixed(batch)
    loss(features).backward()
    assert all(p.grad.dtype == torch.float32 and bool(p.grad.isfinite().all()) for p in mixed.parameters())
    for (key, got), expected in zip(mixed.named_buffers(), exact.buffers(), strict=True):
        if key.endswith("num_batches_tracked"):
            assert torch.equal(got, expected)
            continue
        assert got.dtype == torch.float32
        assert distance(got, expected) < 0.03, key
