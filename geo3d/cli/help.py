"""The texts of ``--help``, made from configurations, signatures and docstrings so that they are up to date."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from geo3d.cli.config import as_written, choices, config_dir, defaults, jobs, read
from geo3d.cli.source import Option, named, options

TOOLS = {
    "bench": "Compares trained encoders on this machine: accuracy, size, times in several engines.",
    "data": "Lists the data sets, checks every cloud of one, or writes it as a store for training from disk.",
    "export": "Writes an encoder as a file for another runtime, and compares its features there with geo3d's.",
    "doctor": "Shows versions and kernels of this installation, and tests each operator.",
}
ELSEWHERE = {"trainer": "geo3d.tasks.trainer.make_trainer", "data": "geo3d.tasks.datamodule.DataModule"}
UNWRITABLE = {
    "callbacks",
    "dataset_class",
    "encoder",
    "num_classes",
    "out",
    "seed",
    "split",
    "target",
    "training",
    "views",
}  # parameters that jobs fill in, so users cannot
TRAINING = {"label_fraction": ("finetune",), "holdout": ("pretrain",)}  # data options that only these commands use
NAMED = {"protocol": "geo3d.probes.protocols"}  # options whose values are names defined in a module


def summary(path: Path) -> str:
    """The comment in the first line of a configuration, which says what it is for; empty if there is none."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def overview() -> str:
    """What ``geo3d --help`` prints."""
    commands = {name: summary(config_dir() / f"{name}.yaml") for name in jobs()} | TOOLS
    rows = "\n".join(f"  {name:<10}{text}" for name, text in sorted(commands.items()))
    return (
        "usage: geo3d COMMAND [KEY=VALUE ...]\n\nPretraining of point-cloud encoders without labels.\n\n"
        f"commands\n{rows}\n\n"
        "  geo3d COMMAND --help         show what it does and every option that it takes\n"
        "  geo3d COMMAND ... --cfg      check the configuration, print it and stop\n"
        "  geo3d --version\n\n"
        "first steps\n  geo3d demo out=runs/demo\n"
        "  geo3d pretrain encoder=dgcnn data=shapes trainer.max_epochs=10 out=runs/first\n"
        "  geo3d probe checkpoint=runs/first/encoder data=shapes out=runs/first-probe"
    )


def usage(command: str, words: list[str]) -> str:
    """What ``geo3d COMMAND --help`` prints.

    Args:
        command: The command.
        words: The arguments; a choice such as ``encoder=pointnet`` among them selects whose options are listed.
    """
    groups = defaults(command)
    chosen = groups | {key: value for key, _, value in (word.partition("=") for word in words) if key in groups}
    preset = read(config_dir() / f"{command}.yaml")
    first = f"usage: geo3d {command}"
    lines = [f"{first} [KEY=VALUE ...]"]
    if "cloud" in preset:
        lines = [f"{first} cloud=FILE [KEY=VALUE ...]"]
        lines += [f"       {first[7:]} data=NAME data.root=PATH [KEY=VALUE ...]"] if "data" in groups else []
    lines += ["", summary(config_dir() / f"{command}.yaml"), ""]
    if groups:
        lines += ["choices (* is chosen)"]
        for group in groups:
            names = [f"*{name}" if name == chosen[group] else name for name in choices(group)]
            lines += row(f"{group}=", "  ".join(names) or "none yet")
        lines += [""]
    of_job = options(f"geo3d.jobs.{command}")
    lines += ["options"]
    for option in of_job:
        if option.name not in groups:
            lines += option_row("", option, preset)
    for group, name in chosen.items():
        preset = read(config_dir() / group / f"{name}.yaml") if name in choices(group) else {}
        own = [*options(str(preset.get("_target_", ""))), *options(ELSEWHERE.get(group, ""))]
        hidden = UNWRITABLE | ({option.name for option in of_job} if group == "task" else set())
        hidden |= {name for name, commands in TRAINING.items() if command not in commands}
        # If data set and DataModule share a name, the later entry wins, because the DataModule receives the option.
        for option in {option.name: option for option in own if option.name not in hidden}.values():
            lines += option_row(f"{group}.", option, preset)
    return "\n".join(lines)


def option_row(prefix: str, option: Option, preset: dict[str, Any]) -> Iterator[str]:
    """The rows of one option: its name with its default, its meaning and its range."""
    value = preset.get(option.name)
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return  # a list of mappings is written in a file, not on the command line
    if option.default is None and value in (None, "???"):
        written = "..."
    else:
        written = as_value(option.default) if value is None else as_value(repr(value))
    of_job = not prefix and option.name in NAMED
    text = f"One of {', '.join(named(NAMED[option.name]))}." if of_job else plain(option.text)
    text = f"{text.removesuffix('.')} ({option.range})." if option.range and text else text
    yield from row(f"{prefix}{option.name}={written}", text)


def plain(text: str) -> str:
    """The text of a docstring without markup.

    Example:
        >>> plain("``k`` neighbours, see :func:`geo3d.ops.search.knn.knn`.")
        'k neighbours, see geo3d.ops.search.knn.knn.'
    """
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "")


def as_value(source: str | None) -> str:
    """The default of a signature as a user would write it on the command line.

    Example:
        >>> as_value("(512, 128)"), as_value("None"), as_value("'strict'"), as_value("1 / 3")
        ('[512,128]', 'null', 'strict', '1 / 3')
    """
    try:
        value = ast.literal_eval(str(source))
    except (ValueError, SyntaxError):
        return str(source)
    return as_written(value)


def row(left: str, right: str, width: int = 32) -> Iterator[str]:
    """Lines with a left column and a wrapped right column; a long left column gets a line to itself."""
    room = max(40, min(get_terminal_size().columns, 120) - width)
    texts = wrap(right, room) or [""]
    if len(left) > width - 4:
        yield f"  {left}"
    else:
        yield f"  {left:<{width - 2}}{texts.pop(0)}".rstrip()
    yield from (f"{'':<{width}}{text}" for text in texts if text)
