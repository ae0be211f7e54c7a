"""Cases of segmentation networks for scenes: logits in evaluation, and training steps."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from speed.contenders import PATHS, Path, own_paths
from speed.counterpart import Counterpart
from speed.encoders import RTOL, apart, evaluated, groups_of, local
from speed.measure import values
from speed.published_segmentation import PublishedDGCNNOfPoints, PublishedScenePointNet2
from speed.training import LOSS, RATE, Result, agreement, gradients
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch_geometric.data import Batch

from geo3d.bench.case import Case, Check, Make
from geo3d.bench.inputs import randomized, surfaces
from geo3d.cloud import Layout, make_batch
from geo3d.decoders import FeaturePropagation, GlobalConcat
from geo3d.decoders.build import decoder_for
from geo3d.encoders import PointNet2, SegmentationDGCNN
from geo3d.heads import PointClassifier
from geo3d.network import PointNetwork
from geo3d.ops.search.knn import knn
from geo3d.seeds import generator, seeded

CLASSES, INPUTS = 13, 9
DIRECTION = 0.02
"""Largest difference of the cosine of two float32 gradients from 1."""
PARTS, CATEGORIES = 50, 16
PUBLISHED: dict[str, type[Counterpart]] = {
    "DGCNN": PublishedDGCNNOfPoints, "PointNet++": PublishedScenePointNet2, "DGCNN for parts": PublishedDGCNNOfPoints,
}  # fmt: skip
OF_PARTS = "DGCNN for parts"


def segmentation_cases(
    clouds: Sequence[int] = (8,), points: int = 4096, k: int = 20, paths: Sequence[str] = PATHS
) -> list[Make]:
    """DGCNN and single-scale PointNet++ for scenes, and DGCNN for parts, in evaluation and in training.

    The network for parts sees half as many points and twice as many neighbours, as published.
    """
    sizes = {name: (points, k) for name in PUBLISHED} | {OF_PARTS: (points // 2, 2 * k)}
    kinds = [(name, training) for training in (False, True) for name in PUBLISHED]
    return [partial(segmentation_case, *kind, count, *sizes[kind[0]], paths) for count in clouds for kind in kinds]


def make_network(name: str, k: int) -> PointNetwork:
    """A network of the published size, without dropout, with random weights and running statistics."""
    with seeded(0, "bench", name):
        if name == "DGCNN":
            encoder: nn.Module = SegmentationDGCNN(k=k, in_channels=INPUTS, first_graph=(6, 9))
            decoder = decoder_for(encoder, GlobalConcat)
            head = PointClassifier(decoder.out_channels, CLASSES, dropout=0.0)
        elif name == OF_PARTS:
            encoder = SegmentationDGCNN(k=k, align=True)
            decoder = decoder_for(encoder, GlobalConcat)
            head = PointClassifier(decoder.out_channels, PARTS, (256, 256, 128), dropout=0.0, categories=CATEGORIES)
        else:
            encoder = PointNet2(
                num_samples=(1024, 256, 64, 16), radii=(0.1, 0.2, 0.4, 0.8), num_neighbors=(32, 32, 32, 32),
                channels=((32, 32, 64), (64, 64, 128), (128, 128, 256), (256, 256, 512)), in_channels=INPUTS,
                absolute=True,
            )  # fmt: skip
            decoder = decoder_for(encoder, partial(FeaturePropagation, cloud=False, input=False))
            head = PointClassifier(decoder.out_channels, CLASSES, (128,), True, True, 0.0, 0.0)
        return randomized(PointNetwork(encoder, decoder, head))  # type: ignore[return-value]


def blocks(num_clouds: int, num_points: int) -> Batch:
    """Clouds with a colour and a place in the room for each point, as the published networks read them."""
    batch = surfaces(num_clouds, num_points)
    color = torch.rand(len(batch.pos), 3, generator=generator("bench", "colours"))
    return make_batch(batch.pos, num_points=num_points, x=torch.cat([color, batch.pos / 2 + 0.5], 1))


def objects(num_clouds: int, num_points: int) -> Batch:
    """Clouds with their category, as the network for parts reads them."""
    y = torch.randint(CATEGORIES, (num_clouds,), generator=generator("bench", "categories"))
    return make_batch(surfaces(num_clouds, num_points).pos, num_points=num_points, y=y)


def inputs_of(batch: Batch) -> Tensor:
    """(B, 9, N), or (B, 3, N) for parts, what the published forms read."""
    rows = batch.pos if batch.get("x") is None else torch.cat([batch.pos, batch.x], 1)
    return rows.view(len(batch.ptr) - 1, -1, rows.shape[1]).transpose(1, 2).contiguous()


def told(batch: Batch) -> dict[str, Tensor]:
    """What the network for parts is told beside the points."""
    return {} if batch.get("y") is None else {"category": batch.y}


def segmentation_case(
    name: str, training: bool, num_clouds: int, num_points: int, k: int, paths: Sequence[str]
) -> Case:
    """One network against its published form."""
    make_batch_of = objects if name == OF_PARTS else blocks
    network, batch, own = make_network(name, k), make_batch_of(num_clouds, num_points), own_paths(paths)
    make = _steps if training else _evaluations
    calls, check = make(network, batch, own, PUBLISHED[name])
    what = "training step" if training else "evaluation"
    title = name if name == OF_PARTS else f"{name} for scenes"
    title += f", {what}, {num_clouds} clouds of {num_points} points" + f", k = {k}" * ("DGCNN" in name)
    return Case(title, calls, "published form", check, num_clouds)


Made = tuple[dict[str, Callable[[], Any]], Callable[[], Mapping[str, list[Check]]]]


def _evaluations(network: PointNetwork, batch: Batch, own: Mapping[str, Path], kind: type[Counterpart]) -> Made:
    network.eval()
    published: Any = kind(network).eval()  # type: ignore[call-arg]
    rows = inputs_of(batch)
    calls: dict[str, Callable[[], Any]] = {
        label: evaluated(lambda: network(batch), path) for label, path in own.items()
    }
    calls["published form"] = evaluated(lambda: published(rows, **told(batch)))

    def check() -> dict[str, list[Check]]:
        checks, theirs = {}, calls["published form"]()
        for label, path in own.items():
            with torch.no_grad(), path():
                found = network(batch)
                shared = published(rows, searched(network.encoder, batch), **told(batch))
            checks[label] = [
                values(found, shared, RTOL, "logits, same neighbours"),
                apart(found, theirs, "fraction of logits that differ, own neighbours"),
            ]
        return checks

    return calls, check


class Step:
    """A network in training; a call is one step, which returns the loss.

    Args:
        model: geo3d's network or its published form.
        batch: The blocks.
        path: The context in which the step runs.
    """

    def __init__(self, model: nn.Module, batch: Batch, path: Path = nullcontext) -> None:
        self.model, self.batch, self.path = model.train(), batch, path
        self.labels = torch.randint(CLASSES, (len(batch.pos),), generator=generator("bench", "labels"))
        published = isinstance(model, Counterpart)
        self.inputs, self.told = ((inputs_of(batch),), told(batch)) if published else ((batch,), {})
        self.optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def loss(self, *given: Any) -> Tensor:
        """The loss; its gradients are left in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.path():
            loss = cross_entropy(self.model(*self.inputs, *given, **self.told), self.labels)
            loss.backward()
        return loss.detach()

    def __call__(self) -> Tensor:
        """The loss of one step, after which the parameters are updated."""
        loss = self.loss()
        self.optimizer.step()
        return loss


def _steps(network: PointNetwork, batch: Batch, own: Mapping[str, Path], kind: type[Counterpart]) -> Made:
    calls: dict[str, Callable[[], Any]] = {label: Step(deepcopy(network), batch, path) for label, path in own.items()}
    calls["published form"] = Step(kind(network), batch)  # type: ignore[call-arg]

    def both(network: PointNetwork, batch: Batch, path: Path) -> tuple[Result, Result]:
        ours, theirs = Step(deepcopy(network), batch, path), Step(kind(network).to(batch.pos), batch)  # type: ignore[call-arg]
        with torch.no_grad(), path():
            given = searched(deepcopy(network.encoder).train(), batch)
        return (ours.loss(), gradients(ours.model)), (theirs.loss(given), gradients(theirs.model))

    def check() -> dict[str, list[Check]]:
        wide = deepcopy(network).double()
        more = {"y": batch.y} if batch.get("x") is None else {"x": batch.x.double()}
        widened = make_batch(batch.pos.double(), num_points=batch.num_points, **more)
        exact = agreement(*both(wide, widened, nullcontext), "same neighbours, in float64", 1e-6)
        return {label: [*exact, *near(*both(network, batch, path))] for label, path in own.items()}

    return calls, check


def near(found: Result, expected: Result) -> list[Check]:
    """Checks in float32, in which rounding decides some of the many maxima: the loss, and the gradients' direction."""
    loss = float((found[0] - expected[0]).abs() / expected[0].abs())
    ours, theirs = (torch.cat([grads[name].flatten() for name in expected[1]]) for grads in (found[1], expected[1]))
    away = 1 - float(cosine_similarity(ours.double(), theirs.double(), 0))
    return [
        Check("gradients, 1 - cosine, same neighbours", away, DIRECTION),
        Check("loss, relative, same neighbours", loss, LOSS),
    ]


def searched(encoder: nn.Module, batch: Batch) -> Any:
    """The neighbours that an encoder uses, in the form that the published networks take."""
    size = batch.num_points
    if isinstance(encoder, PointNet2):
        return groups_of(encoder, batch.pos, size)
    assert isinstance(encoder, SegmentationDGCNN)
    point, layout = encoder(batch).point.detach(), Layout(batch.ptr, size)
    outputs = point.split([sizes[-1] for sizes in encoder.channels], 1)
    if encoder.alignment is None:
        first = [torch.cat([batch.pos, batch.x], 1)[:, slice(*(encoder.first_graph or (0, INPUTS)))]]
    else:
        first = [batch.pos, encoder.alignment(batch.pos, layout, encoder.k)]
    inputs = [*first, *outputs[:-1]]
    return local([knn(x.contiguous(), layout, encoder.k) for x in inputs], batch)
