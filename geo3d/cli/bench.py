"""``geo3d bench``: measurements on this machine, printed and saved."""

import argparse
import json
import re
from typing import Any, NoReturn

from geo3d.checks import Range, shown
from geo3d.errors import ConfigError, did_you_mean
from geo3d.home import home

USAGE = """usage: geo3d bench kernels|encoder|train|data|scaling|model [OPTIONS]

kernels   single operators against public packages and the forms of public code
encoder   DGCNN and PointNet++ in evaluation against their published forms and PyTorch Geometric
train     a step of training of both
data      two augmented views against the same transforms in NumPy
scaling   time and memory as clouds and batches grow, with fitted exponents
model     trained encoders side by side: accuracy, size, arithmetic, times; its own options are below

The outputs are compared in the same run; what is not equal has no ratio. Contenders are timed in turn.

options
  --threads N          threads of torch and of the kernels (torch's choice)
  --clouds N,N,...     clouds in a batch
  --points N           points of a cloud; of scaling N,N,...
  --k N                neighbours of a point (20)
  --repeats N          timed rounds (7)
  --path native|torch  only geo3d with its compiled kernels, or only without (both; scaling the first there is)
  --only TEXT          only what has TEXT in its title
  --memory, --no-memory   peak memory, each contender in a process of its own (not of kernels and data)
  --quick              tiny sizes: whether everything runs, not how fast
  --out FILE           all figures as JSON (runs/bench-NAME.json)

options of model
  --checkpoint DIR...  encoders, in any compressed form (DIR/encoder, or the run folder with it)
  --names A,B,...      what each is called in tables and pictures; names with commas as words (what it is: class, width,
                       graph, compression)
  --reference NAME     the one that others are compared with: a name, a run folder or a path (the first)
  --data NAME          labelled clouds to score on: folder, modelnet or shapes, with --root PATH, --up z|y, or any
                       data.KEY=VALUE; by the head saved beside an encoder, else by a linear probe (no accuracy)
  --num-points N       points of a cloud (as the reference was trained)
  --rotation POSES     aligned, z or so3 (aligned)
  --draws N            draws of poses over which accuracy is averaged (5; 1 for aligned)
  --clouds N           clouds in a timed call (1)
  --threads N,N,...    numbers of threads to time on (1 and torch's choice)
  --repeats N          timed rounds; every model and engine has its turn in each (50)
  --engines A,B,...    of geo3d, torch, onnxruntime and openvino (all); of exports the fastest form is taken and named
  --settings N         settings of an adaptive encoder to show, at most (8)
  --published          also time the published forms in eager torch: of each encoder's own widths, and of full size
  --no-memory          do not look at peak memory, which takes a process for each model and engine
  --out DIR            model.json, model.md and pareto.png (runs/bench-model)"""

NAMES = ("kernels", "encoder", "train", "data", "scaling")
OPTIONS = ("threads", "clouds", "points", "k", "repeats", "path", "only", "memory", "no-memory", "quick", "out")
RANGES = {
    "threads": Range(1, 1024),
    "clouds": Range(1, 4096),
    "points": Range(1, 1_000_000),
    "k": Range(1, 1024),
    "repeats": Range(1, 1_000_000),
    "draws": Range(1, 1000),
    "settings": Range(1, 1000),
}
QUICK: dict[str, dict[str, Any]] = {
    "kernels": {"clouds": (2,), "points": 128, "large": 256, "k": 8, "ragged": (40, 130), "ragged_clouds": 4},
    "encoder": {"clouds": (2,), "points": 128, "k": 8, "ragged": (40, 130), "ragged_clouds": 4},
    "train": {"clouds": (2, 2), "points": 128, "k": 8, "ragged": (60, 130)},
    "data": {"clouds": (4,), "points": 128},
    "scaling": {"clouds": (1, 2, 4), "points": (64, 128, 256), "k": 8, "most": 512},
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong as geo3d says it."""

    def error(self, message: str) -> NoReturn:
        """Raise what the command line prints in one line."""
        raise ConfigError(f"bench: {message.removeprefix('argument ')}; see geo3d bench --help")


class Whole:
    """What an option takes: a whole number within a range, or with ``several`` some of them, separated by commas.

    Example:
        >>> Whole("points", several=True)("1,8,32")
        (1, 8, 32)
    """

    def __init__(self, option: str, several: bool = False) -> None:
        self.range, self.several = RANGES[option], several

    def __call__(self, word: str) -> Any:
        """The number, or the numbers.

        Raises:
            argparse.ArgumentTypeError: If the word is not of that form.
        """
        words = word.split(",") if self.several else [word]
        found = [int(each) if re.fullmatch("[0-9]{1,18}", each) else 0 for each in words]
        if wrong := [each for each, number in zip(words, found, strict=True) if not self.range.holds(number)]:
            raise argparse.ArgumentTypeError(f"expected a whole number {self.range}, found {shown(wrong[0])}")
        return tuple(found) if self.several else found[0]


def text(word: str) -> str:
    """A word that is not empty."""
    if not word:
        raise argparse.ArgumentTypeError("a value is needed")
    return word


def place(word: str) -> str:
    """A path, with the home folder for a ``~``.

    Raises:
        argparse.ArgumentTypeError: If it is the home folder of nobody.
    """
    try:
        return home(text(word))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parsed(words: list[str]) -> argparse.Namespace:
    """The options.

    Raises:
        ConfigError: If the words cannot be understood.
    """
    name, *rest = words
    if name not in NAMES:
        raise ConfigError(f"bench {name}: no such measurement; {did_you_mean(name, [*NAMES, 'model'])}")
    parser = Parser(add_help=False, allow_abbrev=False)
    for option in ("threads", "k", "repeats"):
        parser.add_argument(f"--{option}", type=Whole(option))
    parser.add_argument("--clouds", type=Whole("clouds", several=True))
    parser.add_argument("--points", type=Whole("points", several=name == "scaling"))
    parser.add_argument("--path", choices=("native", "torch"))
    parser.add_argument("--only", type=text)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=place)
    options, unknown = parser.parse_known_args(rest)
    if unknown:
        hint = did_you_mean(unknown[0].lstrip("-"), list(OPTIONS)).replace("'", "'--", 1)
        raise ConfigError(f"bench {name} {unknown[0]}: no such option; {hint}")
    if name == "data" and options.k:
        raise ConfigError("bench data --k: views have no neighbours; leave it out")
    return argparse.Namespace(name=name, **vars(options) | {"only": options.only or ""})


def bench(words: list[str]) -> None:
    """Run ``geo3d bench`` with the words behind it.

    Raises:
        ConfigError: If the words cannot be understood, or what they ask for is not there.
    """
    if words[0] == "model":
        from geo3d.cli.bench_model import bench_model

        return bench_model(words[1:])
    options = parsed(words)
    out = options.out or f"runs/bench-{options.name}.json"
    import torch

    from geo3d.bench.machine import machine
    from geo3d.bench.report import heading
    from geo3d.bench.roofline import measured
    from geo3d.io.files import replacing

    if options.threads:
        torch.set_num_threads(options.threads)
    with replacing(out) as draft:  # from the beginning, so that a place that cannot be written to costs no time
        limits = measured(2 if options.quick else 7, 64 if options.quick else 1)
        described = machine()
        print(heading(described, limits), flush=True)
        figures = scaled(options) if options.name == "scaling" else compared(options, limits.best)
        if not any(figures.values()):
            raise ConfigError(f"bench {options.name} --only {options.only}: no title contains it")
        record = {"bench": options.name, "options": vars(options), "machine": described, "limits": limits._asdict()}
        draft.write_text(json.dumps(record | figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nall figures are in {out}")


def compared(options: argparse.Namespace, gflops: float) -> dict[str, Any]:
    """The cases of a measurement, printed one by one."""
    from geo3d.bench.augmenting import view_cases
    from geo3d.bench.encoders import encoder_cases
    from geo3d.bench.kernels import kernel_cases
    from geo3d.bench.measure import measure_all
    from geo3d.bench.report import table
    from geo3d.bench.training import training_cases

    sizes = sizes_of(options)
    if options.path:
        sizes["paths"] = (options.path,)
    makers: dict[str, Any] = {
        "kernels": kernel_cases, "encoder": encoder_cases, "train": training_cases, "data": view_cases,
    }  # fmt: skip
    whole_networks = options.name in ("encoder", "train")
    records = measure_all(
        makers[options.name](**sizes),
        lambda record: print(table(record), flush=True),
        only=options.only,
        repeats=options.repeats or (2 if options.quick else 7),
        gflops=gflops,
        memory=asks_for_memory(options, whole_networks),
        profiled=whole_networks,
        shortest=0.0 if options.quick else 0.005,
    )
    return {"cases": records}


def scaled(options: argparse.Namespace) -> dict[str, Any]:
    """The grid of sizes, printed as it is measured and once more as a table."""
    from geo3d.bench.contenders import usable
    from geo3d.bench.scaling import exponents, scaling, scaling_table

    rows = scaling(
        **sizes_of(options),
        path=options.path or usable()[0],
        repeats=options.repeats or (1 if options.quick else 5),
        memory=asks_for_memory(options, True),
        only=options.only,
        say=lambda line: print(line, flush=True),
    )
    print(scaling_table(rows))
    return {"rows": rows, "exponents": list(exponents(rows))}


def sizes_of(options: argparse.Namespace) -> dict[str, Any]:
    """The sizes asked for; those not named are the measurement's own."""
    said = {name: value for name in ("clouds", "points", "k") if (value := getattr(options, name)) is not None}
    return (QUICK[options.name] if options.quick else {}) | said


def asks_for_memory(options: argparse.Namespace, otherwise: bool) -> bool:
    """Whether peak memory is looked at: as asked for, else where it is worth the wait."""
    return (otherwise and not options.quick) if options.memory is None else options.memory
