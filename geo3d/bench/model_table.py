"""The tables of ``geo3d bench model``, in Markdown that is readable as plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

from geo3d.bench.accuracy import PROBE_C

WORTH = ["model", "kind", "accuracy %", "gain", "parameters", "MMACs", "kNN MMACs", "KB on disk", "KB by bits", "score"]
FAR = 1e-3
"""Relative difference of an engine's features from the encoder's own above which a note reports it."""


def tables(record: Mapping[str, Any]) -> str:
    """All figures in Markdown: accuracy and size of the models, times, stages and memory, notes."""
    rows, reference = record["rows"], record["reference"]
    lines = [f"# {len(rows)} models, clouds of {record['num_points']} points", ""]
    lines += [f"{name}: {value}  " for name, value in record["machine"].items()]
    lines += ["", *markdown([WORTH, *map(score_settings, rows)]), "", scoring(rows, reference), ""]
    keys = list(dict.fromkeys((t["engine"], t["threads"]) for row in rows for t in row["timings"]))
    heads = [f"{engine}, {counted(count)}" for engine, count in keys]
    lines += markdown(
        [["ms a call: p50 / p95", *heads], *([row["name"], *times(row["timings"], keys)] for row in rows)]
    )
    lines += ["", f"In brackets: how many times faster than {reference} in the same engine, on as many threads."]
    lines += ["", *against_published(rows, record["published"])] if record["published"] else []
    lines += ["", "Which form was timed:", *timed_forms(rows)]
    engines = list(dict.fromkeys(name for row in rows for name in row["peak_mb"]))
    stages = next((list(row["stages_ms"]) for row in rows if row["stages_ms"]), [])
    if stages or engines:
        heads = ["ms by stage (geo3d)", *stages, *(["sum"] if stages else []), *(f"MB, {name}" for name in engines)]
        lines += ["", *markdown([heads, *(spent(row, stages, engines) for row in rows)])]
    notes = [*record["notes"], *apart(rows)]
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)])


def counted(threads: int) -> str:
    """A number of threads in words."""
    return f"{threads} thread{'s' * (threads > 1)}"


def score_settings(row: Mapping[str, Any]) -> list[str]:
    """Cells of one row of the first table."""
    own = row["accuracy"]
    accuracy = ["-", "-"]
    if own is not None:
        error = "" if own["standard_error"] is None else f" +- {100 * own['standard_error']:.2f}"
        accuracy = [f"{100 * own['mean']:.2f} ({own['by']})", f"{100 * own['gain']:+.2f}{error}"]
    counts = [f"{row['parameters']:,}", f"{row['macs'] / 1e6:.1f}", f"{row['distance_macs'] / 1e6:.1f}"]
    sizes = [f"{row['bytes_on_disk'] / 1e3:.1f}", f"{row['bytes_by_bits'] / 1e3:.1f}", f"{row['score']:.3f}"]
    return [row["name"], row["kind"], *accuracy, *counts, *sizes]


def scoring(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    """An explanation of the columns of the first table."""
    known = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    text = "Without data there is no accuracy. "
    if known:
        text = (
            f"Accuracy on {known[0]['clouds']} test clouds, draws of poses: {known[0]['draws']}, by the head "
            f"saved with the encoder or a linear probe (C = {PROBE_C:g}), as noted; gain over {reference} with its "
            "paired standard error. "
        )
    return text + (
        f"All else is without a head. Score: bits and operations as fractions of those of {reference}, added "
        f"(MicroNet challenge: 2 for {reference} itself, lower is better)."
    )


def times(timings: Sequence[Mapping[str, Any]], keys: Sequence[tuple[str, int]]) -> list[str]:
    """One cell for each engine and number of threads."""
    by_key = {(t["engine"], t["threads"]): t for t in timings}
    cells = []
    for key in keys:
        t = by_key.get(key)
        ratio = "" if t is None or t["ratio"] is None else f" ({t['ratio']:.2f}x)"
        cells.append("-" if t is None else f"{t['p50_ms']:.2f} / {t['p95_ms']:.2f}{ratio}")
    return cells


def against_published(rows: Sequence[Mapping[str, Any]], eager: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many times faster geo3d's runtime is than the published forms, and the times of these forms."""
    threads = list(dict.fromkeys(t["threads"] for t in eager))
    kinds = list(dict.fromkeys(kind for row in rows for t in row["timings"] for kind in t["over_published"]))
    cells = []
    for row in rows:
        own = {t["threads"]: t["over_published"] for t in row["timings"] if t["engine"] == "geo3d"}
        each = [own.get(count, {}).get(kind) for kind in kinds for count in threads]
        cells.append([row["name"], *("-" if ratio is None else f"{ratio:.1f}x" for ratio in each)])
    heads = [f"{kind}, {counted(count)}" for kind in kinds for count in threads]
    took: dict[str, list[str]] = {}
    for t in eager:
        took.setdefault(t["name"], []).append(f"{t['p50_ms']:.1f} / {t['p95_ms']:.1f} on {counted(t['threads'])}")
    return [
        *markdown([["times faster in geo3d than", *heads], *cells]),
        "",
        "Published: the edge-by-edge form of the public code in eager torch, not compiled, in floats. Same widths: "
        "with the encoder's channels, embedding, k, graph and points (after pruning). Full: the published size on all "
        "points. ms, p50 / p95:",
        *(f"- {name}: {', '.join(each)}" for name, each in took.items()),
    ]


def timed_forms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each form timed in an engine; if an engine has several forms, with the models of each."""
    models_of: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for t in row["timings"]:
            models_of.setdefault(t["engine"], {}).setdefault(t["form"], []).append(
                f"{row['name']} on {counted(t['threads'])}"
            )
    return [
        f"- {engine}: {form}" + (f" ({'; '.join(models)})" if len(forms) > 1 else "")
        for engine, forms in models_of.items()
        for form, models in forms.items()
    ]


def spent(row: Mapping[str, Any], stages: Sequence[str], engines: Sequence[str]) -> list[str]:
    """Cells of one row of the table of stages and memory."""
    own = row["stages_ms"]
    cells = ["-"] * (len(stages) + bool(stages))
    if own:
        cells = [f"{own[stage]:.2f}" for stage in stages] + [f"{sum(own.values()):.2f}"]
    return [
        row["name"],
        *cells,
        *(f"{row['peak_mb'][name]:.1f}" if name in row["peak_mb"] else "-" for name in engines),
    ]


def apart(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes on the engines whose features differ from the encoder's own."""
    return [
        f"{row['name']}: {t['engine']} on {counted(t['threads'])} gives features that differ by {t['difference']:.1e}"
        for row in rows
        for t in row["timings"]
        if not t["difference"] <= FAR
    ]


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Lines of a table with a heading, aligned; the first column to the left, the others to the right.

    Example:
        >>> print("\n".join(markdown([["model", "ms"], ["float", "1.5"]])))
        | model |  ms |
        | :---- | --: |
        | float | 1.5 |
    """
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in rows
    ]
    rule = "| " + " | ".join([":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]) + " |"
    return [lines[0], rule, *lines[1:]]
