"""A demonstration on generated shapes in a few minutes: pretrain, probe on unseen classes, and draw pictures."""

import time
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from geo3d.checks import Range, Seed, checked
from geo3d.data import Shapes
from geo3d.data.shapes import CLASSES
from geo3d.encoders import DGCNN
from geo3d.invariance import SO3, Compose, Jitter, Scale
from geo3d.io.files import write_json
from geo3d.io.owner import owned
from geo3d.jobs.pretraining import pretrain
from geo3d.jobs.probing import probe
from geo3d.objectives import InfoNCE
from geo3d.seeds import seeded
from geo3d.show.sheet import picture_sheet
from geo3d.tasks.datamodule import DataModule


@checked
def demo(
    out: str | Path,
    *,
    seed: Seed = 0,
    epochs: Annotated[int, Range(1, 1_000_000)] = 6,
    size: Annotated[int, Range(256, 10_000_000)] = 1536,
    num_points: Annotated[int, Range(2, 1_000_000)] = 256,
    progress: bool = True,
) -> dict[str, Any]:
    """Metrics of the demonstration; pictures, tables and the encoder are written to ``out``.

    It pretrains a small DGCNN on two thirds of the generated classes under random rotations. Then it probes the encoder
    on the remaining classes in random poses, and compares it with the same architecture untrained (the floor).

    Args:
        out: Run folder.
        seed: Key of every random draw.
        epochs: Passes over the pretraining shapes.
        size: Number of pretraining shapes.
        num_points: Points of a cloud.
        progress: Show progress.
    """
    start = time.perf_counter()
    with owned(out) as out:
        sheet = Shapes(size=8 * len(CLASSES), num_points=2048)
        rows: dict[str, list[Tensor]] = {name: [] for name in CLASSES}
        for i in range(len(sheet)):
            cloud = sheet[i]
            rows[CLASSES[i % len(CLASSES)]].append(torch.cat([cloud.pos, cloud.normal], 1))
        picture_sheet(rows, out / "shapes.png")
        print(f"{len(CLASSES)} generated classes: {out / 'shapes.png'}")

        seen = DataModule(Shapes, part="pretrain", size=size, num_points=num_points, batch_size=32, seed=seed)
        with seeded(seed, "encoder"):
            encoder = DGCNN(k=12, channels=(32, 32, 64, 128), embedding=256)
        invariance = Compose([Jitter(0.01, 0.03), Scale(0.8, 1.25), SO3()])
        trained = pretrain(
            encoder,
            InfoNCE(0.2),
            invariance,
            seen,
            out=out / "pretrain",
            seed=seed,
            lr=2e-3,
            monitor_every=2,
            trainer={"max_epochs": epochs, "progress": progress},
        )
        unseen = DataModule(
            Shapes, part="heldout", size=600, num_points=num_points, rotation="so3", holdout=0.0, seed=seed
        )
        probed = probe(out / "pretrain" / "encoder", unseen, out=out / "probe", seed=seed)
        metrics = {"pretrain": trained, "probe": probed, "seconds": time.perf_counter() - start}
        write_json(out / "metrics.json", metrics)
        print(
            f"done in {metrics['seconds']:.0f} s; look at {out}/shapes.png, pretrain/training.png and probe/probe.png"
        )
    return metrics
