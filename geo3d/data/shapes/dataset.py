"""Object clouds made on demand: no files, no end, the same for the same seed."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, Seed, Split, checked
from geo3d.data.shapes import seats, storage, things, tools, vehicles, vessels
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.parts import PARTS_OF
from geo3d.data.shapes.placing import PARTS, Draws
from geo3d.data.targets import Classes, Target
from geo3d.errors import ConfigError, did_you_mean
from geo3d.seeds import numpy_generator

VERSION = 1
"""Increased whenever the same (seed, split, index) would give another cloud."""

PRETRAIN: tuple[Callable[[Draws], Assembly], ...] = (
    seats.chair,
    seats.sofa,
    seats.bench,
    seats.bed,
    storage.table,
    storage.shelf,
    storage.cabinet,
    storage.piano,
    vessels.bottle,
    vessels.cup,
    vessels.bowl,
    vessels.toilet,
    vehicles.car,
    vehicles.airplane,
    vehicles.boat,
    tools.hammer,
    tools.knife,
    things.lamp,
    things.laptop,
    things.plant,
    things.ladder,
    things.sculpture,
)
HELDOUT: tuple[Callable[[Draws], Assembly], ...] = (
    seats.stool,
    storage.desk,
    vessels.vase,
    vessels.teapot,
    vessels.bathtub,
    vehicles.truck,
    vehicles.rocket,
    tools.wrench,
    tools.umbrella,
    tools.guitar,
    things.monitor,
    things.helmet,
)
MAKERS = {make.__name__: make for make in (*PRETRAIN, *HELDOUT)}

CLASSES: tuple[str, ...] = tuple(MAKERS)
"""Names of all classes, those for pretraining first."""

DIVISION = {
    "all": CLASSES,
    "pretrain": tuple(make.__name__ for make in PRETRAIN),
    "heldout": tuple(make.__name__ for make in HELDOUT),
}


def _check(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"unknown {option} '{value}' of the generated shapes; {did_you_mean(value, allowed)}")


def generate(name: str, rng: np.random.Generator, num_points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One random object of a class: pos (N, 3) and unit normal (N, 3) in float32, part label (N,) in int64.

    The points are spread evenly by area over the outside of the object, which stands along z, has its centre of
    gravity at the origin and just touches the unit sphere. The labels index ``PARTS``.

    Raises:
        ConfigError: If there is no such class or ``num_points`` is less than one.

    Example:
        >>> pos, normal, part = generate("chair", np.random.default_rng(0), 512)
        >>> pos.shape, normal.dtype, part.shape
        ((512, 3), dtype('float32'), (512,))
    """
    _check("class", name, CLASSES)
    if num_points < 1:
        raise ConfigError(f"num_points of the generated shapes must be at least 1; found {num_points}")
    return MAKERS[name](Draws(rng)).vary(num_points, rng)


class Shapes(Dataset):
    """Procedural objects. Each item is a new object, which depends only on (seed, split, index) and the options.

    arXiv:2411.17467 finds that shapes without meaning are enough for pretraining.

    Args:
        split: "train" or "test"; the two share no shape.
        size: Number of clouds; item i has the class i % len(classes).
        num_points: Points of each cloud.
        seed: Another seed gives another data set.
        classes: Names out of ``CLASSES``, in the order of their ids.
        part: "pretrain" or "heldout", a fixed division of the classes, so that an encoder can be tested on classes
            that it was not trained on; "all" takes both.

    Raises:
        ConfigError: If an option or class is unknown, a class is repeated, ``classes`` is empty, or both ``classes``
            and ``part`` are given.

    Example:
        >>> shapes = Shapes(size=8, num_points=64, classes=["chair", "cup"])
        >>> shapes[3].pos.shape, shapes.labels.tolist()
        (torch.Size([64, 3]), [0, 1, 0, 1, 0, 1, 0, 1])
    """

    generated = True

    @checked
    def __init__(
        self,
        split: Split = "train",
        size: Annotated[int, Range(1, 10_000_000)] = 4096,
        num_points: Annotated[int, Range(1, 1_000_000)] = 2048,
        seed: Seed = 0,
        classes: Sequence[str] | None = None,
        part: Annotated[str, OneOf("all", "pretrain", "heldout")] = "all",
    ) -> None:
        if classes is not None and part != "all":
            raise ConfigError(f"the generated shapes take either classes or part; found classes and part='{part}'")
        self.classes = list(DIVISION[part] if classes is None else classes)
        for name in self.classes:
            _check("class", name, CLASSES)
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"classes of the generated shapes must be different names; found {self.classes}")
        self.split, self.size, self.num_points, self.seed, self.part = split, size, num_points, seed, part
        self.labels: Tensor = torch.arange(size) % len(self.classes)

    @property
    def targets(self) -> dict[str, Target]:
        """``y``, the class of the object, and ``point_y``, the part that each point lies on."""
        known = tuple(tuple(PARTS.index(part) for part in PARTS_OF[name]) for name in self.classes)
        return {"y": Classes(tuple(self.classes)), "point_y": Classes(tuple(PARTS), groups=known)}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Data:
        """``pos``, ``normal`` (N, 3), ``point_y`` (N,) and ``y`` (1,) of one cloud."""
        at = index + self.size if index < 0 else index
        if not 0 <= at < self.size:
            raise IndexError(f"index {index} is outside of {self.size} generated shapes")
        label = at % len(self.classes)
        rng = numpy_generator(self.seed, "shapes", self.split, at)
        pos, normal, part = generate(self.classes[label], rng, self.num_points)
        return Data(
            pos=torch.from_numpy(pos),
            normal=torch.from_numpy(normal),
            point_y=torch.from_numpy(part),
            y=torch.tensor([label]),
        )

    def manifest(self) -> dict[str, Any]:
        """Everything that determines the clouds, ready for JSON."""
        return {
            "generator": "geo3d.data.shapes",
            "version": VERSION,
            "split": self.split,
            "size": self.size,
            "num_points": self.num_points,
            "seed": self.seed,
            "classes": self.classes,
        }
