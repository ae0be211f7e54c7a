"""PointNet++ (arXiv:1706.02413), single-scale and multi-scale grouping, without its classifier."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.checks import Length, OneOf, Range, Size, checked
from geo3d.cloud import Features, Layout, Level, layout_of
from geo3d.encoders.inputs import Inputs, cloud_inputs, input_batch, input_channels, point_inputs
from geo3d.errors import ConfigError
from geo3d.nn.graph import WEIGHTED, Op
from geo3d.nn.keywords import keywords_of
from geo3d.nn.set_abstraction import PooledMLP, SetAbstraction, pooled_ops
from geo3d.ops.search.farthest import farthest_points, padded
from geo3d.ops.search.three_nearest import interpolate, three_nearest

GLOBAL = (256, 512, 1024)
DEFAULTS: dict[str, dict[str, Sequence[Any]]] = {
    "ssg": {
        "radii": (0.2, 0.4),
        "num_neighbors": (32, 64),
        "channels": ((64, 64, 128), (128, 128, 256), GLOBAL),
    },
    "msg": {
        "radii": ((0.1, 0.2, 0.4), (0.2, 0.4, 0.8)),
        "num_neighbors": ((16, 32, 128), (32, 64, 128)),
        "channels": (
            ((32, 32, 64), (64, 64, 128), (64, 96, 128)),
            ((64, 64, 128), (128, 128, 256), (128, 128, 256)),
            GLOBAL,
        ),
    },
}
"""The published classification networks."""

Radius = Annotated[float, Range(0, 1000, above=True)]
Neighbors = Annotated[int, Range(1, 1024)]
Sizes = Annotated[Sequence[Size], Length(1, 8)]
"""Output channels of the layers of one scale."""


class PointNet2(nn.Module):
    """Cloud features, and point features interpolated from the three nearest centres of the last level.

    Clouds should lie in the unit sphere: the published radii assume it. Each level reads ``[p_j - c_i ; f_j]``. The
    last, global level reads ``[p_j ; f_j]``, so the encoder sees absolute positions.

    The centres of each level are the first centres of the level before. Farthest points are nested, so this is
    farthest point sampling at every level. The published code starts at a random point; here ``start`` decides.

    Permuting the points changes the result: ball queries keep the first points in index order, and ``start="first"``
    begins at point 0. With ``start="farthest"`` the centres stay the same (up to ties). The features then stay the
    same, too, as long as no ball holds more than ``num_neighbors`` points. In training mode the batch statistics still
    depend on the order, through the rows that fill up small balls.

    In a cloud with fewer points than ``num_samples``, each point is a centre once.

    Args:
        scales: ``"ssg"`` or ``"msg"``: the published network whose ``radii``, ``num_neighbors`` and ``channels`` are
            the defaults.
        num_samples: Number of centres at each level; must not rise.
        radii: For each level one radius, or one per scale.
        num_neighbors: For each level the number of points in a ball, or one per scale.
        channels: For each level the layer sizes, or one list per scale; last, the layer sizes of the global level.
            Without sizes of a global level, as in the scene networks, the cloud features are the maximum of the last
            level's features.
        in_channels: 3 for the coordinates, or more: see :func:`geo3d.encoders.inputs.point_inputs`.
        inputs: Fields read beside the coordinates, such as ``("rgb",)``; ``in_channels`` then follows from them.
        start: ``"first"`` or ``"farthest"``, see :func:`geo3d.ops.search.farthest.farthest_points`.
        width: Multiplies all ``channels``.
        absolute: Whether the first level also reads the coordinates themselves, as the segmentation networks do.

    Raises:
        ConfigError: If an argument is out of its range, or the levels do not fit together.

    Example:
        >>> encoder = PointNet2(num_samples=(16, 4), width=0.25)
        >>> features = encoder.eval()(Data(pos=torch.eye(3).repeat(10, 1)))
        >>> features.point.shape, features.cloud.shape
        (torch.Size([30, 64]), torch.Size([1, 256]))
    """

    @checked
    def __init__(
        self,
        scales: Annotated[str, OneOf("ssg", "msg")] = "ssg",
        num_samples: Annotated[Sequence[Annotated[int, Range(1, 65536)]], Length(1, 8)] = (512, 128),
        radii: Sequence[Radius | Annotated[Sequence[Radius], Length(1, 8)]] | None = None,
        num_neighbors: Sequence[Neighbors | Annotated[Sequence[Neighbors], Length(1, 8)]] | None = None,
        channels: Sequence[Sizes | Annotated[Sequence[Sizes], Length(1, 8)]] | None = None,
        in_channels: Annotated[int, Range(3, 1024)] = 3,
        start: Annotated[str, OneOf("first", "farthest")] = "first",
        width: Annotated[float, Range(0, 8, above=True)] = 1.0,
        absolute: bool = False,
        inputs: Inputs = (),
    ) -> None:
        super().__init__()
        in_channels, self.inputs = input_channels(in_channels, inputs), tuple(inputs)
        self.scales, self.num_samples, self.in_channels, self.start, self.width = (
            scales, num_samples, in_channels, start, width,
        )  # fmt: skip
        self.radii, self.num_neighbors, self.channels, self.absolute = radii, num_neighbors, channels, absolute
        default = DEFAULTS[scales]
        radii, num_neighbors = radii or default["radii"], num_neighbors or default["num_neighbors"]
        layers: Sequence[Any] = channels or default["channels"]
        if not len(num_samples) == len(radii) == len(num_neighbors) or len(layers) - len(num_samples) not in (0, 1):
            raise ConfigError(
                "num_samples, radii and num_neighbors must have one entry for each level, and channels as many or one "
                "more, for the global level; "
                f"found {len(num_samples)}, {len(radii)}, {len(num_neighbors)} and {len(layers)}"
            )
        if list(num_samples) != sorted(num_samples, reverse=True):
            raise ConfigError(f"num_samples must not rise from level to level; found {num_samples}")
        features = in_channels if absolute else in_channels - 3
        self.levels = nn.ModuleList()
        for r, k, sizes in zip(radii, num_neighbors, layers[: len(num_samples)], strict=True):
            scaled = [scaled_sizes(one, width) for one in (sizes if isinstance(sizes[0], Sequence) else [sizes])]
            exact = 3 if absolute and not self.levels else 0
            level = SetAbstraction(features, _listed(r), _listed(k), scaled, exact)
            self.levels.append(level)
            features = level.out_channels
        whole = len(layers) > len(num_samples)
        self.last = PooledMLP([3 + features, *scaled_sizes(layers[-1], width)], skip=3) if whole else None
        self.point_channels: int = features
        self.cloud_channels: int = features if self.last is None else self.last.out_channels
        self.level_channels = (in_channels, *(int(level.out_channels) for level in self.levels))  # type: ignore[arg-type]

    def forward(self, data: Data) -> Features:
        """Features of any PyG ``Data`` or ``Batch`` with ``pos``."""
        batch = input_batch(data)
        pos, layout = batch.pos, layout_of(batch)
        x = point_inputs(batch, self.in_channels, self.inputs)
        levels = [Level(pos, layout, x)]
        features: Tensor | None = x if self.absolute else x[:, 3:] if x.shape[1] > 3 else None
        picked = farthest_points(pos, layout, self.num_samples[0], self.start).view(-1, self.num_samples[0])
        for abstraction, wanted in zip(self.levels, self.num_samples, strict=True):
            finer, index, center_layout = levels[-1], *_prefix(picked, layout, wanted)
            centers = pos[index]
            features = abstraction(finer.pos, features, finer.layout, centers, center_layout)
            inside = index if len(levels) == 1 else _rows(center_layout, finer.layout)
            levels.append(Level(centers, center_layout, features, inside))
        last = levels[-1]
        if self.last is None:
            cloud = padded(last.x, *last.layout, -torch.inf).amax(1)
        else:
            cloud = self.last(torch.cat([last.pos, last.x], 1), last.layout)
        nearest, weight = three_nearest(pos, layout, last.pos, last.layout)
        return Features(interpolate(last.x, nearest, weight), cloud, tuple(levels))

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        ops, _ = cloud_inputs(self.in_channels)
        ops = [op for op in ops if op.kind == "input"]
        pos, features = "pos", tuple(op.path for op in (ops if self.absolute else ops[1:]))
        for i, (level, wanted) in enumerate(zip(self.levels, self.num_samples, strict=True)):
            assert isinstance(level, SetAbstraction)
            centers, outs = f"centers.{i}", []
            # From the second level on, the points lie in the order of the first sampling, which began at the first one.
            ops.append(Op("farthest", centers, (pos,), number=wanted, start="first" if i else self.start))
            for s, (radius, k, scale) in enumerate(zip(level.radii, level.num_neighbors, level.scales, strict=True)):
                assert isinstance(scale, PooledMLP)
                path = f"levels.{i}.scales.{s}"
                first, norm, sources = f"{path}.linears.0", f"{path}.norms.0", (pos, centers, *features)
                ops.append(Op("group", first, sources, norm, 0.0, k=k, radius=radius))
                ops += pooled_ops(path, first, len(scale.linears), first=1)
                ops.append(Op("max", path, (ops[-1].path,)))
                outs.append(path)
            ops.append(Op("concat", f"levels.{i}", tuple(outs)))
            pos, features = centers, (f"levels.{i}",)
        if self.last is None:
            ops.append(Op("max", "cloud", features))
            return (*ops, Op("interpolate", "point", (*features, pos, "pos"), k=3))
        last = pooled_ops("last", "last.input", len(self.last.linears))
        ops += [Op("concat", "last.input", (pos, *features)), *last, Op("max", "cloud", (last[-1].path,))]
        return (*ops, Op("interpolate", "point", (*features, pos, "pos"), k=3))

    def with_channels(self, sizes: Mapping[str, int]) -> "PointNet2":
        """A new encoder with the same keywords, except for the output channels: ``sizes``, by path of the layer."""
        left = iter(sizes[op.path] for op in self.layer_graph() if op.kind in WEIGHTED)

        def taken(old: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(taken(one) if isinstance(one, Sequence) else next(left) for one in old)

        channels = taken(self.channels or DEFAULTS[self.scales]["channels"])
        return type(self)(**keywords_of(self) | {"channels": channels, "width": 1.0})


def _listed(entry: Any) -> list[Any]:
    return list(entry) if isinstance(entry, Sequence) else [entry]


def scaled_sizes(sizes: Sequence[int], width: float) -> list[int]:
    """Layer sizes times ``width``, rounded, at least 1."""
    return [max(1, round(size * width)) for size in sizes]


def _prefix(picked: Tensor, layout: Layout, wanted: int) -> tuple[Tensor, Layout]:
    """Flat indices of the first ``wanted`` picks of each cloud, without repetitions, and their layout."""
    ptr, size = layout
    if size is not None:
        count = min(wanted, size)
        ends = torch.arange(len(picked) + 1, device=ptr.device) * count
        return picked[:, :count].reshape(-1), Layout(ends, count)
    sizes = ptr.diff().clamp_max(wanted)
    distinct = torch.arange(wanted, device=ptr.device) < sizes[:, None]
    return picked[:, :wanted][distinct], Layout(torch.cat([ptr[:1], sizes.cumsum(0)]))


def _rows(coarse: Layout, fine: Layout) -> Tensor:
    """(Mc,) row of each centre in the finer level, where the centres are the first points of their cloud."""
    if coarse.size is not None:
        inside = torch.arange(coarse.size, device=coarse.ptr.device)
        return (fine.ptr[:-1, None] + inside).view(-1)
    shift = (fine.ptr - coarse.ptr)[:-1].repeat_interleave(coarse.ptr.diff())
    return torch.arange(len(shift), device=shift.device) + shift


def published_state(state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Constructor keywords and state for the weights of the widely used PyTorch PointNet++ classifiers, else None.

    The weight ``sa1.mlp_convs.0`` identifies the single-scale network and ``sa1.conv_blocks.0.0`` the multi-scale one,
    whose published columns have the features first. The sizes come from the shapes. Such files do not hold the radii
    and the numbers of centres and neighbours, so the published ones are used. The classifier is ignored.
    """
    msg = "sa1.conv_blocks.0.0.weight" in state
    if not msg and "sa1.mlp_convs.0.weight" not in state:
        return None
    if any(key.startswith(("sa4.", "fp1.")) for key in state) or "sa3.mlp_convs.0.weight" not in state:
        return None  # the segmentation networks, which group differently
    ours: dict[str, Tensor] = {}
    channels: list[Any] = []
    for number, level in ((1, "levels.0."), (2, "levels.1."), (3, "last.")):
        sizes: list[list[int]] = []
        for scale in range(3 if msg and number < 3 else 1):
            convs, norms = ("conv_blocks", "bn_blocks") if msg and number < 3 else ("mlp_convs", "mlp_bns")
            middle = f"{scale}." if msg and number < 3 else ""
            target = level if number == 3 else f"{level}scales.{scale}."
            sizes.append([])
            while (weight := state.get(f"sa{number}.{convs}.{middle}{len(sizes[-1])}.weight")) is not None:
                i = len(sizes[-1])
                weight = weight.flatten(1)
                if msg and number < 3 and i == 0:
                    weight = weight.roll(3, 1)
                ours[f"{target}linears.{i}.weight"] = weight
                ours[f"{target}linears.{i}.bias"] = state[f"sa{number}.{convs}.{middle}{i}.bias"]
                source = f"sa{number}.{norms}.{middle}{i}."
                ours |= {f"{target}norms.{i}.{k[len(source) :]}": v for k, v in state.items() if k.startswith(source)}
                sizes[-1].append(len(weight))
        channels.append(sizes if msg and number < 3 else sizes[0])
    keywords = {
        "scales": "msg" if msg else "ssg",
        "in_channels": ours["levels.0.scales.0.linears.0.weight"].shape[1],
        "channels": channels,
    }
    return keywords, ours
