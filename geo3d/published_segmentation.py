"""The layouts of public segmentation networks: keywords and weights of encoder, decoder and head from a state dict."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geo3d.decoders import FeaturePropagation, GlobalConcat
from geo3d.encoders import PointNet2, SegmentationDGCNN

State = dict[str, Tensor]


class Whole(NamedTuple):
    """A network and its weights."""

    encoder: type[nn.Module]
    keywords: dict[str, Any]
    """Those of the encoder."""
    weights: State
    """Of a :class:`geo3d.network.PointNetwork`, or of the encoder alone if there is no decoder."""
    decoder: Callable[..., nn.Module] | None = None
    head: Mapping[str, Any] = {}
    """Keywords of the :class:`geo3d.heads.PointClassifier`."""


class _Names:
    """Collects weights under new names.

    Args:
        state: Names and tensors as stored.
    """

    def __init__(self, state: State) -> None:
        self.state, self.weights = state, State()

    def layer(self, old: str, new: str) -> Tensor:
        """The weight (out, in) of a convolution of size 1, kept with its bias, if any, under a new name."""
        weight = self.state[f"{old}.weight"].flatten(1)
        self.weights[f"{new}.weight"] = weight
        if f"{old}.bias" in self.state:
            self.weights[f"{new}.bias"] = self.state[f"{old}.bias"]
        return weight

    def norm(self, old: str, new: str) -> None:
        """A norm with its statistics."""
        for name in (name for name in self.state if name.startswith(f"{old}.")):
            self.weights[f"{new}.{name.removeprefix(old + '.')}"] = self.state[name]

    def block(self, number: int, layer: str, norm: str) -> Tensor:
        """The weight of DGCNN's ``conv{number}.0`` and the norm ``conv{number}.1`` behind it."""
        self.norm(f"conv{number}.1", norm)
        return self.layer(f"conv{number}.0", layer)


def _dgcnn(names: _Names) -> dict[str, Any]:
    """Keywords of the encoder, from ``conv1`` to ``conv6``: edge convolutions of two, two and one layers, embedding."""
    channels: list[tuple[int, ...]] = []
    for i, numbers in enumerate(((1, 2), (3, 4), (5,))):
        path, sizes = f"encoder.layers.{i}", []
        for j, number in enumerate(numbers):
            layer, norm = (f"mlp.linears.{j}", f"mlp.norms.{j}") if len(numbers) > 1 else ("linear", "norm")
            sizes.append(len(names.block(number, f"{path}.{layer}", f"{path}.{norm}")))
        channels.append(tuple(sizes))
    embedding = len(names.block(6, "encoder.embed", "encoder.norm"))
    return {"channels": channels, "embedding": embedding, "in_channels": names.state["conv1.0.weight"].shape[1] // 2}


def _head(names: _Names, numbers: Sequence[int], dropouts: Sequence[bool]) -> list[int]:
    """Sizes of the hidden layers, which are stored under ``numbers`` and may be followed by a dropout."""
    sizes, place = [], 0
    for number, dropout in zip(numbers, dropouts, strict=True):
        sizes.append(len(names.block(number, f"head.layers.{place}", f"head.layers.{place + 1}")))
        place += 4 if dropout else 3
    names.layer(f"conv{numbers[-1] + 1}", f"head.layers.{place}")
    return sizes


def dgcnn_scene(state: State) -> Whole | None:
    """DGCNN for scenes (An Tao's code, S3DIS and ScanNet), None if ``state`` is not of one.

    The first graph is searched in the last three inputs, the position in the room.
    """
    if (
        "conv9.weight" not in state
        or "conv1.0.weight" not in state
        or any(key.startswith("transform") for key in state)
    ):
        return None
    names = _Names(state)
    keywords = _dgcnn(names)
    inputs = keywords["in_channels"]
    hidden = _head(names, (7, 8), (False, True))
    head: dict[str, Any] = {"num_classes": len(state["conv9.weight"]), "hidden": hidden, "dropout": (0.0, 0.5)}
    return Whole(SegmentationDGCNN, keywords | {"first_graph": (inputs - 3, inputs)}, names.weights, GlobalConcat, head)


def dgcnn_parts(state: State) -> Whole | None:
    """DGCNN for parts (An Tao's code, ShapeNetPart), None if ``state`` is not of one.

    The stored ``transform_net.bn3`` is the norm of ``linear1``: the code assigns that name twice. The norm of ``conv3``
    is stored as ``conv3.1`` only.
    """
    if "conv11.weight" not in state or "transform_net.transform.weight" not in state:
        return None
    names = _Names(state)
    keywords = _dgcnn(names) | {"k": 40, "first_graph": None, "align": True}
    old, new = "transform_net", "encoder.alignment"
    for i in range(2):
        names.layer(f"{old}.conv{i + 1}.0", f"{new}.edges.mlp.linears.{i}")
        names.norm(f"{old}.conv{i + 1}.1", f"{new}.edges.mlp.norms.{i}")
        names.layer(f"{old}.linear{i + 1}", f"{new}.layers.{i}")
        names.norm(f"{old}.bn{i + 3}", f"{new}.norms.{i}")
    names.layer(f"{old}.conv3.0", f"{new}.embed")
    names.norm(f"{old}.conv3.1", f"{new}.norm")
    names.layer(f"{old}.transform", f"{new}.last")
    identity = torch.eye(3).flatten().to(names.weights[f"{new}.last.bias"])
    names.weights[f"{new}.last.bias"] = names.weights[f"{new}.last.bias"] - identity
    known = names.block(7, "head.category", "head.category_norm")
    hidden = _head(names, (8, 9, 10), (True, True, False))
    # Stored columns are those of the cloud, the category and the point; ours have the category last.
    first, cloud = names.weights["head.layers.0.weight"], keywords["embedding"]
    category = slice(cloud, cloud + len(known))
    names.weights["head.layers.0.weight"] = torch.cat(
        [first[:, :cloud], first[:, category.stop :], first[:, category]], 1
    )
    head: dict[str, Any] = {"num_classes": len(state["conv11.weight"]), "hidden": hidden, "dropout": (0.5, 0.5, 0.0)}
    head |= {"categories": known.shape[1], "category_channels": len(known)}
    return Whole(SegmentationDGCNN, keywords, names.weights, GlobalConcat, head)


def pointnet2_scene(state: State) -> Whole | None:
    """PointNet++ for scenes, single-scale or multi-scale (yanx27's code), None if ``state`` is not of one.

    The stored columns of a multi-scale level have the features first. Radii and numbers of centres and neighbours,
    which the file does not hold, are the published ones.
    """
    scales = _scales(state)
    if not any(f"sa4.{layer}.weight" in state for layer in ("mlp_convs.0", "conv_blocks.0.0")):
        return None
    if "fp4.mlp_convs.0.weight" not in state:
        return None
    names = _Names(state)
    keywords = _pointnet2(names, scales, levels=4) | SCENE[scales]
    decoder = partial(FeaturePropagation, channels=_propagation(names, (4, 3, 2, 1)), cloud=False, input=False)
    return Whole(PointNet2, keywords, names.weights, decoder, _pointnet2_head(names))


def pointnet2_parts(state: State) -> Whole | None:
    """PointNet++ for parts, single-scale or multi-scale (yanx27's code), None if ``state`` is not of one.

    The last level is the whole cloud. The last step of the decoder reads the category of the cloud, the position of
    the point, its inputs, which begin with the position again, and the features of the coarser level.

    Raises:
        ValueError: If the last step has too few columns to read a category.
    """
    known = ("sa3.mlp_convs.0.weight", "fp3.mlp_convs.0.weight", "fp1.mlp_convs.0.weight")
    if any(name not in state for name in known) or any(key.startswith(("sa4.", "fp4.")) for key in state):
        return None
    names, scales = _Names(state), _scales(state)
    keywords = _pointnet2(names, scales, levels=2) | PARTS[scales]
    last = _stack(names, "sa3.mlp_convs", "sa3.mlp_bns", "encoder.last.linears", "encoder.last.norms")
    keywords["channels"] = [*keywords["channels"], last]
    steps = _propagation(names, (3, 2, 1))
    columns, others = state["fp1.mlp_convs.0.weight"].shape[1], 3 + keywords["in_channels"] + steps[1][-1]
    if columns <= others:
        raise ValueError(f"fp1.mlp_convs.0.weight: expected {others} columns and one per category; found {columns}")
    decoder = partial(FeaturePropagation, channels=steps, categories=columns - others, positions=True)
    return Whole(PointNet2, keywords, names.weights, decoder, _pointnet2_head(names))


def _scales(state: State) -> str:
    return "msg" if "sa1.conv_blocks.0.0.weight" in state else "ssg"


def _pointnet2(names: _Names, scales: str, levels: int) -> dict[str, Any]:
    """Keywords of the encoder, from the levels with balls."""
    channels: list[Any] = []
    for level in range(levels):
        old, new = f"sa{level + 1}", f"encoder.levels.{level}.scales"
        sizes: list[list[int]] = []
        if scales == "ssg":
            stored = f"{old}.mlp_convs", f"{old}.mlp_bns"
            channels.append(_stack(names, *stored, f"{new}.0.linears", f"{new}.0.norms"))
            continue
        while f"{old}.conv_blocks.{len(sizes)}.0.weight" in names.state:
            scale, first = len(sizes), f"{new}.{len(sizes)}.linears.0.weight"
            stored = f"{old}.conv_blocks.{scale}", f"{old}.bn_blocks.{scale}"
            sizes.append(_stack(names, *stored, f"{new}.{scale}.linears", f"{new}.{scale}.norms"))
            names.weights[first] = names.weights[first].roll(3, 1)  # stored columns have the features first
        channels.append(sizes)
    inputs = names.weights["encoder.levels.0.scales.0.linears.0.weight"].shape[1] - 3
    return {"scales": scales, "channels": channels, "in_channels": inputs, "absolute": True}


def _propagation(names: _Names, numbers: Sequence[int]) -> list[list[int]]:
    """Sizes of the decoder's steps, which are stored as ``fp{number}``, from coarse to fine."""
    sizes = []
    for step, number in enumerate(numbers):
        old, new = f"fp{number}", f"decoder.steps.{step}"
        sizes.append(_stack(names, f"{old}.mlp_convs", f"{old}.mlp_bns", new, new, 3))
    return sizes


def _pointnet2_head(names: _Names) -> dict[str, Any]:
    """Keywords of the head: one hidden layer."""
    hidden = len(names.layer("conv1", "head.layers.0"))
    names.norm("bn1", "head.layers.1")
    classes = len(names.layer("conv2", "head.layers.4"))
    keywords = {"num_classes": classes, "hidden": (hidden,), "bias": True, "output_bias": True}
    return keywords | {"dropout": 0.5, "negative_slope": 0.0}


SCENE: dict[str, dict[str, Any]] = {
    "ssg": {"num_samples": (1024, 256, 64, 16), "radii": (0.1, 0.2, 0.4, 0.8), "num_neighbors": (32, 32, 32, 32)},
    "msg": {
        "num_samples": (1024, 256, 64, 16),
        "radii": ((0.05, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.8)),
        "num_neighbors": ((16, 32), (16, 32), (16, 32), (16, 32)),
    },
}
"""What the files of PointNet++'s scene networks do not hold."""

PARTS: dict[str, dict[str, Any]] = {
    "ssg": {"num_samples": (512, 128), "radii": (0.2, 0.4), "num_neighbors": (32, 64)},
    "msg": {
        "num_samples": (512, 128),
        "radii": ((0.1, 0.2, 0.4), (0.4, 0.8)),
        "num_neighbors": ((32, 64, 128), (64, 128)),
    },
}
"""What the files of PointNet++'s part networks do not hold."""


def _stack(names: _Names, layers: str, norms: str, to_layers: str, to_norms: str, stride: int = 1) -> list[int]:
    """Sizes of successive layers with norms, kept under new names; modules of a Sequential are ``stride`` apart."""
    sizes: list[int] = []
    while f"{layers}.{len(sizes)}.weight" in names.state:
        i = len(sizes)
        place = (f"{to_layers}.{stride * i}", f"{to_norms}.{stride * i + 1}" if stride > 1 else f"{to_norms}.{i}")
        sizes.append(len(names.layer(f"{layers}.{i}", place[0])))
        names.norm(f"{norms}.{i}", place[1])
    return sizes
