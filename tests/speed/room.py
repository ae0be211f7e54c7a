"""Cases of a part of a large scan, labelled in overlapping blocks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from speed.contenders import PATHS, own_paths
from speed.encoders import apart, evaluated
from speed.segmentation import PUBLISHED, inputs_of, make_network
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geo3d.bench.case import Case, Check, Make
from geo3d.cloud import collate
from geo3d.data import Rooms
from geo3d.seeds import generator
from geo3d.tasks.dense import Division, Network, point_probabilities

STRIP = 0.1
"""Fraction of the room's points that are labelled: a strip along one wall, as dense as the whole room."""
SEEN = 4096
"""Points that the networks see at a time."""


def room_cases(points: int = 1_000_000, k: int = 20, paths: Sequence[str] = PATHS) -> list[Make]:
    """Cases of both networks on a tenth of a room with ``points`` points. Blocks of 1 m overlap by half."""
    return [partial(room_case, name, points, k, paths) for name in ("DGCNN", "PointNet++")]


def room_case(name: str, points: int, k: int, paths: Sequence[str]) -> Case:
    """One network against its published form in the same loop."""
    network, cloud = make_network(name, k).eval(), strip(points)
    published = PUBLISHED[name](network).eval()  # type: ignore[call-arg]
    calls: dict[str, Callable[[], Any]] = {
        label: evaluated(partial(labelled, network, cloud), path) for label, path in own_paths(paths).items()
    }
    calls["published form"] = evaluated(partial(labelled, OneSize(published), cloud))

    def check() -> Mapping[str, list[Check]]:
        theirs = calls["published form"]()
        return {
            label: [apart(call(), theirs, "fraction of probabilities that differ, own neighbours")]
            for label, call in calls.items()
            if label != "published form"
        }

    title = (
        f"{name} for scenes, {len(cloud.pos):,} points of a room of {points:,}, blocks of 1 m, stride 0.5 m, one vote"
    )
    return Case(title, calls, "published form", check)


def strip(points: int) -> Data:
    """The part of a room, with colours and places in the room as the published networks read them."""
    room = Rooms(size=1, seed=77, frames=60, voxel=0.0, points=points)[0]
    within = room.pos[:, 0] <= room.pos[:, 0].kthvalue(round(STRIP * len(room.pos))).values
    place = room.pos - room.pos.amin(0)
    x = torch.cat([torch.rand(len(place), 3, generator=generator("bench", "colours")), place / place.amax(0)], 1)
    return Data(pos=room.pos[within], x=x[within])


def labelled(network: Network, cloud: Data) -> Tensor:
    """(N, classes) probabilities."""
    division = Division(num_points=SEEN, block=1.0, steps=2)
    return point_probabilities(network, cloud, "room", division, normalize="none", pose=None, key=("bench", "room"))


class OneSize:
    """A published network, which takes clouds of one size only: blocks of another size are run one by one."""

    def __init__(self, published: nn.Module) -> None:
        self.published = published

    def __call__(self, batch: Batch) -> Tensor:
        """(M, classes) logits."""
        sizes = batch.ptr.diff()
        if bool((sizes == sizes[0]).all()):
            return self.published(inputs_of(batch))  # type: ignore[no-any-return]
        parts = zip(batch.pos.split(sizes.tolist()), batch.x.split(sizes.tolist()), strict=True)
        return torch.cat([self.published(inputs_of(collate([Data(pos=pos, x=x)]))) for pos, x in parts])
