"""Small networks on many rows, in evaluation: each layer with its norm and activation as one compiled product."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from geo3d.cloud import Layout
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops import native
from geo3d.ops.dense.prepacked import linear, pack


class Step(NamedTuple):
    """A linear layer and what follows it."""

    linear: Linear
    norm: BatchNorm | None
    slope: float
    """Negative slope of the activation: 0 for ReLU, 1 for none."""


def rows_through(
    layers: nn.Sequential, x: Tensor, first: Tensor | None = None, of_cloud: Tensor | None = None,
    layout: Layout | None = None,
) -> Tensor | None:  # fmt: skip
    """(M, C) what the layers make of the rows ``x`` (M, K); None if that must be computed layer by layer.

    In evaluation, norms are folded into the weights and the compiled kernels do the rest. Training, gradients, other
    devices and types, rounded or pooled inputs, tracing, vmap, and layers with hooks need the layers themselves.

    Args:
        layers: Linear layers, each perhaps followed by a BatchNorm, a ReLU or LeakyReLU, and dropout.
        x: The rows, or with ``first`` only the columns that differ between the points of a cloud.
        first: (C1, K) the columns of the first layer's weight that ``x`` is multiplied by; by default all.
        of_cloud: (B, C1) what the other columns add to the first layer's outputs, the same for all points of a cloud.
        layout: Which rows belong to which cloud, with ``of_cloud``.
    """
    if not _applies(layers, x):
        return None
    for number, step in enumerate(_steps(layers)):
        weight = first if first is not None and number == 0 else step.linear.matrix()
        scale, bias = _affine(step)
        packed = pack(weight * scale[:, None])
        if of_cloud is None or number:
            x = linear(x, packed, bias, step.slope)
            continue
        assert layout is not None
        out, ends = x.new_empty(len(x), len(weight)), layout.ptr.tolist()
        for cloud, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
            linear(x[start:end], packed, bias + scale * of_cloud[cloud], step.slope, out[start:end])
        x = out
    return x


def _affine(step: Step) -> tuple[Tensor, Tensor]:
    """(C,) factor of the product, and (C,) what is added to it, with the norm's running statistics."""
    weight, bias = step.linear.weight, step.linear.bias
    if step.norm is None:
        ones = weight.new_ones(len(weight))
        return ones, torch.zeros_like(ones) if bias is None else bias
    scale, shift = step.norm.folded()
    return scale, shift if bias is None else shift + scale * bias


def _applies(layers: nn.Sequential, x: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_grad_enabled():
        return False
    if type(x) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(x):
        return False
    if x.dtype != torch.float32 or not native.usable(x) or torch.is_autocast_enabled(x.device.type):
        return False
    if any(module._forward_hooks or module._forward_pre_hooks or module.training for module in layers.modules()):
        return False
    linears = [module for module in layers if isinstance(module, Linear)]
    return _is_chain(layers) and all(
        each.pool is None and each.input_quantizer is None and each.weight.dtype == torch.float32 for each in linears
    )


def _is_chain(layers: nn.Sequential) -> bool:
    """Whether the layers are a chain of :class:`Step`, with dropout anywhere."""
    known = (Linear, BatchNorm, nn.ReLU, nn.LeakyReLU)
    order = [type(module) for module in layers if not isinstance(module, nn.Dropout)]
    follows = {BatchNorm: (Linear,), nn.ReLU: (Linear, BatchNorm), nn.LeakyReLU: (Linear, BatchNorm)}
    before = [None, *order[:-1]]
    return (
        bool(order)
        and order[0] is Linear
        and all(kind in known and last in follows.get(kind, (last,)) for last, kind in zip(before, order, strict=True))
    )


def _steps(layers: nn.Sequential) -> Iterator[Step]:
    step: Step | None = None
    for module in layers:
        if isinstance(module, Linear):
            if step is not None:
                yield step
            step = Step(module, None, 1.0)
        elif step is not None and isinstance(module, BatchNorm):
            step = step._replace(norm=module)
        elif step is not None and isinstance(module, nn.ReLU | nn.LeakyReLU):
            step = step._replace(slope=0.0 if isinstance(module, nn.ReLU) else module.negative_slope)
    if step is not None:
        yield step
