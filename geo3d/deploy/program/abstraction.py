"""A PointNet++ for clouds of one size as compiled calls, bound to their buffers once and run many times.

At one cloud a call, most of the time of the plain encoder goes into torch's and Python's work around its few compiled
calls: checks, conversions and small tensors. Here that work is done once for each size of a batch.

M points, B clouds, G centres of all clouds, C channels.
"""

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn

from geo3d.cloud import Features, Layout, Level
from geo3d.deploy.program.plan import floats
from geo3d.encoders.pointnet2 import PointNet2
from geo3d.nn.set_abstraction import PooledMLP, SetAbstraction
from geo3d.ops import native
from geo3d.ops.dense.grouped import WHAT
from geo3d.ops.native.pointers import Place
from geo3d.ops.search.three_nearest import interpolate

Call = Callable[[], None]
Bind = Callable[..., Call]
"""Binds a compiled function; its first argument is the stage to which its time belongs."""


def compiles(encoder: nn.Module) -> bool:
    """Whether an encoder is a PointNet2 in evaluation, all of whose layers the compiled kernels compute as they are."""
    if type(encoder) is not PointNet2 or encoder.training:
        return False
    scales = [scale for level in encoder.levels if isinstance(level, SetAbstraction) for scale in level.scales]
    networks = [each for each in (*scales, encoder.last) if isinstance(each, PooledMLP)]
    return all(net.first.input_quantizer is None and net.first.pool is None and net.runs_compiled() for net in networks)


class AbstractionPlan:
    """The calls for B clouds of one size, bound to the compiled library that is in use when the plan is made.

    Args:
        encoder: A PointNet2 for which :func:`compiles` is true, whose weights will not change.
        size: N, the points of each cloud. A cloud must have no fewer points than the first level has centres.
        clouds: B.
        threads: Number of threads.
    """

    def __init__(self, encoder: PointNet2, size: int, clouds: int, threads: int) -> None:
        self.encoder, self.size, self.clouds, self._threads = encoder, size, clouds, threads
        self._times: dict[str, float] | None = None
        rows, count = size * clouds, encoder.num_samples[0]
        self._pos, self._ptr = Place(torch.float32, rows, 3), Place(torch.int64, clouds + 1)
        self._picks, first = Place(torch.int64, clouds * count), torch.zeros(clouds, dtype=torch.int64)
        points, what = (rows, clouds), "farthest_points: pos, ptr or start"
        self._sampling = []
        if encoder.start == "farthest":
            self._sampling.append(
                self._bind("knn", "farthest_from_centroid", *points, self._pos, self._ptr, first, what=what)
            )
        self._sampling.append(
            self._bind("knn", "farthest_points", *points, count, self._pos, self._ptr, first, self._picks, what=what)
        )
        pos, layout = self._pos, Layout(self._ptr, size)  # type: ignore[arg-type]
        self._levels: list[_LevelPlan] = []
        for abstraction, number in zip(encoder.levels, encoder.num_samples, strict=True):
            assert isinstance(abstraction, SetAbstraction)
            self._levels.append(_LevelPlan(abstraction, clouds, pos, layout, number, self._bind))
            pos, layout = self._levels[-1].centers, self._levels[-1].layout
        number, what = clouds * encoder.num_samples[-1], "three_nearest: pos, centers or their offsets"
        self._last = None if encoder.last is None else _LastPlan(encoder.last, number, clouds, self._bind)
        self._nearest, self._weight = torch.empty(rows, 3, dtype=torch.int64), floats(rows, 3)
        self._three = self._bind(
            "knn", "three_nearest", rows, number, clouds, self._pos, self._ptr, pos, layout.ptr, self._nearest,
            self._weight, what=what,
        )  # fmt: skip

    def run(self, x: Tensor, pos: Tensor, ptr: Tensor, times: dict[str, float] | None = None) -> Features:
        """The features of the clouds.

        Args:
            x: (M, in_channels) float32 inputs of the encoder.
            pos: (M, 3) float32, contiguous.
            ptr: (B + 1,) int64 offsets, contiguous.
            times: Milliseconds by stage, to which those of the compiled calls are added.
        """
        self._times = times
        self._pos.put(pos)
        self._ptr.put(ptr)
        picks = self._picks.fresh()
        for call in self._sampling:
            call()
        features = x if self.encoder.absolute else x[:, 3:] if x.shape[1] > 3 else None
        levels = [Level(pos, Layout(ptr, self.size), x)]
        for plan in self._levels:
            levels.append(plan(pos, features, picks))
            features = levels[-1].x
        last = levels[-1]
        if self._last is None:
            cloud = last.x.view(self.clouds, -1, last.x.shape[1]).amax(1)
        else:
            cloud = self._last(torch.cat([last.pos, last.x], 1))
        self._three()
        return Features(interpolate(last.x, self._nearest, self._weight), cloud, tuple(levels))

    def _bind(self, stage: str, function: str, *arguments: object, what: str) -> Call:
        run = native.bound(function, self._threads, *arguments, what=what)

        def call() -> None:
            if self._times is None:
                return run()
            start = perf_counter()
            run()
            self._times[stage] += 1e3 * (perf_counter() - start)

        return call


class _LevelPlan:
    """One set abstraction of a plan: the centres are the first ``number`` picks of each cloud."""

    def __init__(
        self, abstraction: SetAbstraction, clouds: int, pos: Place, finer: Layout, number: int, bind: Bind
    ) -> None:
        assert finer.size is not None
        rows, groups = clouds * finer.size, clouds * number
        self.number, self.clouds = number, clouds
        self.layout = Layout(torch.arange(clouds + 1) * number, number)
        self.centers = Place(torch.float32, groups, 3)
        inside = torch.arange(clouds)[:, None] * finer.size + torch.arange(number)
        self._rows = None if isinstance(finer.ptr, Place) else inside.view(-1)
        self._calls: list[Call] = []
        self._outs: list[Place] = []
        first = abstraction.scales[0]
        assert isinstance(first, PooledMLP)
        width = first.first.in_features - 3
        self._features = Place(torch.float32, rows, width) if width else None
        for radius, k, scale in zip(abstraction.radii, abstraction.num_neighbors, abstraction.scales, strict=True):
            assert isinstance(scale, PooledMLP)
            weights, norms, eps = scale.fixed()
            near, count = torch.empty(groups, k, dtype=torch.int64), torch.empty(groups, dtype=torch.int64)
            self._calls.append(bind(
                "knn", "ball_query", rows, groups, clouds, k, float(radius**2), pos, finer.ptr, self.centers,
                self.layout.ptr, near, count, what="ball_query: pos, centers or their offsets",
            ))  # fmt: skip
            of_offset, of_features = (part.contiguous() for part in weights[0].split([3, width], 1))
            of_points = None
            if self._features is not None:
                of_points = floats(rows, len(of_features))
                self._calls.append(_product(bind, self._features, of_features, of_points))
            self._outs.append(Place(torch.float32, groups, scale.out_channels))
            self._calls.append(bind(
                "gather", "grouped_max", groups, k, rows, of_points, None, pos, self.centers, of_offset, near, count,
                *_network(weights, norms), eps, int(scale.activated), scale.slope, self._outs[-1], what=WHAT,
            ))  # fmt: skip

    def __call__(self, pos: Tensor, features: Tensor | None, picks: Tensor) -> Level:
        index = picks.view(self.clouds, -1)[:, : self.number].reshape(-1)
        centers = pos.index_select(0, index)
        self.centers.put(centers)
        if self._features is not None and features is not None:
            features = features.contiguous()  # must live until after the calls
            self._features.put(features)
        outs = [out.fresh() for out in self._outs]
        for call in self._calls:
            call()
        x = outs[0] if len(outs) == 1 else torch.cat(outs, 1)
        return Level(centers, self.layout, x, index if self._rows is None else self._rows)


class _LastPlan:
    """The global level of a plan, on rows ``[position ; features]`` of all centres."""

    def __init__(self, network: PooledMLP, rows: int, clouds: int, bind: Bind) -> None:
        weights, norms, eps = network.fixed()
        self._joined, of_points = Place(torch.float32, rows, weights[0].shape[1]), floats(rows, len(weights[0]))
        self._out, counts = Place(torch.float32, clouds, network.out_channels), torch.full((clouds,), rows // clouds)
        self._calls = [
            _product(bind, self._joined, weights[0].contiguous(), of_points),
            bind(
                "pooling", "grouped_max", clouds, 1, rows, of_points, None, None, None, None, None, counts,
                *_network(weights, norms), eps, int(network.activated), network.slope, self._out, what=WHAT,
            ),
        ]  # fmt: skip

    def __call__(self, joined: Tensor) -> Tensor:
        self._joined.put(joined)
        out = self._out.fresh()
        for call in self._calls:
            call()
        return out


def _product(bind: Bind, x: Place, weight: Tensor, out: Tensor) -> Call:
    """The call for ``out = x weight^T``."""
    columns, depth = weight.shape
    return bind("products", "linear", len(out), columns, depth, x, depth, weight, depth, None, out, columns, what=WHAT)


def _network(weights: list[Tensor], norms: list[Tensor]) -> tuple[int, Tensor, list[Tensor], list[Tensor]]:
    """What ``grouped_max`` takes of layers: their number and channels, the weights after the first, and the norms."""
    channels = torch.tensor([len(weight) for weight in weights])
    return len(weights), channels, [w.contiguous() for w in weights[1:]], [n.contiguous() for n in norms]
