"""What a store costs and gives: ``python -m speed.store [KEY=VALUE ...]`` in the folder tests.

many   clouds of generated shapes: time to prepare and to open, clouds/s from the data module's loader by its workers,
       against what a training step of DGCNN consumes
big    a store of random clouds, written and trained on by ``geo3d pretrain``: the peak of the memory that is the
       process's own (RssAnon; Linux only), and how much of the store was read
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from speed.report import aligned
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, checked, parameters
from geo3d.cli.check import options
from geo3d.data import Shapes, Store
from geo3d.data.store import build_store
from geo3d.encoders import DGCNN
from geo3d.errors import Geo3dError
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.seeds import generator
from geo3d.tasks.datamodule import DataModule

Count = Annotated[int, Range(1, 10_000_000)]
STEPS = 50


class Noise(Dataset):
    """Clouds of random points, made on demand."""

    classes: tuple[str, ...] = ()
    labels = None

    def __init__(self, split: str = "train", size: int = 8, points: int = 1000) -> None:
        self.split, self.size, self.points = split, size, points

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Data:
        return Data(pos=torch.rand(self.points, 3, generator=generator("noise", self.split, index)))

    def manifest(self) -> dict[str, Any]:
        return {"name": "noise", "split": self.split, "size": self.size, "points": self.points}


def seconds(call: Callable[[], Any]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def many(out: Path, clouds: int, points: int) -> list[list[str]]:
    """Rows of the table about many small clouds."""
    rows = [["", "seconds", "clouds/s"]]
    took = seconds(lambda: build_store(Shapes, out, splits=["train"], size=clouds, num_points=points))
    rows.append(["prepare shapes (0 s if it was there)", f"{took:.1f}", f"{clouds / took:.0f}"])
    rows.append(["open", f"{seconds(lambda: Store(out)):.3f}", ""])
    for workers in (0, 1, 2):
        data = DataModule(Store, root=out, num_points=points, batch_size=64, num_workers=workers)
        rows.append([f"training split and order, {workers} workers", f"{seconds(data.train_dataloader):.2f}", ""])
        batches = iter(data.train_dataloader())
        next(batches)  # starts the workers
        count = min(400, len(data.training) // 64 - 1)
        took = seconds(lambda n=count, each=batches: [next(each) for _ in range(n)])  # type: ignore[misc]
        rows.append([f"training batches of 64, {workers} workers", f"{took:.1f}", f"{64 * count / took:.0f}"])
        del batches
    batch = next(iter(DataModule(Store, root=out, num_points=points, batch_size=16).train_dataloader()))
    encoder, views = DGCNN(), Views(SO3(), num_points=points)

    def step() -> None:
        for view in views(batch, 0, "speed"):
            encoder(view.batch).cloud.square().mean().backward()

    step()
    took = min(seconds(step) for _ in range(3))
    return [*rows, ["DGCNN, two views of 16 clouds, forward and backward", f"{took:.2f}", f"{16 / took:.1f}"]]


def big(out: Path, clouds: int, points: int) -> list[list[str]]:
    """Rows of the table about large clouds."""
    took = seconds(lambda: build_store(Noise, out / "store", splits=["train"], size=clouds, points=points))
    size = sum(path.stat().st_size for path in (out / "store").rglob("*.npy")) / 1e9
    code = "import sys; from geo3d.cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    words = [
        "pretrain",
        "data=store",
        f"data.root={out / 'store'}",
        "data.batch_size=8",
        "encoder=dgcnn",
        "encoder.k=8",
    ]
    words += ["encoder.channels=[16,16]", "encoder.embedding=64"]
    words += [f"trainer.max_steps={min(STEPS, clouds // 8)}", "trainer.accelerator=cpu", "trainer.progress=false"]
    shutil.rmtree(out / "run", ignore_errors=True)
    process = subprocess.Popen([sys.executable, "-c", code, *words, f"out={out / 'run'}"])
    peaks = {"RssAnon": 0, "RssFile": 0}
    before = time.perf_counter()
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name = line.partition(":")[0]
            if name in peaks:
                peaks[name] = max(peaks[name], int(line.split()[1]))
        time.sleep(0.02)
    trained = time.perf_counter() - before
    return [
        ["", "value"],
        ["store", f"{size:.2f} GB, {clouds} clouds of {points} points"],
        ["prepared in", f"{took:.0f} s"],
        [
            "trained",
            f"{min(STEPS, clouds // 8)} steps of 8 clouds in {trained:.0f} s, exit status {process.returncode}",
        ],
        *([f"peak {name}", f"{value / 2**20:.2f} GiB"] for name, value in peaks.items()),
    ]


@checked
def measured(
    what: Annotated[str, OneOf("many", "big")] = "many",
    *,
    out: str | Path,
    clouds: Count = 100_000,
    points: Count = 1024,
) -> None:
    """Print one table.

    Args:
        what: ``many`` or ``big``.
        out: Folder for the store.
        clouds: How many clouds.
        points: Points of each.
    """
    print("\n".join(aligned({"many": many, "big": big}[what](Path(out), clouds, points))))


if __name__ == "__main__":
    try:
        measured(**options(sys.argv[1:], parameters(measured), "speed.store", "out=DIR"))
    except Geo3dError as error:
        raise SystemExit(f"speed: error: {error}") from None
