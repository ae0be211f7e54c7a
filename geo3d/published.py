"""Encoders and segmentation networks with weights from well-known public files."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geo3d.decoders.build import decoder_for
from geo3d.encoders import dgcnn, pointnet, pointnet2
from geo3d.errors import CheckpointError, ConfigError
from geo3d.heads import PointClassifier
from geo3d.network import PointNetwork
from geo3d.published_segmentation import Whole, dgcnn_parts, dgcnn_scene, pointnet2_parts, pointnet2_scene

State = dict[str, Tensor]
Reader = Callable[[State], tuple[dict[str, Any], State] | Whole | None]

KNOWN: tuple[tuple[str, Reader], ...] = (
    ("DGCNN classification", dgcnn.published_state),
    ("PointNet classification", pointnet.published_state),
    ("PointNet++ classification", pointnet2.published_state),
    ("DGCNN scene segmentation", dgcnn_scene),
    ("DGCNN part segmentation", dgcnn_parts),
    ("PointNet++ scene segmentation", pointnet2_scene),
    ("PointNet++ part segmentation", pointnet2_parts),
)
"""Networks that can be read: name, and the function that makes keywords and weights from a file's."""

ENCODERS: dict[Reader, type[nn.Module]] = {
    dgcnn.published_state: dgcnn.DGCNN,
    pointnet.published_state: pointnet.PointNet,
    pointnet2.published_state: pointnet2.PointNet2,
}
"""The class of the encoder in a classification network."""

WRAPPERS = ("model_state_dict", "state_dict", "model_state", "model", "net", "network")
"""Keys under which training scripts put the weights."""

SHAPES = (IndexError, KeyError, TypeError, ValueError, RuntimeError)
"""Errors that tensors of wrong shapes can raise."""
DEEPEST = 8
"""Most levels of nested dictionaries; without a limit, one that holds itself would never end."""


def from_published(path: str | Path, *, head: bool = True, **keywords: Any) -> nn.Module:
    """The network with the public weights in a file, in evaluation mode.

    A segmentation network is whole: encoder, decoder and head (:class:`geo3d.network.PointNetwork`). Of a
    classification network only the encoder is read. The sizes come from the shapes of the weights. Nothing in the file
    is executed.

    Args:
        path: A file written by ``torch.save``.
        head: False gives the encoder of a segmentation network alone.
        keywords: Arguments of the encoder that the weights do not determine, such as ``k=20`` of DGCNN.

    Raises:
        CheckpointError: If the file cannot be read or holds the weights of no known network.
        ConfigError: If a keyword is not an argument of the encoder.
    """
    path = Path(path)
    state = _read(path)
    for name, reader in KNOWN:
        try:
            recognised = reader(state)
        except SHAPES as error:
            raise CheckpointError(f"{path}: the weights of a {name} network are damaged: {error}"[:300]) from error
        if recognised is None:
            continue
        whole = recognised if isinstance(recognised, Whole) else Whole(ENCODERS[reader], *recognised)
        allowed = inspect.signature(whole.encoder).parameters
        for keyword in keywords:
            if keyword not in allowed:
                raise ConfigError(f"{whole.encoder.__name__} has no argument {keyword!r}; it has {', '.join(allowed)}")
        try:  # on the meta device first: a damaged file may ask for a network of any size
            with torch.device("meta"):
                own = _network(whole, keywords).state_dict()
        except (ConfigError, *SHAPES) as error:
            if isinstance(error, ConfigError) and any(f".{keyword}:" in str(error) for keyword in keywords):
                raise
            raise CheckpointError(f"{path}: no {name} network has such weights: {error}"[:300]) from error
        _check_fits(own, whole.weights, f"{path} ({name})")
        network = _network(whole, keywords)
        network.load_state_dict(whole.weights, strict=False)
        return network.eval() if head or not isinstance(network, PointNetwork) else network.encoder.eval()
    known = ", ".join(name for name, _ in KNOWN)
    raise CheckpointError(f"{path}: expected the weights of one of: {known}; found the keys {_some(state)}")


def _network(whole: Whole, keywords: Mapping[str, Any]) -> nn.Module:
    encoder = whole.encoder(**{**whole.keywords, **keywords})
    if whole.decoder is None:
        return encoder
    decoder: Any = decoder_for(encoder, whole.decoder)
    return PointNetwork(encoder, decoder, PointClassifier(decoder.out_channels, **whole.head))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # pickle, zip and torch raise a dozen kinds between them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: expected a file of tensors written by torch.save; {reason[:200]}") from error
    for _ in range(DEEPEST):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    else:
        raise CheckpointError(f"{path}: expected a dictionary of tensors; found {DEEPEST} nested dictionaries")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dictionary of tensors; found {type(content).__name__}")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    for key, value in state.items():
        if not _stored(value):
            raise CheckpointError(f"{path}: {key[:80]} has shape {tuple(value.shape)} but stores less; it is damaged")
    while state and all(key.startswith("module.") for key in state):  # left by nn.DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _stored(value: Tensor) -> bool:
    """Whether the tensor is a dense CPU tensor with memory for every element, so that its shape can be trusted."""
    plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
    return plain and value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _check_fits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unknown = [key for key in weights if key not in own]
    if missing or unknown:
        raise CheckpointError(f"{source}: missing weights: {_some(missing)}; unknown weights: {_some(unknown)}")
    for key, value in weights.items():
        if value.shape != own[key].shape:
            raise CheckpointError(f"{source}: {key} should be {tuple(own[key].shape)}; found {tuple(value.shape)}")


def _some(keys: Any, most: int = 12) -> str:
    keys = list(keys)
    return (", ".join(keys[:most]) + (", ..." if len(keys) > most else "")) or "nothing"
