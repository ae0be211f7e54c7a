"""Scenes divided into upright blocks, as segmentation networks see them in training and at inference."""

from collections.abc import Iterator
from copy import copy
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Range, checked
from geo3d.cloud import fields, with_
from geo3d.data.few_labels import few_labels
from geo3d.data.targets import Target, targets_of
from geo3d.errors import CloudError, ConfigError
from geo3d.geometry.frame import rescaled
from geo3d.seeds import Key, generator

CELLS = 1 << 26
"""The most cells of one scene."""
LEAST = 256
"""Blocks of a training scene with fewer points are left out."""
LOW = 0.005
"""The floor of a scene is the height below which this fraction of its points lies; single outliers do not move it."""

BlockSize = Annotated[float, Range(0, 1e6, above=True)]


class Block(NamedTuple):
    """One block of a scene."""

    center: Tensor
    """(3,) the middle in plan, and the height of the scene's floor."""
    points: Tensor
    """(n,) the numbers of its points, ascending."""


class Grid:
    """Square blocks over the plan of a scene, each ``size`` wide; the next one begins ``size / steps`` further on.

    The first block begins at the lowest x and y. Every point lies in one block or more, up to ``steps``^2.

    Args:
        pos: (N, 3) the points.
        size: Side of a block, in units of ``pos``.
        steps: 1 for blocks side by side, 2 for blocks that overlap by half, and so on.

    Raises:
        CloudError: If the blocks are too small for the scene.
    """

    def __init__(self, pos: Tensor, size: float, steps: int = 1) -> None:
        self.size, self.steps, cell = size, steps, size / steps
        plan = pos[:, :2].double()
        self.low = plan.amin(0)
        numbers = ((plan - self.low) / cell).floor().long()
        self.cells = numbers.amax(0) + 1
        if float(self.cells[0]) * float(self.cells[1]) > CELLS:
            extent = (plan.amax(0) - self.low).tolist()
            raise CloudError(
                f"blocks of {size} are too small for a scene of {extent[0]:.4g} x {extent[1]:.4g}; give a larger one, "
                "or the scale of the units"
            )
        self._rows, self._columns = self.cells.tolist()
        key = numbers[:, 0] * self._columns + numbers[:, 1]
        sorted_key, self._order = key.sort(stable=True)
        self._ends = torch.searchsorted(sorted_key, torch.arange(self._rows * self._columns + 1)).numpy()
        self.floor = float(pos[:, 2].kthvalue(max(1, round(LOW * len(pos)))).values)

    def places(self) -> list[tuple[int, int]]:
        """The first cell (row, column) of every block that has a point."""
        counts = np.pad(np.diff(self._ends).reshape(self._rows, self._columns).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        last = [max(1, total - self.steps + 1) for total in (self._rows, self._columns)]
        i, j = np.arange(last[0])[:, None], np.arange(last[1])
        up, right = np.minimum(i + self.steps, self._rows), np.minimum(j + self.steps, self._columns)
        inside = counts[up, right] - counts[i, right] - counts[up, j] + counts[i, j]
        return [(int(a), int(b)) for a, b in zip(*inside.nonzero(), strict=True)]

    def block(self, place: tuple[int, int], least: int = 1) -> Block:
        """The block that begins at a cell; one with fewer than ``least`` points takes in the cells around it."""
        margin = 0
        points = self._points(place, 0)
        while len(points) < min(least, len(self._order)):
            margin = max(1, 2 * margin)
            points = self._points(place, margin)
        cell = self.size / self.steps
        middle = self.low + torch.tensor(place, dtype=torch.float64) * cell + self.size / 2
        return Block(torch.cat([middle, middle.new_tensor([self.floor])]), points)

    def _points(self, place: tuple[int, int], margin: int) -> Tensor:
        rows = range(max(0, place[0] - margin), min(self._rows, place[0] + self.steps + margin))
        first = max(0, place[1] - margin)
        end = min(self._columns, place[1] + self.steps + margin)
        parts = [
            self._order[self._ends[row * self._columns + first] : self._ends[row * self._columns + end]] for row in rows
        ]
        return torch.cat(parts).sort().values

    def blocks(self, least: int = 1) -> Iterator[Block]:
        """All blocks that have a point, one after another."""
        return (self.block(place, least) for place in self.places())


def cut_out(cloud: Data, block: Block, points: Tensor | None = None) -> Data:
    """The points of a block as a cloud: x and y from the block's middle, z from the floor; ``frame`` leads back.

    Args:
        cloud: The scene.
        block: The block.
        points: Some of its points; by default all.
    """
    index = block.points if points is None else points
    chosen = {name: value[index] for name, field, value in fields(cloud) if field.per == "point"}
    center = block.center.to(cloud.pos.dtype)
    return rescaled(with_(cloud, **chosen), center, center.new_ones(()))


class Blocks(Dataset):
    """The blocks of all scenes of a data set, as clouds of their own; neighbouring blocks overlap by half.

    Making one reads every scene once.

    Args:
        dataset: The scenes; they have no classes of whole clouds.
        size: Side of a block, in units of the scenes.

    Raises:
        ConfigError: If the clouds have classes: then they are objects, not scenes.
        CloudError: If no block has 256 points.
    """

    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(self, dataset: Any, size: BlockSize) -> None:
        if getattr(dataset, "labels", None) is not None:
            raise ConfigError(f"block={size}: {type(dataset).__name__} has objects, not scenes; leave block out")
        self.dataset, self.size = dataset, size
        self._few: tuple[int, int, tuple[Key, ...]] | None = None
        self.cached = getattr(dataset, "cached", True)
        self.generated = getattr(dataset, "generated", False)
        self.scene_of: list[int] = []
        """The scene of each block."""
        self.places: list[tuple[int, int]] = []
        for scene in range(len(dataset)):
            grid = Grid(dataset[scene].pos, size, steps=2)
            places = [place for place in grid.places() if len(grid.block(place).points) >= LEAST]
            self.places += places
            self.scene_of += [scene] * len(places)
        if not self.places:
            raise CloudError(f"block={size}: no block of the scenes has {LEAST} points; give a larger block")
        self._first = np.searchsorted(self.scene_of, np.arange(len(dataset) + 1)).tolist()

    def with_few_labels(self, count: int, ignore: int, *key: Key) -> "Blocks":
        """The same blocks of scenes in which ``count`` points keep their label, see :func:`few_labels`.

        Args:
            count: Of each scene, not of each block.
            ignore: The label of points without a label.
            key: Of the draw; the scene's number is added to it.
        """
        other = copy(self)
        other._few = (count, ignore, key)
        return other

    def _scene(self, number: int) -> Data:
        """One scene, with all labels that may be used."""
        scene = self.dataset[number]
        if self._few is None:
            return scene
        count, ignore, key = self._few
        return few_labels(scene, count, ignore, generator(*key, number))[0]

    @property
    def targets(self) -> dict[str, Target]:
        """Those of the scenes."""
        return dict(targets_of(self.dataset))

    def __len__(self) -> int:
        return len(self.places)

    def source(self, index: int) -> str:
        """The scene of a block, and its place in there."""
        scene = self.scene_of[index]
        known = getattr(self.dataset, "source", None)
        name = known(scene) if known is not None else f"scene {scene}"
        return f"{name}, block {self.places[index][0]}, {self.places[index][1]}"

    def __getitem__(self, index: int) -> Data:
        """The points of one block."""
        scene = self._scene(self.scene_of[index])
        return cut_out(scene, Grid(scene.pos, self.size, steps=2).block(self.places[index]))

    def read_with(self, index: int) -> dict[int, Data]:
        """All blocks of the scene of a block, which is read once for them."""
        number = self.scene_of[index]
        scene = self._scene(number)
        grid = Grid(scene.pos, self.size, steps=2)
        own = range(self._first[number], self._first[number + 1])
        return {each: cut_out(scene, grid.block(self.places[each])) for each in own}

    def manifest(self) -> dict[str, Any]:
        """What identifies the scenes, and the size of the blocks."""
        return self.dataset.manifest() | {"block": self.size, "blocks": len(self)}
