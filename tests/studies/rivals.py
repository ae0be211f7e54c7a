"""Published networks for hand poses beside geo3d's on the same labelled clouds, at equal steps and equal minutes.

Optimiser, batch, rates and losses are the published ones; HandFoldingNet's loss is the mean of the clouds, not their
sum, which Adam does not notice. The views are those of geo3d's networks: HandPointNet was published without any,
HandFoldingNet with turns about one axis. Minutes are those of training: generated hands and their normals are made
before the clock starts, and the batches of all networks are put together within it.
"""

import csv
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geo3d.checkpoint.open import open_checkpoint
from geo3d.cloud import collate
from geo3d.data import Hands
from geo3d.invariance.views import Views
from geo3d.io.files import replacing
from geo3d.jobs.common import augmentation
from geo3d.ops.search.farthest import farthest_points
from geo3d.seeds import generator, seeded
from geo3d.tasks.datamodule import DataModule
from studies.hand_networks import CENTERS, HandFoldingNet, HandPointNet, layout, toward_sensor
from studies.poses import TESTS, lengths_at_home, scored
from studies.runs import metrics

BATCH, POINTS, LENGTH = 32, 1024, 2.4
"""Clouds of a step, points of a cloud, and the unit of the published networks: 1.2 times the long side of the box."""
RATE, DECAY = 1e-3, {"HandPointNet": 50 / 60, "HandFoldingNet": 60 / 80}
"""Adam's learning rate, and the fraction of the run after which it falls to a tenth, as published."""
SAVED, TIMED = 100, 20
"""Steps between two saved states, and steps from which the time of one is taken."""


class HandsWithNormals(Hands):
    """Generated hands with ``normal`` (N, 3), estimated from the points, on the side of the camera."""

    def __getitem__(self, index: int) -> Data:
        """The fields of one cloud."""
        cloud = super().__getitem__(index)
        cloud.normal = toward_sensor(cloud.pos[None], torch.zeros(1, 3))[0]
        return cloud


def rivals(
    out: Path, checkpoint: Path, words: Sequence[str], labels: int, steps: int, tests: int, seed: int = 0
) -> str:
    """A table: parameters, steps, minutes of training, and the mean joint error in mm on each test set.

    Args:
        out: Folder of all runs.
        checkpoint: A pretrained encoder, with which and without whose weights geo3d's networks begin.
        words: Words for geo3d's own runs: data.
        labels: Labelled clouds.
        steps: Steps of geo3d's runs, and of those at equal steps.
        tests: Clouds of each test set.
        seed: Of all runs.
    """
    rows = []
    for name, extra in (("from scratch", ["from_scratch=true"]), ("pretrained", [])):
        run = out / name.replace(" ", "_")
        metrics("finetune", run, "task=hand_pose", f"checkpoint={checkpoint}", *words, f"data.size={labels}",
                f"data.test_size={tests}", f"trainer.max_steps={steps}", f"seed={seed}", *extra)  # fmt: skip
        opened = open_checkpoint(run)
        size = sum(p.numel() for part in (opened.encoder, opened.head) for p in part.parameters())  # type: ignore[union-attr]
        rows.append((f"geo3d, {name}", size, steps, seconds_of(run), scored(run, tests)))
    seconds = max(row[3] for row in rows)
    for kind in DECAY:
        data = DataModule(HandsWithNormals, size=labels, test_size=tests, num_points=POINTS, normalize="oriented_box",
                          batch_size=BATCH, num_workers=0).of("supervised", "joints")  # fmt: skip
        name = f"{kind}-{labels}-{seed}"
        for count in (_affordable(out / f"{name}-step.json", kind, data, seconds, seed), steps):
            rows.append((kind, *_rival(out / f"{name}-{count}", kind, data, count, seed, tests)))
    lines = ["| network | parameters | steps | minutes | " + " | ".join(TESTS) + " |", "|---|---|---|---|---|---|---|"]
    for name, size, count, took, errors in rows:
        cells = [name, f"{size:,}", str(count), f"{took / 60:.1f}", *(f"{errors[test]:.1f}" for test in TESTS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rival(
    path: Path, kind: str, data: DataModule, steps: int, seed: int, tests: int
) -> tuple[int, int, float, dict[str, float]]:
    """Parameters, steps, seconds and errors of one rival; trained once, then read."""
    file = path.with_name(f"{path.name}-{tests}.json")
    if not file.exists():
        print(kind, steps, "steps", flush=True)
        network, took = trained(path.with_name(f"{path.name}.pt"), kind, data, steps, seed)
        parameters = sum(p.numel() for p in network.parameters())
        errors = errors_of(network, kind, tests)
        with replacing(file) as new:
            new.write_text(json.dumps({"parameters": parameters, "seconds": took, "errors": errors}))
    read = json.loads(file.read_text())
    return read["parameters"], steps, read["seconds"], read["errors"]


def seconds_of(run: Path) -> float:
    """Seconds of geo3d's training, each epoch counted like the median one: the first one also makes the hands."""
    with (run / "metrics.csv").open() as lines:
        epochs = [float(row["epoch_seconds"]) for row in csv.DictReader(lines)]
    return len(epochs) * statistics.median(epochs)


def _affordable(file: Path, kind: str, data: DataModule, seconds: float, seed: int) -> int:
    """Steps of a rival in these seconds. The time of a step is measured once, then read."""
    if not file.exists():
        network, views = _network(kind, data, seed), _views()
        adam, batches, taken = _adam(network), _batches(data, seed), []
        for step in range(TIMED):
            began = time.perf_counter()
            network.loss(*_seen(kind, views, next(batches), seed, step)).backward()
            adam.step()
            taken.append(time.perf_counter() - began)
        with replacing(file) as new:
            new.write_text(json.dumps(statistics.median(taken)))
    return max(TIMED, round(seconds / float(json.loads(file.read_text()))))


def _adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), RATE, betas=(0.5, 0.999), eps=1e-6)


def trained(state: Path, kind: str, data: DataModule, steps: int, seed: int) -> tuple[nn.Module, float]:
    """The network after its training with the published optimiser, and the seconds that it took.

    The views are drawn as for geo3d's networks. An interrupted training goes on from ``state``.
    """
    network, views = _network(kind, data, seed).train(), _views()
    adam = _adam(network)
    first, took = 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        adam.load_state_dict(saved["adam"])
        first, took = saved["step"], saved["took"]
    batches = _batches(data, seed, first)
    for step in range(first, steps):
        began = time.perf_counter()
        for group in adam.param_groups:
            group["lr"] = RATE * (0.1 if step >= DECAY[kind] * steps else 1)
        adam.zero_grad()
        network.loss(*_seen(kind, views, next(batches), seed, step)).backward()
        adam.step()
        took += time.perf_counter() - began
        if (step + 1) % SAVED == 0 or step + 1 == steps:
            with replacing(state) as new:
                torch.save({"network": network.state_dict(), "adam": adam.state_dict(), "step": step + 1,
                            "took": took}, new)  # fmt: skip
    return network, took


@torch.no_grad()
def errors_of(network: Any, kind: str, tests: int) -> dict[str, float]:
    """Mean joint error in mm on each test set."""
    network.eval()
    errors = {}
    for test in TESTS:
        data = DataModule(HandsWithNormals, held_out=test, size=tests, num_points=POINTS, normalize="oriented_box")
        distances = []
        for batch in data.loader("test"):
            distances.append(lengths_at_home(LENGTH * network.joints(_clouds(kind, batch)) - batch.joints, batch))
        errors[test] = float(torch.cat(distances).mean())
    return errors


def _network(kind: str, data: DataModule, seed: int) -> Any:
    with seeded(seed, kind):
        if kind == "HandFoldingNet":
            return HandFoldingNet()
        return HandPointNet(torch.cat([batch.joints for batch in data.loader("train")]) / LENGTH)


def _views() -> Views:
    return Views(augmentation("aligned", "joints"), num_points=POINTS, normalize="oriented_box", num_views=1)


def _batches(data: DataModule, seed: int, first: int = 0) -> Iterator[Batch]:
    """Batches without end, from a step on; each pass has an order of its own. All clouds are made first."""
    return _endless(_made(data), seed, first)


def _made(data: DataModule) -> list[Data]:
    prepared = data.prepared("train", pool=True)
    return [prepared[index] for index in range(len(prepared))]


def _endless(clouds: Sequence[Data], seed: int, first: int) -> Iterator[Batch]:
    a_pass, step = max(1, len(clouds) // BATCH), first
    while True:
        order = torch.randperm(len(clouds), generator=generator(seed, "rivals", step // a_pass))
        chosen = order[step % a_pass * BATCH :][:BATCH]
        yield collate([clouds[index] for index in chosen.tolist()])
        step += 1


def _seen(kind: str, views: Views, batch: Batch, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """(B, N, 6) clouds and (B, 21, 3) joints of a training step, in the unit of the networks."""
    (view,) = views(batch, seed, "rivals", step)
    return _clouds(kind, view.batch), view.batch.joints / LENGTH


def _clouds(kind: str, batch: Batch) -> Tensor:
    """(B, N, 6) coordinates and normals; for HandPointNet farthest points come first, as published."""
    draw, wanted = generator("rivals", "order"), torch.arange(POINTS)
    orders = [torch.randperm(size, generator=draw)[wanted % size] for size in batch.ptr.diff().tolist()]
    again = batch.ptr[:-1, None] + torch.stack(orders)  # small clouds repeat their points, as published
    clouds = torch.cat([batch.pos / LENGTH, batch.normal], 1)[again]
    if kind == "HandFoldingNet":
        return clouds
    count, first = len(clouds), CENTERS[0]
    picked = farthest_points(clouds[..., :3].reshape(-1, 3), layout(count, POINTS), first).view(count, first)
    front = torch.zeros(count, POINTS, dtype=torch.long)
    front.scatter_(1, picked % POINTS, torch.arange(first, 0, -1).expand(count, first))
    order = front.argsort(dim=1, descending=True, stable=True)
    return clouds.gather(1, order[..., None].expand_as(clouds))
