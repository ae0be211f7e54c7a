"""PointNet (arXiv:1612.00593) without its classifier."""

from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geo3d.checks import Range, checked
from geo3d.cloud import Features, Layout, as_batch, layout_of
from geo3d.errors import CloudError
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.normalized import normalized_relu
from geo3d.nn.set_abstraction import PooledMLP
from geo3d.ops.search.farthest import padded, padded_rows

REGULARIZER = 0.001
"""The paper's weight of the feature transform's distance from orthogonal matrices in the loss."""


def point_inputs(batch: Batch, in_channels: int) -> Tensor:
    """(M, in_channels) coordinates, followed by ``x``, or by ``normal`` where there is no ``x``.

    Raises:
        CloudError: If ``pos`` is not (M, 3), the batch has not that many channels, or one of them is NaN or infinite;
            while torch traces a model, values are not looked at.
    """
    if batch.pos.dim() != 2 or batch.pos.shape[1] != 3:
        raise CloudError(f"pos must be (M, 3); found {tuple(batch.pos.shape)}")
    if in_channels == 3:
        return batch.pos
    name = "x" if batch.get("x") is not None else "normal"
    extra = batch.get(name)
    found = 0 if extra is None else extra.shape[1]
    if extra is None or found != in_channels - 3:
        raise CloudError(
            f"in_channels={in_channels} asks for {in_channels - 3} channels beside the coordinates; the clouds have "
            f"{found} in {name!r}; set in_channels={3 + found} or give the points x (M, {in_channels - 3})"
        )
    if not torch.compiler.is_compiling() and not bool(torch.isfinite(extra).all()):
        bad = int((~torch.isfinite(extra)).any(1).sum())
        raise CloudError(
            f"{bad} of {extra.shape[0]} points have NaN or infinite {name!r}, which in_channels={in_channels} reads; "
            "remove these points, or train with in_channels=3"
        )
    return torch.cat([batch.pos, extra.to(batch.pos.dtype)], 1)


class Transform(nn.Module):
    """A ``size x size`` matrix for each cloud, predicted from its points; the identity plus a small network's output.

    Args:
        in_channels: Channels of a point.
        size: Rows of the matrix.
        width: Factor of the published layer sizes.
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


def transformed(x: Tensor, matrix: Tensor, layout: Layout) -> Tensor:
    """(M, C) the rows of cloud b times ``matrix[b]`` (C, C)."""
    clouds = padded(x, *layout, 0.0) @ matrix
    rows = clouds.flatten(0, 1)
    return rows if layout.size is not None else rows[padded_rows(layout.ptr, clouds.shape[1], len(x))]


class PointNet(nn.Module):
    """Features of the cloud, the maximum of an embedding of its points, and 64-channel features of each point.

    ``point`` is what the published segmentation network calls the local features (after the feature transform);
    that network goes on with each point's local features and the cloud's, so a head can join them. The cloud
    features are invariant to the order of the points, and the point features move with them.

    The transforms normalise over the clouds of the batch: training them needs at least two clouds.

    Args:
        embedding: Channels of the cloud features.
        in_channels: 3, or more: see :func:`point_inputs`. The input transform acts on the coordinates only.
        input_transform: Whether coordinates are multiplied by a predicted 3 x 3 matrix.
        feature_transform: Whether local features are multiplied by a predicted 64 x 64 matrix.
        width: Factor of all layer sizes except ``embedding``.

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
    ) -> None:
        super().__init__()
        self.embedding, self.in_channels, self.width = embedding, in_channels, width
        self.input_transform, self.feature_transform = input_transform, feature_transform
        local, middle = (max(1, round(c * width)) for c in (64, 128))
        self.input_net = Transform(in_channels, 3, width) if input_transform else None
        self.local = nn.Sequential(linear(in_channels, local, bias=True), BatchNorm(local))
        self.feature_net = Transform(local, local, width) if feature_transform else None
        self.pool = PooledMLP([local, middle, embedding], activated=False)
        self.point_channels = local
        self.cloud_channels = embedding

    def forward(self, data: Data) -> Features:
        """Features of any PyG ``Data`` or ``Batch`` with ``pos``."""
        features, _ = self.with_matrix(data)
        return features

    def with_regularizer(self, data: Data) -> tuple[Features, Tensor | None]:
        """The features, and what the paper adds to the loss of a training step; None without a feature transform."""
        features, matrix = self.with_matrix(data)
        return features, None if matrix is None else REGULARIZER * orthogonality(matrix.float())

    def with_matrix(self, data: Data) -> tuple[Features, Tensor | None]:
        """The features, and the feature transform's (B, C, C) matrices for :func:`orthogonality`, if it has one."""
        batch = as_batch(data)
        layout = layout_of(batch)
        x = point_inputs(batch, self.in_channels)
        if self.input_net is not None:
            turned = transformed(batch.pos, self.input_net(x, layout), layout)
            x = torch.cat([turned, x[:, 3:]], 1)
        point = normalized_relu(self.local[1], self.local[0](x))
        matrix = None
        if self.feature_net is not None:
            matrix = self.feature_net(point, layout)
            point = transformed(point, matrix, layout)
        return Features(point, self.pool(point, layout)), matrix


def orthogonality(matrix: Tensor) -> Tensor:
    """How far matrices (B, C, C) are from orthogonal: the mean of ``||A A^T - I||``.

    The paper adds ``REGULARIZER`` times this to the loss when the feature transform is trained. (The widely used
    PyTorch code computes ``||A (A^T - I)||``, which is another quantity.)
    """
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.matrix_norm(matrix @ matrix.mT - eye).mean()


def published_state(state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Constructor keywords and state for the weights of the widely used PyTorch PointNet classifier, else None.

    Recognised by ``feat.conv1.weight``; transforms are those the file has; the classifier is ignored.
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
