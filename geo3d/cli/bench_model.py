"""``geo3d bench model``: checkpoints side by side, as a table, a JSON file and a picture."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geo3d.cli.bench import Parser, Whole, place, text
from geo3d.cli.config import choices, config_dir, read
from geo3d.errors import CloudError, ConfigError, did_you_mean

OPTIONS = (
    "checkpoint", "names", "reference", "data", "root", "up", "num-points", "rotation", "draws", "clouds", "threads",
    "repeats", "engines", "settings", "published", "memory", "no-memory", "out",
)  # fmt: skip
POINTS = 1024
POSES = {"aligned": "poses as stored", "z": "poses turned about z", "so3": "random poses"}


def parsed(words: list[str]) -> argparse.Namespace:
    """The options of ``geo3d bench model``.

    Raises:
        ConfigError: If the words cannot be understood.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--checkpoint", nargs="+", type=place, required=True)
    parser.add_argument("--names", nargs="+", type=text)
    for option in ("reference", "root", "up"):
        parser.add_argument(f"--{option}", type=text)
    parser.add_argument("--data", choices=choices("data"))
    parser.add_argument("--rotation", choices=("aligned", "z", "so3"), default="aligned")
    parser.add_argument("--num-points", type=Whole("points"))
    for option, value in {"draws": 5, "clouds": 1, "repeats": 50, "settings": 8}.items():
        parser.add_argument(f"--{option}", type=Whole(option), default=value)
    parser.add_argument("--threads", type=Whole("threads", several=True))
    parser.add_argument("--engines", default="geo3d,torch,onnxruntime,openvino")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=place, default="runs/bench-model")
    options, unknown = parser.parse_known_args(words)
    data = [word for word in unknown if word.startswith("data.") and "=" in word]
    other = [word for word in unknown if not (word.startswith("data.") and "=" in word)]
    if other:
        hint = did_you_mean(other[0].lstrip("-"), list(OPTIONS)).replace("'", "'--", 1)
        raise ConfigError(f"bench model {other[0]}: no such option; {hint}")
    given = [f"--{name}" for name in ("root", "up") if getattr(options, name)] + data
    if given and not options.data:
        raise ConfigError(
            f"bench model {given[0]}: belongs to data; give --data NAME, too ({', '.join(choices('data'))})"
        )
    options.words, options.names = data, named(options.names, len(options.checkpoint))
    return options


def named(words: list[str] | None, count: int) -> list[str] | None:
    """One name a checkpoint, from words or from one word with commas; None if none are given.

    Raises:
        ConfigError: If there are more or fewer, or two are alike.

    Example:
        >>> named(["full,W4A8"], 2), named(["one graph, W4A8"], 1)
        (['full', 'W4A8'], ['one graph, W4A8'])
    """
    if words is None:
        return None
    names = words[0].split(",") if len(words) == 1 and count > 1 else words
    names = [name.strip() for name in names]
    if len(names) != count or not all(names) or len(set(names)) < count:
        raise ConfigError(
            f"bench model --names: expected {count} different names, one a checkpoint, as words or with commas; "
            f"found {', '.join(map(repr, names))}"
        )
    return names


def bench_model(words: list[str]) -> None:
    """Run ``geo3d bench model`` with the words behind it.

    Raises:
        ConfigError: If the words cannot be understood, or what they ask for is not there.
        CheckpointError: If a checkpoint is not there or cannot be read.
        CloudError: If the data cannot be used, or has no labels.
    """
    options = parsed(words)
    from geo3d.bench.engines import check_engines
    from geo3d.bench.model_table import tables
    from geo3d.io.files import replacing

    out, engines = Path(options.out), check_engines(options.engines.split(","))
    with replacing(out / "model.json") as draft:  # from the beginning: a place that cannot be written to costs no time
        record = measured(options, engines)
        draft.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    text = tables(record)
    with replacing(out / "model.md") as draft:
        draft.write_text(text + "\n", encoding="utf-8")
    print(text)
    drawn = picture(record, out / "pareto.png")
    print(f"\nall figures are in {out / 'model.json'}, the tables in model.md{', a picture in pareto.png' * drawn}")


def measured(options: argparse.Namespace, engines: list[str]) -> dict[str, Any]:
    """All figures, ready for JSON."""
    import torch

    from geo3d.bench.accuracy import accuracies
    from geo3d.bench.exports import Form
    from geo3d.bench.machine import machine
    from geo3d.bench.model import load, peak_mb, sizes, timings
    from geo3d.cloud import common_size

    contenders = load(options.checkpoint, options.settings, options.names)
    reference = position(options.reference, contenders)
    clouds, batch, points = inputs(options, contenders[reference].path)
    threads = options.threads or tuple(dict.fromkeys((1, torch.get_num_threads())))
    scored: list[Any] = [None] * len(contenders)
    if clouds is not None:
        print(f"scoring {len(contenders)} encoders", flush=True)
        scored = accuracies(contenders, clouds, reference)
    rows = sizes(contenders, common_size(batch) or points, reference)
    found, eager, spent, notes = timings(
        contenders, batch, reference=reference, engines=engines, threads=threads, repeats=options.repeats,
        published=options.published, say=lambda line: print(line, flush=True),
    )  # fmt: skip
    for contender, row, accuracy in zip(contenders, rows, scored, strict=True):
        own = found[contender.name]
        ran = [each for each in own if each["threads"] == threads[0]] if options.memory else []
        form = {each["engine"]: Form(**each["export"]) if each["export"] else None for each in ran}
        peaks = {engine: peak_mb(contender, engine, batch, threads[0], form[engine]) for engine in form}
        row |= {"name": contender.name, "kind": contender.kind, "path": str(contender.path), "accuracy": accuracy}
        row |= {"timings": own, "stages_ms": spent.get(contender.name), "peak_mb": peaks}
        row |= {"compression": getattr(contender.whole, "compression", [])}
    return {
        "bench": "model", "options": vars(options), "machine": machine(), "reference": contenders[reference].name,
        "num_points": common_size(batch), "threads": threads, "rows": rows, "published": eager,
        "notes": [*notes, *conventions(contenders, points), *(f"{each.name}: {each.path}" for each in contenders)],
    }  # fmt: skip


def position(name: str | None, contenders: Sequence[Any]) -> int:
    """Which contender is the reference: named as in the table, by its path or its run folder, else the first.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name is None:
        return 0
    names = [each.name for each in contenders]
    if name in names:
        return names.index(name)
    folders = [each.path.resolve() for each in contenders]
    runs = [folder.parent if folder.name == "encoder" else folder for folder in folders]
    places = zip(folders, runs, strict=True)
    found = [i for i, (folder, run) in enumerate(places) if name == run.name or Path(name).resolve() in (folder, run)]
    if len({folders[i] for i in found}) > 1:
        raise ConfigError(
            f"bench model --reference {name}: several checkpoints lie in a folder of that name; give a path"
        )
    if not found:
        raise ConfigError(
            f"bench model --reference {name}: {did_you_mean(name, [*(run.name for run in runs), *names])}"
        )
    return found[0]


def inputs(options: argparse.Namespace, path: Path) -> tuple[Any, Any, int]:
    """The clouds to score on (None without data), a batch to time with, and the number of points asked for."""
    from geo3d.checkpoint import read_card

    points = options.num_points or read_card(path).get("input", {}).get("num_points") or POINTS
    if not options.data:
        from geo3d.bench.inputs import surfaces

        return None, surfaces(options.clouds, points), points
    import torch

    from geo3d.bench.accuracy import Clouds, Split

    data = datamodule(options, points)
    if not data.has("test"):
        raise CloudError(f"bench model --data {options.data}: there is no test split to score on; leave --data out")
    draws = 1 if options.rotation == "aligned" else options.draws
    poses = [data.reseeded(data.seed + draw) for draw in range(draws)]
    tests = [Split(each.loader("test"), data.labels("test")) for each in poses]
    clouds = Clouds(tests, Split(data.loader("train"), data.labels("train")), len(data.classes))
    if options.clouds > len(data.labels("test")):
        raise ConfigError(
            f"bench model --clouds {options.clouds}: the test split has {len(data.labels('test'))} clouds"
        )
    first = next(iter(data.loader("test", torch.arange(options.clouds), options.clouds)))
    if first.num_points is None:
        raise CloudError(f"bench model --clouds {options.clouds}: clouds of several sizes; give a smaller --num-points")
    return clouds, first, points


def datamodule(options: argparse.Namespace, points: int) -> Any:
    """The data, from its configuration and the options."""
    from geo3d.cli.build import build_data
    from geo3d.cli.check import check_value, settled_value
    from geo3d.cli.words import split, value_of

    config = read(config_dir() / "data" / f"{options.data}.yaml")
    written = dict(split(word, "data.size=100") for word in options.words)
    config |= {key.removeprefix("data."): value_of(f"{key}={text}") for key, text in written.items()}
    config |= {"num_points": points, "rotation": options.rotation}
    config |= {key: given for key in ("root", "up") if (given := getattr(options, key)) is not None}
    config = settled_value(config, Any, written, "data")
    if mistakes := list(check_value(config, Any, "data")):
        raise ConfigError("\n".join(mistakes))
    return build_data(config, 0)


def conventions(contenders: Sequence[Any], points: int) -> list[str]:
    """Where a checkpoint was trained on another number of points."""
    from geo3d.checkpoint import read_card

    trained = {each.path: read_card(each.path).get("input", {}).get("num_points") for each in contenders}
    return [f"{path}: trained on {n} points, here {points}" for path, n in trained.items() if n not in (None, points)]


def picture(record: Mapping[str, Any], path: Path) -> bool:
    """Whether there was an accuracy and a time to draw."""
    from geo3d.bench.model_table import counted
    from geo3d.bench.published import FULL
    from geo3d.show.pareto import plot_pareto

    timed = [t for row in record["rows"] for t in row["timings"] if row["accuracy"] is not None]
    if not timed:
        return False
    engine, threads = timed[0]["engine"], timed[0]["threads"]
    drawn = []
    for row in record["rows"]:
        for t in row["timings"]:
            if (t["engine"], t["threads"]) == (engine, threads):
                own = {
                    "ms": t["p50_ms"],
                    "accuracy": row["accuracy"]["mean"],
                    "error": row["accuracy"]["standard_error"],
                }
                drawn.append({"name": row["name"], "kind": row["kind"], **own})
    eager = {t["name"]: t["p50_ms"] for t in record["published"] if t["threads"] == threads and t["full"]}
    plot_pareto(
        drawn, path, also={f"{FULL}: {name}" if len(eager) > 1 else FULL: ms for name, ms in eager.items()},
        axis=f"milliseconds, median; {engine}, {counted(threads)}",
        title=f"accuracy (%), {record['options']['data']}, {POSES[record['options']['rotation']]}; "
        f"bars: a paired standard error against {record['reference']}",
    )  # fmt: skip
    return True
