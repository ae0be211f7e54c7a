"""Cases of training steps: forward, cross-entropy, backward, SGD."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from speed.contenders import PATHS, Path, own_paths, usable
from speed.counterpart import Counterpart
from speed.encoders import RAGGED, Encoder, local, make_encoder, neighbours_of, pointnet2_flops
from speed.published_dgcnn import PublishedDGCNN
from speed.published_pointnet2 import PublishedPointNet2
from speed.pyg import PyGDGCNN, PyGPointNet2
from speed.roofline import dgcnn_flops
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch, Data

from geo3d.bench.case import Case, Check, Make
from geo3d.bench.inputs import dense, labels, more_pairs, ragged_surfaces, spread, surfaces, uneven
from geo3d.cloud import collate, make_batch
from geo3d.encoders import DGCNN
from geo3d.nn.linear import linear
from geo3d.seeds import seeded

LOSS, GRADIENT = 1e-4, 0.02
"""Largest relative differences of the loss and of all gradients together (rounding decides some maxima)."""
FEW = 4
"""Number of clouds that show, in float64, whether two implementations compute the same function."""
RATE = 1e-4
"""Learning rate, small so that the weights hardly change."""

Forward = Callable[..., Tensor]
"""Computes (B, C) cloud features; takes the neighbours as an optional argument."""


def training_cases(
    clouds: Sequence[int] = (16, 8),
    points: int = 1024,
    k: int = 20,
    paths: Sequence[str] = PATHS,
    ragged: tuple[int, int] = RAGGED,
) -> list[Make]:
    """DGCNN with ``clouds[0]`` clouds and PointNet++ (single-scale) with ``clouds[-1]``, uniform and ragged."""
    makes = [partial(training_case, "DGCNN", clouds[0], points, k, paths)]
    makes += [partial(training_case, "PointNet2", clouds[-1], points, k, paths)]
    for name, count in (("DGCNN", clouds[0]), ("PointNet2", clouds[-1])):
        makes += [partial(ragged_training_case, name, count, *ragged, k, (path,)) for path in usable(paths)]
    return makes


class Step:
    """A network with a linear classifier behind it; a call is one training step.

    Args:
        model: The network whose parameters are trained.
        forward: Computes the network's cloud features.
        width: Number of channels of the cloud features.
        path: The context in which the step runs.
    """

    def __init__(self, model: nn.Module, forward: Forward, width: int, path: Path = nullcontext) -> None:
        self.model, self.forward, self.path = model.train(), forward, path
        with seeded(0, "bench", "head"):
            self.head = linear(width, 40, bias=True)
        self.optimizer = torch.optim.SGD([*model.parameters(), *self.head.parameters()], lr=RATE)

    def loss(self, y: Tensor, *given: Any) -> Tensor:
        """The loss; its gradients are left in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.path():
            loss = cross_entropy(self.head(self.forward(*given)), y)
            loss.backward()
        return loss.detach()

    def __call__(self, y: Tensor) -> Tensor:
        """The loss of one step, after which the parameters are updated."""
        loss = self.loss(y)
        self.optimizer.step()
        return loss


def own_steps(encoder: Encoder, batch: Batch, own: Mapping[str, Path]) -> dict[str, Step]:
    """geo3d's contenders, each with a copy of the encoder."""

    def step(path: Path) -> Step:
        copy = deepcopy(encoder)
        return Step(copy, lambda: copy(batch).cloud, encoder.cloud_channels, path)

    return {label: step(path) for label, path in own.items()}


def other_steps(encoder: Encoder, batch: Batch) -> dict[str, Step]:
    """Steps of the published form and of PyG; all but PyG's distinct edges compute the encoder's function."""
    size, clouds, steps = batch.num_points, dense(batch), {}

    def add(name: str, model: Counterpart, forward: Forward) -> None:
        steps[name] = Step(model, forward, encoder.cloud_channels)

    if isinstance(encoder, DGCNN):
        published, edge_conv = PublishedDGCNN(encoder), PyGDGCNN(encoder)
        add("published form", published, lambda tables=None: published(clouds, tables and local(tables, batch)))
        add("PyG EdgeConv", edge_conv, lambda tables=None: edge_conv(batch.pos, size, tables))
        return steps
    grouped = PublishedPointNet2(encoder)
    filled, distinct = PyGPointNet2(encoder, distinct=False), PyGPointNet2(encoder, distinct=True)
    add("published form", grouped, lambda groups=None: grouped(clouds, groups))
    add("PyG PointNetConv", filled, lambda groups=None: filled(batch.pos, size))
    add("PyG, distinct edges", distinct, lambda groups=None: distinct(batch.pos, size))
    return steps


def training_case(name: str, num_clouds: int, num_points: int, k: int, paths: Sequence[str]) -> Case:
    """One encoder against the published form and PyG's form."""
    encoder = make_encoder(name, k)
    batch, y, own = surfaces(num_clouds, num_points), labels(num_clouds), own_paths(paths)
    steps = own_steps(encoder, batch, own) | other_steps(encoder, batch)
    if name == "DGCNN":
        sizes, channels = [num_points] * num_clouds, (3, *encoder.channels)
        by_edge, by_point = (dgcnn_flops(sizes, k, channels, encoder.embedding, each, True) for each in (True, False))
        flops = {each: by_point if each in own else by_edge for each in steps}
    else:
        needed, published = (3 * each for each in pointnet2_flops(encoder, batch))
        flops = {each: needed if each in own or "distinct" in each else published for each in steps}
    note = "distinct edges: as PyG's users build it; BatchNorm sees other edges, so in training it is another function"
    return Case(
        f"{name} training step, {num_clouds} clouds of {num_points} points" + (f", k = {k}" if name == "DGCNN" else ""),
        {each: partial(step, y) for each, step in steps.items()},
        "published form",
        partial(same_gradients, encoder, batch, y, own),
        num_clouds,
        flops,
        () if name == "DGCNN" else (note,),
    )


def ragged_training_case(name: str, num_clouds: int, smallest: int, largest: int, k: int, paths: Sequence[str]) -> Case:
    """Clouds of many sizes against equal clouds with as many points in total; checked with the clouds reversed."""
    encoder = make_encoder(name, k)
    sizes, y, own = uneven(num_clouds, smallest, largest), labels(num_clouds), own_paths(paths)
    ragged, uniform = ragged_surfaces(sizes), surfaces(num_clouds, sum(sizes) // num_clouds)
    (label,) = own
    steps = {
        f"{label}, {kind}": own_steps(encoder, batch, own)[label]
        for kind, batch in (("uniform", uniform), ("ragged", ragged))
    }

    def check() -> dict[str, list[Check]]:
        turned = collate([Data(pos=pos) for pos in reversed(ragged.pos.split(sizes))])
        pairs = []
        for batch, classes in ((ragged, y), (turned, y.flip(0))):
            step = own_steps(encoder, batch, own)[label]
            pairs.append((step.loss(classes), gradients(step.model)))
        return {f"{label}, ragged": agreement(pairs[1], pairs[0], "clouds in another order")}

    return Case(
        f"{name} training step, {spread(sizes)}",
        {each: partial(step, y) for each, step in steps.items()},
        f"{label}, uniform",
        check,
        num_clouds,
        notes=(more_pairs(sizes),),
    )


def same_gradients(encoder: Encoder, batch: Batch, y: Tensor, own: Mapping[str, Path]) -> dict[str, list[Check]]:
    """Checks of the loss and gradients of geo3d and PyG against the published form on the same neighbours."""
    checks = {}
    for label, step in own_steps(encoder, batch, own).items():
        with step.path(), torch.no_grad():
            given = neighbours_of(encoder, batch, deepcopy(encoder).train()(batch).point)
        published = other_steps(encoder, batch)["published form"]
        expected = published.loss(y, given), gradients(published.model)
        checks[label] = agreement((step.loss(y), gradients(step.model)), expected, "same neighbours")
    return checks | in_double(encoder, batch, y)


def in_double(encoder: Encoder, batch: Batch, y: Tensor) -> dict[str, list[Check]]:
    """Checks of PyG's form against the published form in float64, on the first few clouds.

    In float32, PyG's BatchNorm sums hundreds of thousands of rows one after another and loses too many digits to tell
    from the gradients whether the function is the same.
    """
    clouds, encoder = min(FEW, len(y)), deepcopy(encoder).double().train()
    few = make_batch(batch.pos[: clouds * batch.num_points].double(), num_points=batch.num_points)
    with torch.no_grad():
        given = neighbours_of(encoder, few, encoder(few).point)
    results = {}
    for name, step in other_steps(encoder, few).items():
        if "distinct" not in name:
            assert isinstance(step.model, Counterpart)
            step.model.double()
            step.model.load(encoder)
            step.head.double()
            results[name] = step.loss(y[:clouds], given), gradients(step.model)
    expected = results.pop("published form")
    return {name: agreement(result, expected, "in float64", 1e-6) for name, result in results.items()}


Result = tuple[Tensor, dict[str, Tensor]]


def agreement(found: Result, expected: Result, how: str, limit: float | None = None) -> list[Check]:
    """Checks of the relative differences of the loss and of all gradients as one vector."""
    loss = float((found[0] - expected[0]).abs() / expected[0].abs())
    squares = [(found[1][name].flatten() - grad.flatten()).square().sum() for name, grad in expected[1].items()]
    size = sum(grad.square().sum() for grad in expected[1].values())
    away = float((sum(squares) / size) ** 0.5)
    return [
        Check(f"gradients, relative, {how}", away, limit or GRADIENT),
        Check(f"loss, relative, {how}", loss, limit or LOSS),
    ]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradients by the parameter names of geo3d's encoder."""
    if isinstance(model, Counterpart):
        return model.gradients()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
