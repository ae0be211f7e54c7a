"""Pictures of a run and of its probes as PNG files, without windows or matplotlib's global state."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geo3d.errors import ConfigError
from geo3d.io.files import replacing
from geo3d.probes.summary import summarise
from geo3d.show.palette import FAINT, INK, QUIET

FLOOR, RESULT, CEILING = "#a8b0b9", "#2266cc", "#e0a030"
SERIES = (RESULT, "#d1495b", "#2a9d6f", "#8457b8", CEILING, QUIET)

TITLES = {
    "loss": "loss",
    "std": "embedding std (1 = spread, 0 = collapsed)",
    "rank": "effective rank of the embeddings",
    "knn": "online kNN accuracy (%)",
    "lr": "learning rate",
    "clouds_per_s": "clouds a second",
    "positive_similarity": "cosine similarity of views of one cloud",
    "invariance": "term of the loss: difference of the views",
    "variance": "term of the loss: std of the embeddings",
    "covariance": "term of the loss: covariance of the embeddings",
    "redundancy": "term of the loss: correlation of the embeddings",
    "compression": "term of the loss: compression",
    "prototypes_used": "prototypes in use",
    "chamfer": "Chamfer distance of drawn clouds",
    "shortcut_height": "height",
    "shortcut_position": "position",
    "shortcut_normal": "normal",
    "shortcut_density": "density",
    "regularizer": "term of the loss: distance of PointNet's transforms from orthogonal ones",
}
"""Logged key -> title of its panel, or name of its line."""
SHORTCUT = "shortcut_"
"""The logged keys of the geometric shortcut begin so; they share a panel."""
LOSSES = "loss and its terms"


def panel(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of ``width`` x ``height`` inches and its empty axes, with a faint grid and no top and right border."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(QUIET)
        ax.tick_params(colors=QUIET, labelcolor=INK, labelsize=8, length=3)
        ax.grid(axis="y", color=FAINT, linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, axes


def save(figure: Figure, path: str | Path) -> Path:
    """The path of the PNG file, which is written completely or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return Path(path)


def heading(ax: Axes, text: str) -> None:
    """Put a small title above the axes, on the left."""
    ax.set_title(text, loc="left", fontsize=9, color=INK)


def words(key: str) -> str:
    """The title of a logged key.

    Example:
        >>> words("knn"), words("some_term")
        ('online kNN accuracy (%)', 'some term')
    """
    return TITLES.get(key, key.replace("_", " "))


def series(history: Sequence[Mapping[str, Any]], key: str, over: str) -> tuple[np.ndarray, np.ndarray]:
    """The finite values of ``key``, preceded by their positions along ``over``: two arrays (n,)."""
    pairs = [(row[over], row[key]) for row in history if isinstance(row.get(key), Real)]
    points = np.array(pairs, dtype=float).reshape(-1, 2)
    points = points[np.isfinite(points).all(1)]
    return points[:, 0], points[:, 1]


def plot_training(
    history: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    over: str = "epoch",
    terms: Sequence[str] = (),
    floor: float | None = None,
    shortcut: Mapping[str, float] | None = None,
) -> Path:
    """The path of a PNG with one small panel for each logged quantity.

    Args:
        history: One row per epoch or step: ``epoch`` or ``step``, ``loss``, ``std``, ``rank``, ``knn``, ... A row may
            lack quantities that were not measured then.
        path: Where to write.
        over: Key of the horizontal axis.
        terms: Keys drawn in the panel of ``loss``; keys that begin with ``loss`` always are.
        floor: Online kNN accuracy of the untrained encoder (0 to 1), drawn as a line.
        shortcut: R^2 of height, position, normal and density from the untrained encoder's features, drawn as dotted
            lines in the panel of the geometric shortcut.

    Raises:
        ConfigError: If there is nothing to draw, or a row lacks ``over``.
    """
    if any(over not in row for row in history):
        raise ConfigError(f"every row of the history needs {over!r} for the horizontal axis; choose another with over=")
    keys = list(dict.fromkeys(key for row in history for key in row if key not in ("epoch", "step", over)))
    keys = [key for key in keys if len(series(history, key, over)[0])]
    if not keys:
        raise ConfigError("the history holds no finite number to draw; train for at least one epoch first")
    losses = [key for key in keys if key.startswith("loss") or key in terms]
    plain = [key for key in keys if key.startswith(SHORTCUT)]
    panels = [group for group in (losses, plain) if group]
    panels += [[key] for key in keys if key not in losses and key not in plain]
    panels.sort(key=lambda group: list(TITLES).index(group[0]) if group[0] in TITLES else len(TITLES))
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    along = [float(row[over]) for row in history]
    margin = 0.03 * (max(along) - min(along)) or 0.5
    figure, axes = panel(4.4 * columns, 2.5 * rows, rows, columns)
    for ax, group in zip(axes, panels, strict=False):
        for key, colour in zip(group, SERIES * len(group), strict=False):
            x, y = series(history, key, over)
            marker = "o" if len(x) <= 20 else None
            ax.plot(
                x, 100 * y if key == "knn" else y, color=colour, linewidth=1.6, marker=marker, ms=3, label=words(key)
            )
        together = "plain geometry told by the features (R^2; dotted: untrained)" if group == plain else LOSSES
        heading(ax, together if len(group) > 1 or group == plain else words(group[0]))
        ax.set_xlabel(over, fontsize=8, color=INK)
        ax.set_xlim(min(along) - margin, max(along) + margin)  # the same in all panels
        ax.yaxis.set_major_formatter("{x:.4g}")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        if len(group) > 1:
            ax.legend(frameon=False, fontsize=8, labelcolor=INK)
        if group == ["knn"] and floor is not None:
            reference(ax, 100 * floor, "untrained")
        if group == ["rank"]:
            ax.set_ylim(bottom=0)
        if group == plain:
            for key, color in zip(group, SERIES, strict=False):
                if shortcut and key.removeprefix(SHORTCUT) in shortcut:
                    ax.axhline(shortcut[key.removeprefix(SHORTCUT)], color=color, linewidth=1, linestyle=":")
            ax.set_ylim(min(0.0, max(-1.0, ax.get_ylim()[0])), 1.05)
        if group == ["std"]:
            ax.set_ylim(0, max(1.05, ax.get_ylim()[1]))
    for ax in axes[len(panels) :]:
        ax.remove()
    return save(figure, path)


def reference(ax: Axes, height: float, text: str) -> None:
    """Draw a dashed horizontal line with its name at the right end, where rising curves are already higher."""
    ax.axhline(height, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    ax.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=QUIET,
    )


def bar(ax: Axes, at: float, summary: Mapping[str, Any], colour: str) -> None:
    """Draw a bar for the mean in percent, with its std and the number above it."""
    height, std = 100 * summary["mean"], 100 * (summary["std"] or 0.0)
    ax.bar(at, height, 0.25, color=colour)
    if std:
        ax.errorbar(at, height, std, color=INK, linewidth=1, capsize=2.5)
    ax.text(at, height + std + 1, f"{height:.1f}", ha="center", fontsize=7.5, color=INK)


def plot_bars(rows: Mapping[str, Mapping[str, Any]], path: str | Path, *, title: str = "") -> Path:
    """The path of a PNG with three bars for each probe: floor | result | ceiling, in percent, with their stds.

    Args:
        rows: Name of the probe -> its record from ``geo3d.probes.compare``.
        path: Where to write.
        title: Drawn above.

    Raises:
        ConfigError: If there are no rows.
    """
    if not rows:
        raise ConfigError("there is no probe to draw; run at least one")
    kinds = (
        ("floor", "untrained", FLOOR),
        ("result", "pretrained", RESULT),
        ("ceiling", "trained with labels", CEILING),
    )
    figure, (ax,) = panel(max(4.0, 1.4 + 1.7 * len(rows)), 3.4)
    for at, record in enumerate(rows.values()):
        drawn = [(kind, colour) for kind, _, colour in kinds if record[kind] is not None]
        for i, (kind, colour) in enumerate(drawn):
            bar(ax, at + 0.27 * (i - (len(drawn) - 1) / 2), record[kind], colour)
    for kind, label, colour in kinds:
        if any(record[kind] is not None for record in rows.values()):
            ax.bar(0, 0, color=colour, label=label)
    ax.set_xticks(range(len(rows)), [textwrap.fill(name, 18) for name in rows])
    ax.set_xlim(-0.6, len(rows) - 0.4)
    ax.tick_params(axis="x", length=0)
    ax.set_ylim(0, 108)
    ax.set_yticks(range(0, 101, 20))
    heading(ax, title or "accuracy (%)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8, labelcolor=INK)
    return save(figure, path)


def plot_labels(
    curves: Mapping[str, Mapping[float, Iterable[float]]], path: str | Path, *, title: str = "accuracy (%)"
) -> Path:
    """The path of a PNG with one line per way of training: accuracy over the fraction of labels (logarithmic axis).

    Args:
        curves: Name, for example ``"pretrained"`` and ``"from scratch"`` -> fraction of the labels (0 to 1) ->
            accuracies, one per run.
        path: Where to write.
        title: Drawn above.

    Raises:
        ConfigError: If there are no curves, a curve is empty or has no runs, or a fraction is not in (0, 1].
    """
    if not curves or not all(curves.values()):
        raise ConfigError("each curve needs at least one fraction of labels with its accuracies")
    fractions = sorted({fraction for curve in curves.values() for fraction in curve})
    if not 0 < fractions[0] <= fractions[-1] <= 1:
        raise ConfigError(f"fractions of labels must be above 0 and up to 1, found {fractions}")
    figure, (ax,) = panel(5.2, 3.4)
    for (name, curve), colour in zip(curves.items(), SERIES * len(curves), strict=False):
        x = sorted(curve)
        summaries = [summarise(list(curve[fraction])) for fraction in x]
        ax.errorbar(
            [100 * fraction for fraction in x],
            [100 * summary["mean"] for summary in summaries],
            [100 * (summary["std"] or 0.0) for summary in summaries],
            color=colour,
            linewidth=1.8,
            marker="o",
            ms=4,
            capsize=2.5,
            elinewidth=1,
            label=name,
        )
    ax.set_xscale("log")
    ax.set_xticks([100 * fraction for fraction in fractions], [f"{100 * fraction:g} %" for fraction in fractions])
    ax.minorticks_off()
    ax.set_xlabel("labels used", fontsize=8, color=INK)
    heading(ax, title)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    return save(figure, path)
