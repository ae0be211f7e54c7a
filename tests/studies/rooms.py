"""Networks that were trained on real rooms alone (S3DIS), on generated ones: do these look real?"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d import from_published
from geo3d.cloud import with_
from geo3d.data import Rooms
from geo3d.data.rooms.thing import CLASSES
from geo3d.data.s3dis.classes import CLASSES as S3DIS
from geo3d.metrics import class_iou, confusion
from geo3d.seeds import generator
from geo3d.tasks.dense import Division, Network, point_probabilities

SHOWN = ("floor", "ceiling", "wall", "table", "chair", "door")
NAMED = {"shelf": "bookcase", "picture": "board"}
"""Classes of rooms that have another name in S3DIS; all that S3DIS does not know is its clutter."""
COLOURS = ("as made", "all grey", "shuffled")
DIVISION = Division(num_points=4096, block=1.0, steps=2)
POINTS, SEED = 60_000, 5


def rooms(files: Sequence[str], size: int) -> str:
    """A table of IoU in percent: mean over the networks, and in brackets the worst and the best.

    Args:
        files: Published weights of DGCNN for S3DIS.
        size: Number of rooms.
    """
    networks = [from_published(file, k=20) for file in files]
    clouds = Rooms(size=size, points=POINTS, seed=SEED, split="test")
    lines = [f"| colours | {' | '.join(SHOWN)} |", "|---" * (len(SHOWN) + 1) + "|"]
    for colours in COLOURS:
        seen = [as_seen(clouds[number], colours, number) for number in range(len(clouds))]
        ious = torch.stack([scores(network, seen) for network in networks])
        cells = [_cell([float(100 * value) for value in ious[:, S3DIS.index(name)]]) for name in SHOWN]
        lines.append(f"| {colours} | {' | '.join(cells)} |")
    return "\n".join(lines)


def as_seen(room: Data, colours: str, number: int) -> Data:
    """A room with ``x`` (N, 6), colours from 0 to 1 and places in the room, and labels of S3DIS."""
    rgb = room.rgb if room.rgb.is_floating_point() else room.rgb / 255
    if colours == "all grey":
        rgb = torch.full_like(rgb, 0.5)
    elif colours == "shuffled":
        rgb = rgb[torch.randperm(len(rgb), generator=generator("shuffled", number))]
    place = room.pos - room.pos.amin(0)
    names = [NAMED.get(name, name if name in S3DIS else "clutter") for name in CLASSES]
    label = torch.tensor([S3DIS.index(name) for name in names])[room.point_y]
    return with_(room, x=torch.cat([rgb, place / place.amax(0)], 1), point_y=label)


def scores(network: Network, rooms: Sequence[Data]) -> Tensor:
    """(13,) IoU over all points of all rooms."""
    counts = torch.zeros(len(S3DIS), len(S3DIS), dtype=torch.long)
    for number, room in enumerate(rooms):
        bare = Data(pos=room.pos, x=room.x)
        found = point_probabilities(
            network, bare, f"room {number}", DIVISION, normalize="none", pose=None, key=("rooms", number)
        )
        counts += confusion(found.argmax(1), room.point_y, len(S3DIS))
    return class_iou(counts)


def _cell(values: list[float]) -> str:
    mean = f"{sum(values) / len(values):.0f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.0f}-{max(values):.0f})"
