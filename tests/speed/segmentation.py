"""Cases of segmentation networks for scenes: logits in evaluation, and training steps."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from speed.contenders import PATHS, Path, own_paths
from speed.counterpart import Counterpart
from speed.encoders import RTOL, apart, evaluated, groups_of, local
from speed.measure import values
from speed.published_segmentation import PublishedSceneDGCNN, PublishedScenePointNet2
from speed.training import RATE, agreement, gradients
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
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
PUBLISHED: dict[str, type[Counterpart]] = {"DGCNN": PublishedSceneDGCNN, "PointNet++": PublishedScenePointNet2}


def segmentation_cases(
    clouds: Sequence[int] = (8,), points: int = 4096, k: int = 20, paths: Sequence[str] = PATHS
) -> list[Make]:
    """DGCNN and single-scale PointNet++ for scenes, in evaluation and in training."""
    kinds = [(name, training) for training in (False, True) for name in PUBLISHED]
    return [partial(segmentation_case, *kind, count, points, k, paths) for count in clouds for kind in kinds]


def make_network(name: str, k: int) -> PointNetwork:
    """A network of the published size, without dropout, with random weights and running statistics."""
    with seeded(0, "bench", name):
        if name == "DGCNN":
            encoder: nn.Module = SegmentationDGCNN(k=k, in_channels=INPUTS, first_graph=(6, 9))
            decoder = decoder_for(encoder, GlobalConcat)
            head = PointClassifier(decoder.out_channels, CLASSES, dropout=0.0)
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


def inputs_of(batch: Batch) -> Tensor:
    """(B, 9, N) what the published forms read."""
    rows = torch.cat([batch.pos, batch.x], 1)
    return rows.view(len(batch.ptr) - 1, -1, INPUTS).transpose(1, 2).contiguous()


def segmentation_case(
    name: str, training: bool, num_clouds: int, num_points: int, k: int, paths: Sequence[str]
) -> Case:
    """One network against its published form."""
    network, batch, own = make_network(name, k), blocks(num_clouds, num_points), own_paths(paths)
    make = _steps if training else _evaluations
    calls, check = make(network, batch, own, PUBLISHED[name])
    what = "training step" if training else "evaluation"
    title = f"{name} for scenes, {what}, {num_clouds} blocks of {num_points} points" + (
        f", k = {k}" * (name == "DGCNN")
    )
    return Case(title, calls, "published form", check, num_clouds)


Made = tuple[dict[str, Callable[[], Any]], Callable[[], Mapping[str, list[Check]]]]


def _evaluations(network: PointNetwork, batch: Batch, own: Mapping[str, Path], kind: type[Counterpart]) -> Made:
    network.eval()
    published: Any = kind(network).eval()  # type: ignore[call-arg]
    rows = inputs_of(batch)
    calls: dict[str, Callable[[], Any]] = {
        label: evaluated(lambda: network(batch), path) for label, path in own.items()
    }
    calls["published form"] = evaluated(lambda: published(rows))

    def check() -> dict[str, list[Check]]:
        checks, theirs = {}, calls["published form"]()
        for label, path in own.items():
            with torch.no_grad(), path():
                found = network(batch)
                shared = published(rows, searched(network.encoder, batch))
            checks[label] = [
                values(found, shared, RTOL, "logits, same neighbours"),
                apart(found, theirs, "fraction of logits that differ, own neighbours"),
            ]
        return checks

    return calls, check


def _steps(network: PointNetwork, batch: Batch, own: Mapping[str, Path], kind: type[Counterpart]) -> Made:
    labels = torch.randint(CLASSES, (len(batch.pos),), generator=generator("bench", "labels"))
    rows = inputs_of(batch)

    def step(model: nn.Module, forward: Callable[..., Tensor], path: Path | None = None) -> Callable[..., Tensor]:
        optimizer = torch.optim.SGD(model.train().parameters(), lr=RATE)

        def run(*given: Any, update: bool = True) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(forward(*given), labels)
            loss.backward()
            if update:
                optimizer.step()
            return loss.detach()

        if path is None:
            return run

        def within(*given: Any, update: bool = True) -> Tensor:
            with path():
                return run(*given, update=update)

        return within

    def made(model: Any, path: Path | None = None) -> Callable[..., Tensor]:
        counts = isinstance(model, Counterpart)
        return step(model, (lambda *given: model(rows, *given)) if counts else (lambda: model(batch)), path)

    calls: dict[str, Callable[[], Any]] = {label: made(deepcopy(network), path) for label, path in own.items()}
    calls["published form"] = made(kind(network))  # type: ignore[call-arg]

    def check() -> dict[str, list[Check]]:
        checks = {}
        for label, path in own.items():
            ours, theirs = deepcopy(network).train(), kind(network)  # type: ignore[call-arg]
            with torch.no_grad(), path():
                given = searched(deepcopy(network.encoder).train(), batch)
            expected = made(theirs)(given, update=False), gradients(theirs)
            found = made(ours, path)(update=False), gradients(ours)
            checks[label] = agreement(found, expected, "same neighbours")
        return checks

    return calls, check


def searched(encoder: nn.Module, batch: Batch) -> Any:
    """The neighbours that an encoder uses, in the form that the published networks take."""
    size = batch.num_points
    if isinstance(encoder, PointNet2):
        return groups_of(encoder, batch.pos, size)
    assert isinstance(encoder, SegmentationDGCNN)
    point = encoder(batch).point.detach()
    outputs = point.split([sizes[-1] for sizes in encoder.channels], 1)
    places = torch.cat([batch.pos, batch.x], 1)[:, slice(*(encoder.first_graph or (0, INPUTS)))]
    inputs = [places.contiguous(), *(each.contiguous() for each in outputs[:-1])]
    return local([knn(x, Layout(batch.ptr, size), encoder.k) for x in inputs], batch)
