"""``geo3d export``: an encoder as a file for another runtime, checked against geo3d."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geo3d.cli.config import did_you_mean
from geo3d.errors import ConfigError

USAGE = """usage: geo3d export checkpoint=DIR/encoder out=FILE [KEY=VALUE ...]

Writes the encoder in evaluation as an ONNX file, an OpenVINO model or a torch.export program, runs it on generated
clouds and compares its features with geo3d's. A file that says something else is not kept.

options
  format=onnx|openvino|torch   what to write; OpenVINO: out=NAME.xml, with NAME.bin beside it (onnx)
  neighbors=inside|inputs      the file looks for neighbours itself, or takes tables (inside; a PointNet2 needs inputs)
  precision=auto|float|int8    products of codes or of floats; auto: of codes if the encoder is quantised (auto)
  int4=true|false              store codes that fit into four bits as such: smaller, not faster (false)
  opset=N                      ONNX's operator set, 18 to 23 (21)
  clouds=N, num_points=N       fix the sizes (any size; format=torch needs num_points, and clouds is 1)
  check=true|false             run the file and compare (true)"""

WORDS = {
    "format": ("onnx", "openvino", "torch"),
    "neighbors": ("inside", "inputs"),
    "precision": ("auto", "float", "int8"),
    "int4": ("true", "false"),
    "check": ("true", "false"),
}
NUMBERS = ("opset", "clouds", "num_points")
PATHS = ("checkpoint", "out")
OF_GRAPHS = ("neighbors", "precision", "int4", "opset")
CHECK_SIZE = {"clouds": 2, "num_points": 256}


def parsed(words: list[str]) -> dict[str, Any]:
    """The options that are given, as Python values.

    Raises:
        ConfigError: If a word cannot be understood, or a needed one is missing.
    """
    known = [*PATHS, *WORDS, *NUMBERS]
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in known:
            raise ConfigError(f"export {word}: expected KEY=VALUE; {did_you_mean(name, known)}")
        if name in WORDS and value not in WORDS[name]:
            raise ConfigError(f"export {word}: {name} must be one of {', '.join(WORDS[name])}")
        if name in NUMBERS and (not value.isdecimal() or int(value) < 1):
            raise ConfigError(f"export {word}: {name} must be a whole number from 1 on")
        whole = int(value) if name in NUMBERS else value
        options[name] = value == "true" if WORDS.get(name) == ("true", "false") else whole
    for name in PATHS:
        if not options.get(name):
            raise ConfigError(f"export: {name}= is missing; see geo3d export --help")
    if options.get("format") == "torch":
        given = [name for name in OF_GRAPHS if name in options]
        if given:
            raise ConfigError(f"export {given[0]}={options[given[0]]}: format=torch has no such option; leave it out")
        if "num_points" not in options:
            raise ConfigError("export format=torch: the program is for clouds of one size; say num_points=N")
    return options


def export(words: list[str]) -> None:
    """Run ``geo3d export`` with the words behind it.

    Raises:
        ConfigError: If they cannot be understood, the encoder cannot be exported so, or the file does not say what the
            encoder says.
    """
    options = parsed(words)
    out = Path(options["out"])
    if out.is_dir():
        raise ConfigError(f"export out={out}: expected the name of a file to write, found a folder")
    from geo3d.checkpoint import load_encoder
    from geo3d.io.files import draft_folder, synchronize

    encoder = load_encoder(options["checkpoint"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(out.parent, out.name) as folder:
        draft = folder / out.name
        write(encoder, draft, options)
        size = sum(file.stat().st_size for file in draft.parent.iterdir())
        line = check(encoder, draft, options) if options.get("check", True) else "not checked"
        for file in sorted(draft.parent.iterdir()):
            synchronize(file)
            os.replace(file, out.parent / file.name)
        synchronize(out.parent)
    print(f"{out}: {type(encoder).__name__}, {size:,} bytes\n{line}")


def write(encoder: Any, draft: Path, options: dict[str, Any]) -> None:
    """Write the file, or the two of OpenVINO."""
    from geo3d.deploy.export import export_onnx, export_openvino, export_torch
    from geo3d.deploy.onnx_check import random_clouds

    format = options.get("format", "onnx")
    if format == "torch":
        export_torch(encoder, draft, random_clouds(encoder, options.get("clouds", 1), options["num_points"]))
        return
    given = {name: options[name] for name in (*OF_GRAPHS, "clouds", "num_points") if name in options}
    (export_openvino if format == "openvino" else export_onnx)(encoder, draft, **given)


def check(encoder: Any, draft: Path, options: dict[str, Any]) -> str:
    """What the comparison gave, as a line.

    Raises:
        ConfigError: If the difference is more than rounding explains.
    """
    from geo3d.deploy.export import rounds
    from geo3d.deploy.onnx_check import RUNTIMES, checked

    format, neighbors = options.get("format", "onnx"), options.get("neighbors", "inside")
    package = RUNTIMES[format][0]
    if find_spec(package) is None:
        return f"not checked: {package} is not installed (pip install geo3d[export])"
    sizes = CHECK_SIZE | ({"clouds": 1} if format == "torch" else {})
    sizes |= {name: options[name] for name in sizes if name in options}
    found = checked(encoder, draft, format, neighbors, **sizes)
    line = f"{package} against geo3d on {sizes['clouds']} clouds of {sizes['num_points']} points: {found}"
    if not found.acceptable(rounded=rounds(encoder), searched=format != "torch" and neighbors == "inside"):
        raise ConfigError(f"{options['out']}: not written, for it differs from the encoder; {line}")
    return line
