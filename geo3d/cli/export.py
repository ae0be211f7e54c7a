"""``geo3d export``: an encoder as a file for another runtime, checked against geo3d."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from geo3d.checks import OneOf, Range
from geo3d.cli.config import as_written
from geo3d.errors import ConfigError

USAGE = """usage: geo3d export checkpoint=DIR/encoder out=FILE [KEY=VALUE ...]

Writes the encoder, or of a segmentation the whole network, in evaluation mode as an ONNX file, an OpenVINO model or a
torch.export program, runs it on generated clouds and compares its features or logits with geo3d's. If they differ by
more than rounding explains, the file is not kept.

options (default in parentheses)
  part=auto|encoder|network    write the encoder, or encoder, decoder and head as one, from points to their logits;
                               auto takes the network of a segmentation, else the encoder (auto)
  format=onnx|openvino|torch   what to write; for openvino out=NAME.xml, and NAME.bin is written beside it (onnx)
  neighbors=inside|inputs      the model searches for neighbours itself, or takes them as inputs (inside; a PointNet2
                               needs inputs)
  precision=auto|float|int8    multiply floats or int8 codes; auto takes int8 if the encoder is quantised (auto)
  int4=true|false              store codes that fit into four bits as int4: a smaller file, not a faster one (false)
  opset=N                      ONNX operator set, 18 to 23 (21)
  clouds=N, num_points=N       fix the sizes of the inputs (any size; format=torch needs num_points, and its clouds=1)
  check=true|false             run the file and compare its features with geo3d's (true)"""

OF_GRAPHS = ("neighbors", "precision", "int4", "opset")
CHECK_SIZE = {"clouds": 2, "num_points": 256}


def parsed(words: list[str]) -> dict[str, Any]:
    """The given options as Python values.

    Raises:
        ConfigError: If an argument cannot be understood, or a required one is missing.
    """
    from geo3d.checks import parameters
    from geo3d.cli.check import options

    keywords = options(words, parameters(exported), "geo3d export", "out=encoder.onnx")
    if keywords.get("format") == "torch":
        strange = [name for name in OF_GRAPHS if name in keywords]
        if strange:
            value = as_written(keywords[strange[0]])
            raise ConfigError(f"export {strange[0]}={value}: format=torch has no such option; leave it out")
        if keywords.get("num_points") is None:
            raise ConfigError("export format=torch: the program is for clouds of one size; give num_points=N")
    return keywords


def export(words: list[str]) -> None:
    """Run ``geo3d export`` with these arguments.

    Raises:
        ConfigError: If an argument cannot be understood, the encoder cannot be exported with these options, or the
            file's features differ from the encoder's.
    """
    print(exported(**parsed(words)))


def exported(
    checkpoint: str | Path,
    out: str | Path,
    *,
    part: Annotated[str, OneOf("auto", "encoder", "network")] = "auto",
    format: Annotated[str, OneOf("onnx", "openvino", "torch")] = "onnx",
    neighbors: Annotated[str, OneOf("inside", "inputs")] = "inside",
    precision: Annotated[str, OneOf("auto", "float", "int8")] = "auto",
    int4: bool = False,
    opset: Annotated[int, Range(18, 23)] = 21,
    clouds: Annotated[int, Range(1, 4096)] | None = None,
    num_points: Annotated[int, Range(1, 1_000_000)] | None = None,
    check: bool = True,
) -> str:
    """Two lines about the exported file: its name and size, and how far its features are from the encoder's.

    Args:
        checkpoint: A saved encoder.
        out: The file to write; if the export fails, an older file of that name stays.
        part: ``encoder``, or the whole ``network`` of a segmentation; ``auto`` takes the network where there is one.
        format: ``onnx``, ``openvino`` or ``torch``.
        neighbors: ``inside``: the model searches for neighbours itself; ``inputs``: it takes them as inputs.
        precision: ``float`` multiplies floats, ``int8`` codes; ``auto`` takes ``int8`` if the encoder is quantised.
        int4: Store codes that fit into four bits as int4.
        opset: ONNX operator set.
        clouds: Fix the number of clouds of the input; None for any.
        num_points: Fix the number of points of a cloud; None for any.
        check: Run the file and compare its features with the encoder's.

    Raises:
        ConfigError: If the encoder cannot be exported with these options, or the file's features differ from its own.
        CheckpointError: If there is no checkpoint, or it is damaged.
    """
    from geo3d.io.files import draft_folder, synchronize

    out = Path(out)
    if out.is_dir():
        raise ConfigError(f"export out={out}: expected the name of a file to write, found a folder")
    encoder = part_of(checkpoint, part)
    options: dict[str, Any] = {"neighbors": neighbors, "precision": precision, "int4": int4, "opset": opset}
    sizes = {name: size for name, size in (("clouds", clouds), ("num_points", num_points)) if size is not None}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"export out={out}: no folder can be made for it ({error.strerror})") from None
    with draft_folder(out.parent, out.name) as folder:
        draft = folder / out.name
        write(encoder, draft, format, options, sizes)
        size = sum(file.stat().st_size for file in draft.parent.iterdir())
        line = compared(encoder, draft, out, format, neighbors, sizes) if check else "not checked"
        for file in sorted(draft.parent.iterdir()):
            synchronize(file)
            os.replace(file, out.parent / file.name)
        synchronize(out.parent)
    return f"{out}: {named(encoder)}, {size:,} bytes\n{line}"


def part_of(checkpoint: str | Path, part: str) -> Any:
    """The encoder of a checkpoint or its whole network, see :func:`exported`.

    Raises:
        ConfigError: If the whole network is asked for and the checkpoint has none.
    """
    from geo3d.checkpoint import load_encoder, open_checkpoint

    if part == "encoder":
        return load_encoder(checkpoint)
    opened = open_checkpoint(checkpoint)
    if opened.network is None and part == "auto":
        return opened.encoder
    if opened.network is None:
        raise ConfigError(
            f"export part=network: {checkpoint} has no segmentation network, with decoder and head of points; give "
            "part=encoder"
        )
    return opened.network


def named(module: Any) -> str:
    """The class of an encoder, or those of a network's parts."""
    from geo3d.network import PointNetwork

    parts = list(module.children()) if isinstance(module, PointNetwork) else [module]
    return " + ".join(type(part).__name__ for part in parts)


def write(encoder: Any, draft: Path, format: str, options: dict[str, Any], sizes: dict[str, Any]) -> None:
    """Write the exported encoder to ``draft``; the weights of an OpenVINO model go to a ``.bin`` file beside it."""
    from geo3d.deploy.onnx.check import random_clouds
    from geo3d.deploy.onnx.export import export_onnx, export_openvino, export_torch

    if format == "torch":
        export_torch(encoder, draft, random_clouds(encoder, sizes.get("clouds", 1), sizes["num_points"]))
    else:
        (export_openvino if format == "openvino" else export_onnx)(encoder, draft, **options, **sizes)


def compared(encoder: Any, draft: Path, out: Path, format: str, neighbors: str, sizes: dict[str, int]) -> str:
    """One line with the difference between the file's outputs and geo3d's, or why it was not checked.

    Raises:
        ConfigError: If the difference is larger than rounding explains.
    """
    from geo3d.deploy.onnx.check import RUNTIMES, checked
    from geo3d.deploy.onnx.export import rounds

    package = RUNTIMES[format][0]
    if find_spec(package) is None:
        return f"not checked: {package} is not installed (pip install geo3d[export])"
    sizes = CHECK_SIZE | ({"clouds": 1} if format == "torch" else {}) | sizes
    difference = checked(encoder, draft, format, neighbors, **sizes)
    line = f"{package} against geo3d on {sizes['clouds']} clouds of {sizes['num_points']} points: {difference}"
    if not difference.acceptable(rounded=rounds(encoder), searched=format != "torch" and neighbors == "inside"):
        outputs = "features differ from the encoder's" if hasattr(encoder, "cloud_channels") else "logits differ"
        raise ConfigError(f"{out}: not written, because its {outputs}; {line}")
    return line
