"""The job that compresses encoders by many recipes, one after another, and tabulates the results."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from geo3d.checks import Length, Range, Rate, Seed, checked, fits, mistake, shown
from geo3d.compress import parse_recipe
from geo3d.errors import ConfigError
from geo3d.io.files import replacing, write_json
from geo3d.io.owner import owned
from geo3d.jobs.compression import Draws, Steps, compress
from geo3d.jobs.run import FINISHED, is_finished, stored, versions
from geo3d.tasks.datamodule import DataModule

RESULT = "metrics.json"
OPTIONS: dict[str, Any] = {
    "of": Sequence[str] | None,
    "seeds": Annotated[int, Range(1, 1000)],
    "steps": Steps,
    "points": Annotated[int, Range(2, 10_000_000)] | None,
}
"""Options of a run, which stand beside the steps of its recipe."""


@checked
def sweep(
    data: DataModule,
    checkpoints: Mapping[str, str | Path],
    runs: Mapping[str, Any],
    *,
    out: str | Path,
    seeds: Annotated[Sequence[Seed], Length(1, 1000)] = (0, 1, 2),
    only: str = "",
    minutes: Annotated[float, Range(0, 1e7)] | None = None,
    labels: Annotated[float, Range(0, 1000)] = 0.0,
    shaping_steps: Steps = 200,
    draws: Draws = 5,
    lr: Rate = 1e-3,
    trainer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Numbers of finished rows and of runs left; the table is written to ``out/table.md`` and ``out/metrics.json``.

    Each run is a ``geo3d compress`` in its own folder, ``out/CHECKPOINT/RUN/SEED``. A sweep that is started again skips
    runs that are finished with the same settings and continues one that was stopped, so it can be run in pieces.

    Args:
        data: The clouds.
        checkpoints: Folders of trained encoders by short names.
        runs: Recipes by name; beside its steps a recipe may have ``of`` (a list of the checkpoints to compress; all by
            default), ``seeds`` (how many seeds), ``steps`` (training steps) and ``points`` (points of a cloud that the
            encoder sees).
        out: Folder of all runs.
        seeds: The seeds; runs with ``seeds: n`` take the first n of them, others the first.
        only: Start only runs whose ``CHECKPOINT/RUN`` contains this text.
        minutes: Start no further run after this many minutes.
        labels: Weight of the cross-entropy against the training labels; this and the following options are those of
            :func:`geo3d.jobs.compression.compress`.
        shaping_steps: Training steps for a regularised structure or soft thresholds, if a recipe has them.
        draws: Accuracy is averaged over this many draws of points and poses of the test clouds.
        lr: Peak learning rate.
        trainer: Keywords of ``tasks.trainer.make_trainer``.

    Raises:
        ConfigError: If a name or a recipe has a mistake; nothing is run then.
    """
    begun, left = time.monotonic(), []
    plan = list(planned(checkpoints, runs, seeds))
    with owned(out) as out:
        for name, run, seed in plan:
            late = minutes is not None and time.monotonic() - begun >= 60 * minutes
            if late or only not in f"{name}/{run}":
                if not is_finished(out / name / run / str(seed)):
                    left.append(f"{name}/{run}/{seed}")
                continue
            print(f"{name}/{run}, seed {seed}", flush=True)
            length = {"max_steps": runs[run]["steps"]} if "steps" in (runs[run] or {}) else {}
            keep: dict[str, Any] = {"points": (runs[run] or {}).get("points"), "labels": labels, "draws": draws}
            keep |= {"lr": lr, "shaping_steps": shaping_steps, "seed": seed, "trainer": dict(trainer or {}) | length}
            compress(checkpoints[name], data, recipe_of(runs[run]), out=out / name / run / str(seed), **keep)
        rows = [summary(out / name / run, run, name) for name, run in dict.fromkeys((n, r) for n, r, _ in plan)]
        rows = [row for row in rows if row]
        write_json(out / "versions.json", versions())
        with replacing(out / "table.md") as path:
            path.write_text(table(rows), encoding="utf-8")
        print(table(rows))
        write_json(out / RESULT, {"rows": {f"{row['checkpoint']}/{row['run']}": row for row in rows}, "left": left})
    return {"finished": len(rows), "left": len(left)}


def recipe_of(run: Mapping[str, Any] | None) -> dict[str, Any]:
    """The recipe of a run, without the run's own options (``OPTIONS``)."""
    return {key: value for key, value in (run or {}).items() if key not in OPTIONS}


def check_run(run: str, recipe: Any) -> None:
    """Check the options of a run and the steps of its recipe.

    Raises:
        ConfigError: If the recipe is not a mapping, a step or keyword is unknown, or a value does not fit.
    """
    if not isinstance(recipe, Mapping | None):
        raise ConfigError(f"runs.{run}: expected the steps of a recipe; found {shown(recipe)}")
    for name, value in (recipe or {}).items():
        if name in OPTIONS and not fits(value, OPTIONS[name]):
            raise ConfigError(f"runs.{run}.{name}: {mistake(value, OPTIONS[name])}")
    try:
        parse_recipe(recipe_of(recipe))
    except ConfigError as error:
        raise ConfigError(f"runs.{run}: {error}") from None


def check_name(option: str, name: Any) -> None:
    """Check that a name can name a folder in the run folder.

    Raises:
        ConfigError: If it has other characters than folder names may have, or begins with a dot.
    """
    if not re.fullmatch(r"(?!\.)[\w.+ -]{1,100}", str(name)):
        raise ConfigError(f"{option}.{name}: expected a name of letters, digits, '_', '+', '-' and '.' for a folder")


def planned(checkpoints: Mapping[str, str | Path], runs: Mapping[str, Any], seeds: Sequence[int]) -> Any:
    """Triples (checkpoint, run, seed) in the order of execution: everything with the first seed, then with the second.

    Raises:
        ConfigError: If there is no checkpoint, a name cannot name a folder, or a run names an unknown checkpoint or has
            a mistake.
    """
    if not checkpoints:
        raise ConfigError("checkpoints: there is none; give checkpoints.NAME=DIR/encoder")
    for name in checkpoints:
        check_name("checkpoints", name)
    for run, recipe in runs.items():
        check_name("runs", run)
        check_run(run, recipe)
    for repetition in range(len(seeds)):
        for run, keywords in runs.items():
            recipe = keywords or {}
            names = recipe.get("of") or list(checkpoints)
            if not set(names) <= set(checkpoints):
                raise ConfigError(f"runs.{run}.of: expected some of {', '.join(checkpoints)}; found {names}")
            if repetition < recipe.get("seeds", 1):
                yield from ((name, run, seeds[repetition]) for name in names)


def summary(folder: Path, run: str, checkpoint: str) -> dict[str, Any]:
    """Row of the table for one run: means over its finished seeds; empty if none is finished.

    ``error`` is the standard error of ``difference`` over test clouds, after the mean over seeds and draws; None for a
    segmentation, whose ``before`` and ``after`` are mIoU.
    """
    done = sorted(path.parent for path in folder.glob(f"*/{FINISHED}") if is_finished(path.parent))
    results = [stored(path / RESULT) for path in done]
    if not results:
        return {}
    row: dict[str, Any] = {"run": run, "checkpoint": checkpoint, "seeds": len(results)}
    row["bytes"] = results[0]["bytes"]["after"]
    row["smaller"] = results[0]["bytes"]["before"] / results[0]["bytes"]["after"]
    row["similarity"] = float(np.mean([result["similarity"] for result in results]))
    if all("test" in result for result in results):
        row |= {"before": results[0]["test"]["before"], "after": float(np.mean([r["test"]["after"] for r in results]))}
        row["std"] = float(np.std([r["test"]["after"] for r in results], ddof=1)) if len(results) > 1 else None
        row["difference"], row["error"] = row["after"] - row["before"], None
        if all((path / "test.npz").exists() for path in done):  # a segmentation has no hits of whole clouds
            hits = [np.load(path / "test.npz") for path in done]
            difference = np.mean([hit["after"] - hit["before"] for hit in hits], 0)
            row["difference"] = float(difference.mean())
            row["error"] = float(difference.std(ddof=1) / len(difference) ** 0.5)
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| encoder | recipe | seeds | kB | smaller | accuracy or mIoU | difference to float | likeness of features |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy, difference = "-", "-"
        if "after" in row:
            spread = "" if row["std"] is None else f" +- {100 * row['std']:.1f}"
            accuracy = f"{100 * row['after']:.1f}{spread}"
            error = "" if row["error"] is None else f" +- {100 * row['error']:.1f}"
            difference = f"{100 * row['difference']:+.1f}{error}"
        lines.append(
            f"| {row['checkpoint']} | {row['run']} | {row['seeds']} | {row['bytes'] / 1000:.0f} | "
            f"{row['smaller']:.1f}x | {accuracy} | {difference} | {row['similarity']:.3f} |"
        )
    return "\n".join(lines) + "\n"
