"""Compare geo3d's speed with public code on this machine: ``python -m speed WHAT [KEY=VALUE ...]`` in the folder tests.

kernels   single operators against public packages and the forms of public code
encoder   DGCNN and PointNet++ in evaluation against their published forms and PyTorch Geometric
train     one training step of both
segment   the networks for scenes, in evaluation and training, against their published forms
room      the same on a tenth of a large room, in blocks
data      two augmented views against the same transforms in NumPy
scaling   time and memory as clouds and batches grow, with fitted exponents
model     geo3d bench, with the published forms of each encoder timed in turn

Each run also compares the outputs; a contender whose outputs differ has no ratio. Contenders are timed in turn.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import torch
from speed.augmenting import view_cases
from speed.contenders import usable
from speed.encoders import encoder_cases
from speed.kernels import kernel_cases
from speed.measure import measure_all
from speed.published import Rivals
from speed.report import heading, table
from speed.roofline import measured
from speed.room import room_cases
from speed.scaling import exponents, scaling, scaling_table
from speed.segmentation import segmentation_cases
from speed.training import training_cases

from geo3d.checks import OneOf, Range, parameters
from geo3d.cli.bench import bench
from geo3d.cli.check import options
from geo3d.errors import ConfigError, Geo3dError, did_you_mean
from geo3d.io.files import replacing
from geo3d.machine import machine
from geo3d.ops import native

MAKERS: dict[str, Any] = {
    "kernels": kernel_cases, "encoder": encoder_cases, "train": training_cases, "segment": segmentation_cases,
    "room": room_cases, "data": view_cases,
}  # fmt: skip
NAMES = (*MAKERS, "scaling")
QUICK: dict[str, dict[str, Any]] = {
    "kernels": {"clouds": (2,), "points": 128, "large": 256, "k": 8, "ragged": (40, 130), "ragged_clouds": 4},
    "encoder": {"clouds": (2,), "points": 128, "k": 8, "ragged": (40, 130), "ragged_clouds": 4},
    "train": {"clouds": (2, 2), "points": 128, "k": 8, "ragged": (60, 130)},
    "segment": {"clouds": (2,), "points": 128, "k": 8},
    "room": {"points": 20_000, "k": 8},
    "data": {"clouds": (4,), "points": 128},
    "scaling": {"clouds": (1, 2, 4), "points": (64, 128, 256), "k": 8, "most": 512},
}
Points = Annotated[int, Range(1, 1_000_000)]


def asked(
    *,
    threads: Annotated[int, Range(1, 1024)] | None = None,
    clouds: Sequence[Annotated[int, Range(1, 4096)]] | None = None,
    points: Points | Sequence[Points] | None = None,
    k: Annotated[int, Range(1, 1024)] | None = None,
    repeats: Annotated[int, Range(1, 1_000_000)] | None = None,
    path: Annotated[str, OneOf("native", "torch")] | None = None,
    only: str = "",
    memory: bool | None = None,
    quick: bool = False,
    out: str | Path | None = None,
) -> SimpleNamespace:
    """The options.

    Args:
        threads: Threads of torch and of the kernels; by default torch's choice.
        clouds: Number of clouds in a batch.
        points: Number of points of a cloud; several for ``scaling``.
        k: Neighbours of each point.
        repeats: Timed rounds.
        path: ``native``: geo3d only with its compiled kernels; ``torch``: geo3d only without them.
        only: Run only the cases with this in their titles.
        memory: Whether to measure peak memory, each contender in a separate process.
        quick: Tiny sizes, to check that everything runs and not how fast.
        out: File for all figures as JSON; by default ``runs/bench-NAME.json``.
    """
    return SimpleNamespace(**locals())


def main(words: list[str]) -> None:
    """Run the measurement that the command line asks for.

    Raises:
        ConfigError: If a word is unknown or no title contains ``only``.
    """
    name, *rest = words or ["--help"]
    if name in ("--help", "-h"):
        print(__doc__)
        return
    if name == "model":
        bench(rest, Rivals)
        return
    if name not in NAMES:
        raise ConfigError(f"{name}: no such measurement; {did_you_mean(name, [*NAMES, 'model'])}")
    given = asked(**options(rest, parameters(asked), f"speed {name}", "quick=true"))
    if name == "room" and given.clouds:
        raise ConfigError("room clouds: there is one room; leave it out")
    if name == "data" and given.k:
        raise ConfigError("data k: views have no neighbours; leave it out")
    out = given.out or f"runs/bench-{name}.json"
    if given.threads:
        torch.set_num_threads(given.threads)
    with replacing(out) as draft:  # opened first: a path that cannot be written fails before measuring
        limits = measured(2 if given.quick else 7, 64 if given.quick else 1)
        described = machine(native.name() or "none")
        print(heading(described, limits), flush=True)
        figures = scaled(given) if name == "scaling" else cases(name, given, limits.best)
        if not any(figures.values()):
            raise ConfigError(f"{name} only={given.only}: no title contains it")
        record = {"bench": name, "options": vars(given), "machine": described, "limits": limits._asdict()}
        draft.write_text(json.dumps(record | figures, indent=2, default=str) + "\n", encoding="utf-8")
    print(f"\nall figures are in {out}")


def cases(name: str, given: SimpleNamespace, gflops: float) -> dict[str, Any]:
    """The records of all cases of a measurement; each is printed as soon as it is measured."""
    sizes, whole_networks = sizes_of(name, given), name in ("encoder", "train")
    if given.path:
        sizes["paths"] = (given.path,)
    records = measure_all(
        MAKERS[name](**sizes),
        lambda record: print(table(record), flush=True),
        only=given.only,
        repeats=given.repeats or (2 if given.quick else 7),
        gflops=gflops,
        memory=asks_for_memory(given, whole_networks),
        profiled=whole_networks,
        shortest=0.0 if given.quick else 0.005,
    )
    return {"cases": records}


def scaled(given: SimpleNamespace) -> dict[str, Any]:
    """Rows and exponents of the grid of sizes; lines are printed while measuring, then a table."""
    rows = scaling(
        **sizes_of("scaling", given),
        path=given.path or usable()[0],
        repeats=given.repeats or (1 if given.quick else 5),
        memory=asks_for_memory(given, True),
        only=given.only,
        say=lambda line: print(line, flush=True),
    )
    print(scaling_table(rows))
    return {"rows": rows, "exponents": list(exponents(rows))}


def sizes_of(name: str, given: SimpleNamespace) -> dict[str, Any]:
    """The sizes that the options set; the measurement's defaults hold for the others."""
    chosen = {key: value for key in ("clouds", "points", "k") if (value := getattr(given, key)) is not None}
    return (QUICK[name] if given.quick else {}) | chosen


def asks_for_memory(given: SimpleNamespace, otherwise: bool) -> bool:
    """Whether to measure peak memory: as the option says, else ``otherwise``, but not in a quick run."""
    return (otherwise and not given.quick) if given.memory is None else given.memory


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Geo3dError as error:
        raise SystemExit(f"speed: error: {error}") from None
