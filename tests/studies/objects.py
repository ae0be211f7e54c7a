"""Real table-top scans: do features of points tell touching objects apart? Each dense objective, and each source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from geo3d.data import MOSD, Rooms
from geo3d.data.blocks import Blocks
from geo3d.errors import ConfigError, did_you_mean
from geo3d.io import write_cloud
from geo3d.seeds import generator
from studies.runs import metrics, spread

OBJECTIVES: dict[str, tuple[str, ...]] = {
    "point_info_nce": (),
    "partitioned_info_nce": (),
    "masked_scene_contrast": ("encoder.inputs=[masked]",),
    "point_prototypes": ("objective.level=2", "objective.radius=0.1", "decoder=upcast", "decoder.finest=2"),
    "completion": (),
}
SOURCES = ("mosd", "rooms", "both")
WATCHED = ("height", "position", "normal", "density")
BLOCK, POINTS = 1.0, 60_000
"""Side in metres of the blocks of a generated room, and the points of a room: as dense as a scan."""
FIGURES = ("objects AUC", "linear mIoU")


def objects(out: Path, seeds: Sequence[int], root: str, words: Sequence[str], steps: int, chosen: Sequence[str]) -> str:
    """A table with a line for each objective and source, each beside the untrained network of its kind.

    Args:
        out: Folder of all runs.
        seeds: One pretraining run for each.
        root: The folder of the scans.
        words: Words for all commands: encoder and data.
        steps: Steps of pretraining.
        chosen: ``OBJECTIVE`` or ``OBJECTIVE:SOURCE``, a source being ``mosd``, ``rooms`` or ``both``.
    """
    lines = []
    for row in chosen:
        name, _, source = row.partition(":")
        name, source = known(name, OBJECTIVES), known(source or "mosd", SOURCES)
        runs = [_run(out, seed, root, words, steps, name, source) for seed in seeds]
        if not lines:
            lines = _head(runs)
        lines.append(_line(f"`{name}`", source, runs))
    return "\n".join(lines)


def known(name: str, names: Sequence[str]) -> str:
    """The name.

    Raises:
        ConfigError: If it is not one of ``names``.
    """
    if name not in names:
        raise ConfigError(f"{name}: {did_you_mean(name, list(names))}")
    return name


Figures = dict[str, Any]


def _run(
    out: Path, seed: int, root: str, words: Sequence[str], steps: int, name: str, source: str
) -> tuple[Figures, Figures]:
    """What the probe on the scans found, and the figures of the shortcut's watchdog."""
    run, own = out / f"{name}-{source}-{seed}", f"seed={seed}"
    scans = ["data=mosd", f"data.root={root}"]
    data = {"mosd": scans, "rooms": ["data=rooms", "data.view=scan", f"data.block={BLOCK}", f"data.points={POINTS}"],
            "both": ["data=folder", f"data.root={out / 'clouds'}"]}[source]  # fmt: skip
    if source == "both":
        joined(out / "clouds", root)
    training = [f"objective={name}", f"trainer.max_steps={steps}", "monitor_every=1000000"]
    trained = metrics("pretrain", run, *data, *words, *OBJECTIVES[name], *training, own)
    of_data = [word for word in words if word.startswith("data.")]
    probed = metrics("probe", out / f"{run.name}-probe", f"checkpoint={run}", *scans, *of_data, "seeds=1", own)
    return probed["figures"], trained["shortcut"]


def joined(folder: Path, root: str) -> None:
    """Write the scans for training and as many blocks of generated rooms into one folder."""
    if folder.exists():
        return
    scans = MOSD(root)
    blocks = Blocks(Rooms(size=max(1, len(scans) // 4), points=POINTS), BLOCK)
    draft = folder.with_name(f"{folder.name}-unfinished")
    draft.mkdir(parents=True, exist_ok=True)
    order = torch.randperm(len(blocks), generator=generator("joined"))
    for number, place in enumerate(order[: len(scans)].tolist()):
        write_cloud(draft / f"scan-{number:03}.npz", _bare(scans[number]))
        write_cloud(draft / f"room-{number:03}.npz", _bare(blocks[place]))
    draft.rename(folder)


def _bare(cloud: Data) -> Data:
    return Data(pos=cloud.pos)


def _line(title: str, source: str, runs: Sequence[tuple[Figures, Figures]]) -> str:
    """Each figure of the untrained network of the same kind, then of the pretrained one."""
    cells = [
        " / ".join(spread([100 * probed[name][which]["mean"] for probed, _ in runs]) for which in ("floor", "result"))
        for name in FIGURES
    ]
    cells += [
        " / ".join(spread([seen[name][which] for _, seen in runs], 2) for which in ("floor", "result"))
        for name in WATCHED
    ]
    return f"| {title} | {source} | {' | '.join(cells)} |"


def _head(runs: Sequence[tuple[Figures, Figures]]) -> list[str]:
    """The first lines of the table, with the area of nearness alone."""
    nearness = spread([100 * probed["objects AUC of nearness"]["floor"]["mean"] for probed, _ in runs])
    return [
        f"Objects AUC of nearness alone: {nearness}. Each cell: untrained / pretrained.",
        "",
        f"| pretrained by | on | objects AUC | linear probe, mIoU | R^2 of {' | '.join(WATCHED)} |",
        "|---" * (4 + len(WATCHED)) + "|",
    ]
