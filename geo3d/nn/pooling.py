"""Linear layer, norm and LeakyReLU on points, pooled by maximum and by mean."""

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear

from geo3d.cloud import Layout
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.dense.pooling import linear_pool, max_and_mean, norm_pool
from geo3d.ops.native import runs


def embed_and_pool(layer: Linear, norm: BatchNorm, slope: float, x: Tensor, layout: Layout) -> Tensor:
    """(B, 2 C) maximum and mean over each cloud of ``LeakyReLU(norm(linear(x, weight)))``.

    Args:
        layer: A layer with C output channels and no bias.
        norm: The norm of these C channels; in training its running statistics are updated.
        slope: Slope of the LeakyReLU.
        x: (M, channels) features.
        layout: Which rows belong to which cloud.
    """
    x, weight = layer.inputs(x), layer.matrix()
    fixed = not norm.training and norm.running_mean is not None and norm.running_var is not None
    if not runs(x, weight) or (fixed and torch.is_grad_enabled()):
        return max_and_mean(leaky_relu(norm(linear(x, weight)), slope), layout)
    if fixed:
        return linear_pool(x, weight, *norm.folded(), layout.ptr, slope)
    pooled, mean, var, count = norm_pool(x, weight, norm.weight, norm.bias, layout.ptr, norm.eps, slope, norm.shared)
    if norm.training:
        norm.update(mean, var, count if norm.shared else float(len(x)))
    return pooled
