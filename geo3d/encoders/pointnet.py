"""PointNet (arXiv:1612.00593) without its classifier."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.checks import Range, checked
from geo3d.cloud import Features, Layout, Level, layout_of
from geo3d.encoders.inputs import Inputs, cloud_inputs, input_batch, input_channels, point_inputs
from geo3d.errors import ConfigError
from geo3d.nn.graph import Op
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.normalized import normalized_leaky_relu
from geo3d.nn.set_abstraction import PooledMLP, pooled_ops
from geo3d.ops.search.farthest import padded, padded_rows

REGULARIZER = 0.001
"""The paper's loss weight of the term that keeps the feature transform close to orthogonal."""


class Transform(nn.Module):
    """(B, size, size) matrices, one per cloud: the identity plus what a small network predicts from the points.

    Args:
        in_channels: Channels of a point.
        size: Rows of the matrix.
        width: Multiplies the published layer sizes.
    """

    def __init__(self, in_channels: int, size: int, width: float = 1.0) -> None:
        super().__init__()
        c64, c128, c256, c512, c1024 = (max(1, round(c * width)) for c in (64, 128, 256, 512, 1024))
        self.size = size
        self.pool = PooledMLP([in_channels, c64, c128, c1024])
        self.head = nn.Sequential(
            linear(c1024, c512, bias=True), BatchNorm(c512), nn.ReLU(),
            linear(c512, c256, bias=True), BatchNorm(c256), nn.ReLU(),
            linear(c256, size * size, bias=True),
        )  # fmt: skip

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(B, size, size) from points (M, in_channels)."""
        matrix = self.head(self.pool(x, layout)).view(-1, self.size, self.size)
        return matrix + torch.eye(self.size, dtype=x.dtype, device=x.device)

    def ops(self, path: str, x: str, rows: str) -> list[Op]:
        """The operations that compute ``path``: the value ``rows`` times the matrices predicted from points ``x``."""
        pool, head = pooled_ops(f"{path}.pool", x, 3), f"{path}.head"
        return [
            *pool,
            Op("max", f"{path}.pool", (pool[-1].path,)),
            Op("dense", f"{head}.0", (f"{path}.pool",), f"{head}.1", 0.0),
            Op("dense", f"{head}.3", (f"{head}.0",), f"{head}.4", 0.0),
            Op("dense", f"{head}.6", (f"{head}.3",)),
            Op("matmul", path, (rows, f"{head}.6")),
        ]


def transformed(x: Tensor, matrix: Tensor, layout: Layout) -> Tensor:
    """(M, C) points: those of cloud b times ``matrix[b]`` (C, C)."""
    clouds = padded(x, *layout, 0.0) @ matrix
    rows = clouds.flatten(0, 1)
    return rows if layout.size is not None else rows[padded_rows(layout.ptr, clouds.shape[1], len(x))]


class PointNet(nn.Module):
    """Cloud features, the maximum over an embedding of the points, and 64-channel features of each point.

    ``point`` holds the local features of the published segmentation network (after the feature transform). That
    network concatenates them with the cloud features, as :class:`geo3d.decoders.GlobalConcat` does. The cloud features
    are invariant to the order of the points; the point features are permuted with the points.

    BatchNorm in the transforms normalises over the clouds of the batch, so training needs at least two clouds.

    Args:
        embedding: Channels of the cloud features.
        in_channels: 3 for the coordinates, or more: see :func:`geo3d.encoders.inputs.point_inputs`. The input transform
            acts on the coordinates only.
        inputs: Fields read beside the coordinates, such as ``("rgb",)``; ``in_channels`` then follows from them.
        input_transform: Whether coordinates are multiplied by a predicted 3 x 3 matrix.
        feature_transform: Whether local features are multiplied by a predicted 64 x 64 matrix.
        width: Multiplies all layer sizes except ``embedding``.

    Raises:
        ConfigError: If an argument is out of its range.

    Example:
        >>> features = PointNet(embedding=32, width=0.25).eval()(Data(pos=torch.eye(3)))
        >>> features.point.shape, features.cloud.shape
        (torch.Size([3, 16]), torch.Size([1, 32]))
    """

    @checked
    def __init__(
        self,
        embedding: Annotated[int, Range(1, 16384)] = 1024,
        in_channels: Annotated[int, Range(3, 1024)] = 3,
        input_transform: bool = True,
        feature_transform: bool = True,
        width: Annotated[float, Range(0, 8, above=True)] = 1.0,
        inputs: Inputs = (),
    ) -> None:
        super().__init__()
        in_channels, self.inputs = input_channels(in_channels, inputs), tuple(inputs)
        self.embedding, self.in_channels, self.width = embedding, in_channels, width
        self.input_transform, self.feature_transform = input_transform, feature_transform
        local, middle = (max(1, round(c * width)) for c in (64, 128))
        self.input_net = Transform(in_channels, 3, width) if input_transform else None
        self.local = nn.Sequential(linear(in_channels, local, bias=True), BatchNorm(local))
        self.feature_net = Transform(local, local, width) if feature_transform else None
        self.pool = PooledMLP([local, middle, embedding], activated=False)
        self.point_channels = local
        self.cloud_channels = embedding
        self.level_channels = (in_channels,)

    def forward(self, data: Data) -> Features:
        """Features of any PyG ``Data`` or ``Batch`` with ``pos``."""
        features, _ = self.with_matrix(data)
        return features

    def with_regularizer(self, data: Data) -> tuple[Features, Tensor | None]:
        """The features, and the term that the paper adds to the training loss (None without a feature transform)."""
        features, matrix = self.with_matrix(data)
        return features, None if matrix is None else REGULARIZER * orthogonality(matrix.float())

    def with_matrix(self, data: Data) -> tuple[Features, Tensor | None]:
        """The features, and the (B, C, C) matrices of the feature transform (None without one)."""
        batch = input_batch(data)
        layout = layout_of(batch)
        x = point_inputs(batch, self.in_channels, self.inputs)
        level = Level(batch.pos, layout, x)
        if self.input_net is not None:
            turned = transformed(batch.pos, self.input_net(x, layout), layout)
            x = torch.cat([turned, x[:, 3:]], 1)
        point = normalized_leaky_relu(self.local[1], self.local[0](x))
        matrix = None
        if self.feature_net is not None:
            matrix = self.feature_net(point, layout)
            point = transformed(point, matrix, layout)
        return Features(point, self.pool(point, layout), (level,)), matrix

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        ops, x = cloud_inputs(self.in_channels)
        if self.input_net is not None:
            ops += self.input_net.ops("input_net", x, "pos")
            if x == "input":
                ops.append(Op("concat", "turned", ("input_net", "x")))
            x = ops[-1].path
        ops.append(Op("dense", "local.0", (x,), "local.1", 0.0))
        point = "local.0"
        if self.feature_net is not None:
            ops += self.feature_net.ops("feature_net", point, point)
            point = "feature_net"
        pool = [*pooled_ops("pool", point, 2)]
        pool[-1] = pool[-1]._replace(slope=None)
        top = pool[-1].path
        return (*ops, Op("concat", "point", (point,)), *pool, Op("max", "cloud", (top,)))

    def with_channels(self, sizes: Mapping[str, int]) -> "PointNet":
        """Not supported: the predicted matrices must keep the size of the features that they multiply.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("channels of a PointNet cannot be taken out; use a DGCNN or a PointNet2, or group='weight'")


def orthogonality(matrix: Tensor) -> Tensor:
    """The mean () of ``||A A^T - I||`` over matrices A (B, C, C), which is 0 for orthogonal ones.

    The paper adds ``REGULARIZER`` times this to the loss when the feature transform is trained. (The widely used
    PyTorch code computes ``||A (A^T - I)||``, which is another quantity.)
    """
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.matrix_norm(matrix @ matrix.mT - eye).mean()


def published_state(state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Constructor keywords and state for the weights of the widely used PyTorch PointNet classifier, else None.

    The weights ``feat.conv1`` to ``feat.conv3`` and ``feat.bn1`` to ``feat.bn3`` identify it. The encoder gets the
    transforms that the file has. The classifier is ignored.
    """
    if not all(f"feat.conv{i}.weight" in state and f"feat.bn{i}.weight" in state for i in (1, 2, 3)):
        return None
    layers = {"conv1": "local.0", "bn1": "local.1"}
    layers |= {"conv2": "pool.linears.0", "bn2": "pool.norms.0", "conv3": "pool.linears.1", "bn3": "pool.norms.1"}
    inside = {f"conv{i}": f"pool.linears.{i - 1}" for i in (1, 2, 3)}
    inside |= {f"bn{i}": f"pool.norms.{i - 1}" for i in (1, 2, 3)}
    inside |= {"fc1": "head.0", "bn4": "head.1", "fc2": "head.3", "bn5": "head.4", "fc3": "head.6"}
    for theirs, our in (("stn", "input_net"), ("fstn", "feature_net")):
        layers |= {f"{theirs}.{layer}": f"{our}.{place}" for layer, place in inside.items()}
    ours = {}
    for key, value in state.items():
        layer, _, name = key.removeprefix("feat.").rpartition(".")
        if key.startswith("feat.") and layer in layers:
            ours[f"{layers[layer]}.{name}"] = value.flatten(1) if "conv" in layer and name == "weight" else value
    local, in_channels = ours["local.0.weight"].shape
    keywords = {
        "embedding": len(ours["pool.linears.1.weight"]),
        "in_channels": in_channels,
        "input_transform": "feat.stn.conv1.weight" in state,
        "feature_transform": "feat.fstn.conv1.weight" in state,
        "width": local / 64,
    }
    return keywords, ours
