"""Set abstraction of PointNet++ (arXiv:1706.02413): a small network on each neighbourhood, then the maximum."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from geo3d.cloud import Layout
from geo3d.errors import ConfigError
from geo3d.nn.graph import Op
from geo3d.nn.linear import Linear, linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.normalized import CHUNK, check_rows, leaky_relu_, moments, normalized_leaky_relu
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_finite, check_form_of_offsets, check_offsets
from geo3d.ops.dense.grouped import WHAT, Rows, grouped_max, grouped_max_train
from geo3d.ops.dense.matrix import signs
from geo3d.ops.library import define
from geo3d.ops.search.ball import ball_query_counts
from geo3d.ops.search.farthest import padded


def _fake_largest(rows: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    top = rows.new_empty(ptr.shape[0] - 1, rows.shape[1])
    return top, torch.empty_like(top, dtype=torch.int64)


_largest = define(  # an operator, because torch.compile does not know the size of the largest group
    "largest(Tensor rows, Tensor ptr) -> (Tensor, Tensor)",
    cpu=lambda rows, ptr: tuple(padded(rows, ptr, None, -torch.inf).max(1)),
    fake=_fake_largest,
)


class _MaxWithMoments(torch.autograd.Function):
    """(G, C) maximum of each group of rows, and (C,) mean and (C,) biased variance of all rows.

    The caller normalises only the maxima, so normalised and activated copies of all rows are never made.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ptr: Tensor, size: int | None) -> tuple[Tensor, Tensor, Tensor]:
        top, slot = _largest(rows, ptr) if size is None else padded(rows, ptr, size, -torch.inf).max(1)
        mean, var = moments(rows)
        ctx.save_for_backward(rows, slot.add_(ptr[:-1, None]), mean)
        return top, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_top: Tensor, d_mean: Tensor, d_var: Tensor) -> tuple[Tensor, None, None]:
        rows, winner, mean = ctx.saved_tensors
        slope = d_var * (2 / len(rows))
        d_rows = torch.addcmul(d_mean / len(rows) - mean * slope, rows, slope)
        return d_rows.scatter_add_(0, winner, d_top), None, None


def _dense(layer: Linear, pooled: bool) -> Tensor:
    """(out, in) matrix of a layer; if ``pooled``, it includes the pooling, which the compiled kernel does not do."""
    return layer.pool.expanded(layer.matrix()) if pooled and layer.pool is not None else layer.matrix()


def _bias(layer: Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


class PooledMLP(nn.Module):
    """Linear + BatchNorm + LeakyReLU for each step of ``channels`` on every row, then the maximum over groups of rows.

    In training the batch statistics are those of all rows. The maximum is taken before the last normalisation, which
    gives the same result: the normalisation is monotone in each channel once the sign of its scale is folded into the
    linear layer.

    Args:
        channels: Sizes from input to output, at least one step.
        activated: Whether a LeakyReLU follows the last normalisation.
        skip: How many leading columns of the input are coordinates, which compression leaves as they are.
        bias: Whether the linear layers have a bias.
        slope: Slope of the LeakyReLU for negative values; 0 makes it a ReLU.

    Raises:
        ConfigError: If ``channels`` holds no step.
    """

    def __init__(
        self,
        channels: Sequence[int],
        activated: bool = True,
        skip: int = 0,
        bias: bool = True,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ConfigError(f"channels must hold at least one layer; found {list(channels[1:])}")
        steps = list(zip(channels[:-1], channels[1:], strict=True))
        self.linears = nn.ModuleList(linear(inner, outer, bias=bias) for inner, outer in steps)
        self.norms = nn.ModuleList(BatchNorm(outer) for _, outer in steps)
        self.activated, self.slope = activated, slope
        self.out_channels = channels[-1]
        self.first.skip = skip

    @property
    def first(self) -> Linear:
        """The first linear layer."""
        layer = self.linears[0]
        assert isinstance(layer, Linear)
        return layer

    def weights(self, i: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, if any, of layer i; for the last layer with the signs of its norm's scales folded in."""
        layer = self.linears[i]
        assert isinstance(layer, Linear)
        if i < len(self.linears) - 1:
            return layer.matrix(), layer.bias
        sign = self.sign()
        return layer.matrix() * sign[:, None], None if layer.bias is None else layer.bias * sign

    def sign(self) -> Tensor:
        """(out_channels,) 1 or -1: the sign of the last norm's scale."""
        gamma = self.norms[-1].weight
        assert isinstance(gamma, Tensor)
        return signs(gamma)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(G, out_channels) from rows (R, channels[0]) in the groups of ``layout``, such as clouds."""
        ptr = layout.ptr
        check_form_of_offsets(f"{WHAT}: ptr", ptr)
        check_device(WHAT, x, ptr)
        check_offsets(WHAT, ptr, len(x))
        x = self.first.inputs(x)
        if self.runs_compiled(x):
            return self.grouped(Rows(x.float(), None, None, None, ptr.diff()), len(x))
        h = F.linear(x, *self.weights(0))
        if not self.training:
            check_finite(WHAT, h)
        return self.after_first(h, layout)

    def _layers(self) -> list[tuple[Linear, BatchNorm]]:
        pairs = zip(self.linears, self.norms, strict=True)
        return [(layer, norm) for layer, norm in pairs if isinstance(layer, Linear) and isinstance(norm, BatchNorm)]

    def runs_compiled(self, *inputs: Tensor | None) -> bool:
        """Whether :meth:`grouped` can be used with these inputs.

        It needs the compiled kernels and at least two layers, all with a norm of the same mode and eps, with running
        statistics, and with batch statistics that are not shared between processes.
        """
        norms = [norm for _, norm in self._layers()]
        if not 1 < len(norms) == len(self.norms) or len({(norm.training, norm.eps) for norm in norms}) > 1:
            return False
        if any(norm.shared or norm.running_mean is None for norm in norms):
            return False
        later = [layer for layer, _ in self._layers()[1:]]
        if any(layer.input_quantizer is not None for layer in later):
            return False  # the kernel does not round between the layers
        if any(layer.pool is not None and not hasattr(layer.pool, "expanded") for layer in later):
            return False  # such a pool records the values between the layers, which the kernel does not give out
        floats = [norms[0].weight, *(t for t in inputs if t is not None)]
        # Under autocast inputs may be in half precision; grouped() converts them.
        return native.runs(*[t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in floats])

    def fixed(self) -> tuple[list[Tensor], list[Tensor], float]:
        """What evaluation needs: the weights; for each layer bias, gamma, beta, mean and variance; and eps."""
        layers = self._layers()
        fives = [(_bias(c), n.weight, n.bias, n.running_mean, n.running_var) for c, n in layers]
        weights = [_dense(layer, i > 0) for i, (layer, _) in enumerate(layers)]
        return weights, [t for five in fives for t in five if t is not None], layers[0][1].eps

    def grouped(self, rows: Rows, total: int, first: Tensor | None = None) -> Tensor:
        """(G, out_channels) from rows in groups, by the compiled operator; in single precision under autocast too.

        Args:
            rows: The edges of a ball query, or rows as they are.
            total: Number of rows; a row that a ball repeats counts each time.
            first: The weight of the first layer, if it is not the layer's own.
        """
        layers = self._layers()
        weights, eps = [_dense(layer, i > 0) for i, (layer, _) in enumerate(layers)], layers[0][1].eps
        weights[0] = weights[0] if first is None else first
        ends = eps, self.activated, self.slope
        if not layers[0][1].training:
            return grouped_max(rows, weights, self.fixed()[1], *ends)
        check_rows(total)
        norms = [t for layer, norm in layers for t in (_bias(layer), norm.weight, norm.bias)]
        out, mean, var = grouped_max_train(rows, weights, norms, *ends)
        sizes = [len(weight) for weight in weights]
        for (_, norm), m, v in zip(layers, mean.split(sizes), var.split(sizes), strict=True):
            norm.update(m, v, float(total))
        return out

    def after_first(self, h: Tensor, layout: Layout) -> Tensor:
        """(G, out_channels) from the output h (R, C) of the first linear layer, made with ``weights(0)``.

        ``h`` may be overwritten.
        """
        for i, inner in enumerate(self.norms[:-1]):
            layer = self.linears[i + 1]
            assert isinstance(layer, Linear)
            h = F.linear(layer.inputs(normalized_leaky_relu(inner, h, self.slope)), *self.weights(i + 1))
        norm = self.norms[-1]
        assert isinstance(norm, BatchNorm)
        h = h.to(norm.weight.dtype)
        if norm.training:
            if not norm.shared:
                check_rows(len(h))
            top, mean, var = _MaxWithMoments.apply(h, *layout)
            count, total = norm.joined(h.new_tensor(float(len(h))), mean * len(h))
            (squares,) = norm.joined((var + (mean - total / count) ** 2) * len(h))
            mean, var = total / count, squares / count
            norm.update(mean * self.sign(), var, count)
        else:
            groups = padded(h, *layout, -torch.inf)
            top = groups.max(1).values if h.requires_grad else groups.amax(1)  # amax is slow backward, max forward
            assert norm.running_mean is not None and norm.running_var is not None
            mean, var = norm.running_mean * self.sign(), norm.running_var
        out = (top - mean) * (norm.weight * self.sign() * torch.rsqrt(var + norm.eps)) + norm.bias
        return leaky_relu_(out, self.slope) if self.activated else out


def pooled_ops(path: str, source: str, count: int, first: int = 0) -> list[Op]:
    """The operations of layers ``first`` to ``count - 1`` of a :class:`PooledMLP`, before its maximum.

    Args:
        path: Path of the module.
        source: Name of the rows it reads.
        count: Number of its layers.
        first: Number of the first layer to describe.
    """
    ops = []
    for i in range(first, count):
        ops.append(Op("dense", f"{path}.linears.{i}", (source,), f"{path}.norms.{i}", 0.0))
        source = ops[-1].path
    return ops


class SetAbstraction(nn.Module):
    """Features of centres from the points in balls around them; several radii are concatenated (multi-scale grouping).

    The input of an edge from centre i to point j is ``[p_j - c_i ; f_j]``. The first layer computes its part
    ``W_f f_j`` once per point, before the gather. It computes ``W_p (p_j - c_i)``, which has three columns only, per
    edge, because the small difference of two projected positions would lose digits. The batch statistics are the
    published ones: over every row of the ball query's table. The compiled operator computes a repeated row once, and
    counts it as often as it occurs.

    Args:
        in_channels: Channels of the features f; 0 if the points have none.
        radii: One radius per scale.
        num_neighbors: Points in a ball, one number per scale.
        channels: Layer sizes, one sequence per scale.
        exact: How many leading features are coordinates, which compression leaves as they are.

    Raises:
        ConfigError: If ``radii``, ``num_neighbors`` and ``channels`` have different lengths.
    """

    def __init__(
        self,
        in_channels: int,
        radii: Sequence[float],
        num_neighbors: Sequence[int],
        channels: Sequence[Sequence[int]],
        exact: int = 0,
    ) -> None:
        super().__init__()
        if not len(radii) == len(num_neighbors) == len(channels):
            raise ConfigError(
                "radii, num_neighbors and channels must have one entry for each scale; found "
                f"{len(radii)}, {len(num_neighbors)} and {len(channels)}"
            )
        self.radii, self.num_neighbors, self.exact = list(radii), list(num_neighbors), exact
        self.scales = nn.ModuleList(PooledMLP([3 + in_channels, *sizes], skip=3 + exact) for sizes in channels)
        self.out_channels = sum(sizes[-1] for sizes in channels)

    def forward(
        self, pos: Tensor, features: Tensor | None, layout: Layout, centers: Tensor, center_layout: Layout
    ) -> Tensor:
        """(Mc, out_channels) from points ``pos`` (M, 3), ``features`` (M, in_channels) and ``centers`` (Mc, 3)."""
        outs = []
        for radius, k, scale in zip(self.radii, self.num_neighbors, self.scales, strict=True):
            assert isinstance(scale, PooledMLP)
            f = None if features is None else scale.first.inputs(features, skip=self.exact)
            neighbors, count = ball_query_counts(pos, layout, centers, center_layout, radius, k)
            moving = pos.requires_grad or centers.requires_grad
            if scale.runs_compiled(f, pos) and not moving:
                rows = Rows(None if f is None else f.float(), pos, centers, neighbors, count)
                outs.append(scale.grouped(rows, neighbors.numel()))
            else:
                outs.append(self._with_all_rows(scale, pos, f, centers, neighbors))
        return torch.cat(outs, 1)

    def _with_all_rows(
        self, scale: PooledMLP, pos: Tensor, features: Tensor | None, centers: Tensor, neighbors: Tensor
    ) -> Tensor:
        """(Mc, C) features of one scale, by torch's own operators, which compute repeated rows each time."""
        weight, bias = scale.weights(0)
        of_points = None if features is None else F.linear(features, weight[:, 3:], bias)
        if not self.training:
            check_finite(WHAT, pos, centers, *(() if of_points is None else (of_points,)))
        k = neighbors.shape[1]
        step = len(neighbors) if self.training or torch.is_grad_enabled() else max(1, CHUNK // k)
        parts = []
        for some, near in zip(neighbors.split(step), centers.split(step), strict=True):
            # Embedding, not indexing: its backward pass is parallel on a CPU, and several times faster.
            offset = (F.embedding(some, pos) - near[:, None]).view(-1, 3)
            if of_points is None:
                h = F.linear(offset, weight, bias)
            else:
                h = F.embedding(some.view(-1), of_points)
                h = h.addmm_(offset.to(h.dtype), weight[:, :3].t().to(h.dtype))  # autocast ignores in-place operations
            groups = torch.arange(0, len(h) + 1, k, device=h.device)
            parts.append(scale.after_first(h, Layout(groups, k)))
        return torch.cat(parts)
