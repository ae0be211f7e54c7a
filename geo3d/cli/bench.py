"""``geo3d bench``: compares checkpoints in a table, a JSON file and a picture."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

from geo3d.checks import Length, OneOf, Range, checked
from geo3d.cli.config import as_written, choices, config_dir, read
from geo3d.errors import CloudError, ConfigError, did_you_mean

USAGE = """usage: geo3d bench checkpoint=DIR [KEY=VALUE ...]
       geo3d bench checkpoint=[DIR,DIR,...] [KEY=VALUE ...]

Compares trained encoders on this machine: accuracy, size, operation counts, and times in geo3d, torch, ONNX Runtime and
OpenVINO. Models and engines are timed in turn. The output names every combination that cannot run.

options (default in parentheses)
  checkpoint=DIR           encoders, compressed or not: the folder of an encoder, or a run folder with one named encoder
  names=[A,B]              name of each checkpoint in tables and pictures (from class, width, graph and compression)
  reference=NAME           the encoder to compare the others with: its name, run folder or path (the first)
  data=NAME                labelled data set to score on, one of those that geo3d data list shows (none: no accuracy),
                           with its options as data.KEY=VALUE, such as data.root=PATH; an encoder is scored by the
                           head saved beside it, or without one by a linear probe
  num_points=N             points of a cloud (default: those the reference was trained on)
  rotation=POSES           poses of the clouds: aligned, z or so3 (aligned)
  draws=N                  accuracy is averaged over this many draws of poses (5; 1 for aligned)
  clouds=N                 clouds in a timed call (1)
  threads=N, threads=[N,N] numbers of threads to time with (1 and torch's default)
  repeats=N                timed rounds, in each of which every model runs once in every engine (50)
  engines=[A,B]            some of geo3d, torch, onnxruntime and openvino (all); exports are timed in their fastest form
  settings=N               show at most this many settings of an adaptive encoder (8)
  memory=true|false        measure peak memory, in a process for each model and engine (true)
  out=DIR                  folder for model.json, model.md and pareto.png (runs/bench)

To compare geo3d with public code, run make bench in a checkout."""

POINTS = 1024
POSES = {"aligned": "poses as stored", "z": "poses turned about z", "so3": "random poses"}
Count = Annotated[int, Range(1, 1024)]


@checked
def compared(
    checkpoint: str | Path | Annotated[Sequence[str | Path], Length(1, 1000)],
    *,
    names: Sequence[str] | None = None,
    reference: str | None = None,
    data: str | None = None,
    num_points: Annotated[int, Range(1, 1_000_000)] | None = None,
    rotation: Annotated[str, OneOf("aligned", "z", "so3")] = "aligned",
    draws: Annotated[int, Range(1, 1000)] = 5,
    clouds: Annotated[int, Range(1, 4096)] = 1,
    threads: Count | Sequence[Count] | None = None,
    repeats: Annotated[int, Range(1, 1_000_000)] = 50,
    engines: Sequence[str] = ("geo3d", "torch", "onnxruntime", "openvino"),
    settings: Annotated[int, Range(1, 1000)] = 8,
    memory: bool = True,
    out: str | Path = "runs/bench",
) -> SimpleNamespace:
    """The options of ``geo3d bench`` with their defaults, as ``USAGE`` describes them."""
    return SimpleNamespace(**locals())


def parsed(words: list[str]) -> SimpleNamespace:
    """The options that the command-line arguments stand for.

    Raises:
        ConfigError: If an argument cannot be understood.
    """
    from geo3d.checks import parameters
    from geo3d.cli.check import options

    of_data = [word for word in words if word.startswith("data.")]
    others = [as_pair(word) for word in words if word not in of_data]
    keywords = options(others, parameters(compared), "geo3d bench", "checkpoint=runs/first/encoder")
    chosen = compared(**keywords)
    if chosen.data is not None and chosen.data not in choices("data"):
        raise ConfigError(f"bench data={chosen.data}: no such data set; {did_you_mean(chosen.data, choices('data'))}")
    if of_data and not chosen.data:
        raise ConfigError(f"bench {of_data[0]}: belongs to data; give data=NAME, too ({', '.join(choices('data'))})")
    for key in ("rotation", "num_points"):
        if any(word.startswith(f"data.{key}=") for word in of_data):
            raise ConfigError(f"bench data.{key}: is an option of bench itself; write {key}=...")
    single = isinstance(chosen.checkpoint, str | Path)
    chosen.checkpoint = [chosen.checkpoint] if single else list(chosen.checkpoint)
    chosen.threads = (chosen.threads,) if isinstance(chosen.threads, int) else chosen.threads
    chosen.words, chosen.names = of_data, named(chosen.names, len(chosen.checkpoint))
    return chosen


def as_pair(word: str) -> str:
    """The argument unchanged, unless it belongs to an older form of the command.

    Raises:
        ConfigError: If it does; the message names the present form.
    """
    if word.startswith("-"):
        key = word.lstrip("-").partition("=")[0].replace("-", "_")
        raise ConfigError(f"bench {word}: options are KEY=VALUE; write {key.removeprefix('no_')}=...")
    if word == "model":
        raise ConfigError("bench model: write geo3d bench checkpoint=DIR")
    if "=" not in word and word in ("kernels", "encoder", "train", "data", "scaling"):
        raise ConfigError(f"bench {word}: to compare geo3d with public code, run make bench in a checkout")
    return word


def named(names: Sequence[str] | None, count: int) -> list[str] | None:
    """One name per checkpoint; None if no names are given.

    Raises:
        ConfigError: If the number of names differs from the number of checkpoints, or two names are equal.
    """
    if names is None:
        return None
    names = [str(name).strip() for name in names]
    if len(names) != count or not all(names) or len(set(names)) < count:
        raise ConfigError(
            f"bench names={as_written(names)}: expected {count} different names, one per checkpoint, as in names=[A,B]"
        )
    return names


def bench(words: list[str], rivals: Callable[..., Any] | None = None) -> None:
    """Run ``geo3d bench`` with these arguments.

    Args:
        words: The arguments, each ``KEY=VALUE``.
        rivals: Makes other models to time beside the encoders, see :func:`geo3d.bench.model.timings`.

    Raises:
        ConfigError: If an argument cannot be understood, or names something that does not exist.
        CheckpointError: If a checkpoint is missing or cannot be read.
        CloudError: If the data cannot be used, or has no labels.
    """
    options = parsed(words)
    from geo3d.bench.engines import check_engines
    from geo3d.bench.model_table import tables
    from geo3d.io.files import replacing

    out, engines = Path(options.out), check_engines(list(options.engines))
    with replacing(out / "model.json") as draft:  # opened first, so that a folder without write access fails at once
        record = measured(options, engines, rivals)
        draft.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    text = tables(record)
    with replacing(out / "model.md") as draft:
        draft.write_text(text + "\n", encoding="utf-8")
    print(text)
    drawn = picture(record, out / "pareto.png")
    print(f"\nall figures are in {out / 'model.json'}, the tables in model.md{', a picture in pareto.png' * drawn}")


def measured(options: SimpleNamespace, engines: list[str], rivals: Callable[..., Any] | None) -> dict[str, Any]:
    """All measurements as a record for ``model.json``."""
    import torch

    from geo3d.bench.accuracy import accuracies
    from geo3d.bench.exports import Form
    from geo3d.bench.model import load, peak_mb, sizes, timings
    from geo3d.cloud import common_size
    from geo3d.machine import machine
    from geo3d.ops import native

    contenders = load(options.checkpoint, options.settings, options.names)
    reference = position(options.reference, contenders)
    clouds, batch, points = inputs(options, contenders[reference].path)
    threads = options.threads or tuple(dict.fromkeys((1, torch.get_num_threads())))
    scored: list[Any] = [None] * len(contenders)
    if clouds is not None:
        print(f"scoring {len(contenders)} encoders", flush=True)
        scored = accuracies(contenders, clouds, reference)
    rows = sizes(contenders, common_size(batch) or points, reference)
    timed, eager, spent, notes = timings(
        contenders, batch, reference=reference, engines=engines, threads=threads, repeats=options.repeats,
        rivals=rivals, say=lambda line: print(line, flush=True),
    )  # fmt: skip
    for contender, row, accuracy in zip(contenders, rows, scored, strict=True):
        own = timed[contender.name]
        ran = [each for each in own if each["threads"] == threads[0]] if options.memory else []
        form = {each["engine"]: Form(**each["export"]) if each["export"] else None for each in ran}
        peaks = {engine: peak_mb(contender, engine, batch, threads[0], form[engine]) for engine in form}
        row |= {"name": contender.name, "kind": contender.kind, "path": str(contender.path), "accuracy": accuracy}
        row |= {"timings": own, "stages_ms": spent.get(contender.name), "peak_mb": peaks}
        row |= {"compression": getattr(contender.whole, "compression", [])}
    return {
        "options": vars(options), "machine": machine(native.name() or "none"), "reference": contenders[reference].name,
        "num_points": common_size(batch), "threads": threads, "rows": rows, "published": eager,
        "notes": [*notes, *conventions(contenders, points), *(f"{each.name}: {each.path}" for each in contenders)],
    }  # fmt: skip


def position(name: str | None, contenders: Sequence[Any]) -> int:
    """Index of the reference among the contenders: by its name in the table, path or run folder; 0 without a name.

    Raises:
        ConfigError: If no contender has that name, or several have.
    """
    if name is None:
        return 0
    names = [each.name for each in contenders]
    if name in names:
        return names.index(name)
    folders = [each.path.resolve() for each in contenders]
    runs = [folder.parent if folder.name == "encoder" else folder for folder in folders]
    places = zip(folders, runs, strict=True)
    matches = [i for i, (folder, run) in enumerate(places) if name == run.name or Path(name).resolve() in (folder, run)]
    if len({folders[i] for i in matches}) > 1:
        raise ConfigError(f"bench reference={name}: several checkpoints lie in a folder of that name; give a path")
    if not matches:
        raise ConfigError(f"bench reference={name}: {did_you_mean(name, [*(run.name for run in runs), *names])}")
    return matches[0]


def inputs(options: SimpleNamespace, path: Path) -> tuple[Any, Any, int]:
    """The clouds to score on (None without data), a batch to time with, and the number of points of a cloud."""
    from geo3d.checkpoint import read_card

    points = options.num_points or read_card(path).get("input", {}).get("num_points") or POINTS
    if not options.data:
        from geo3d.bench.inputs import surfaces

        return None, surfaces(options.clouds, points), points
    import torch

    from geo3d.bench.accuracy import Clouds, Split

    data = datamodule(options, points)
    if not data.has("test"):
        raise CloudError(f"bench data={options.data}: there is no test split to score on; leave data out")
    draws = 1 if options.rotation == "aligned" else options.draws
    poses = [data.reseeded(data.seed + draw) for draw in range(draws)]
    tests = [Split(each.loader("test"), data.labels("test")) for each in poses]
    clouds = Clouds(tests, Split(data.loader("train"), data.labels("train")), len(data.classes))
    if options.clouds > len(data.labels("test")):
        raise ConfigError(
            f"bench clouds={options.clouds}: the test split has {len(data.labels('test'))} clouds; give fewer"
        )
    first = next(iter(data.loader("test", torch.arange(options.clouds), options.clouds)))
    if first.num_points is None:
        raise CloudError(f"bench clouds={options.clouds}: the clouds differ in size; give a smaller num_points")
    return clouds, first, points


def datamodule(options: SimpleNamespace, points: int) -> Any:
    """The DataModule, from the configuration of the data set and the options."""
    from geo3d.cli.build import build_data
    from geo3d.cli.check import check_value, settled_value
    from geo3d.cli.words import split, value_of

    config = read(config_dir() / "data" / f"{options.data}.yaml")
    written = dict(split(word, "data.size=100") for word in options.words)
    config |= {key.removeprefix("data."): value_of(f"{key}={text}") for key, text in written.items()}
    config |= {"num_points": points, "rotation": options.rotation}
    config = settled_value(config, Any, written, "data")
    if mistakes := list(check_value(config, Any, "data")):
        raise ConfigError("\n".join(mistakes))
    return build_data(config, 0)


def conventions(contenders: Sequence[Any], points: int) -> list[str]:
    """One note for each checkpoint that was trained on another number of points."""
    from geo3d.checkpoint import read_card

    trained = {each.path: read_card(each.path).get("input", {}).get("num_points") for each in contenders}
    return [f"{path}: trained on {n} points, here {points}" for path, n in trained.items() if n not in (None, points)]


def picture(record: Mapping[str, Any], path: Path) -> bool:
    """Whether the picture was drawn; it needs an accuracy and a time."""
    from geo3d.bench.model import FULL
    from geo3d.bench.model_table import counted
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
