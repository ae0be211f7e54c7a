"""Compression by a recipe of several steps, and what a training loop needs: loss terms and the final form."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.checks import fits, mistake, parameters, shown
from geo3d.cloud import Features
from geo3d.compress.adaptive.encoder import adapt
from geo3d.compress.adaptive.encoder import finalize as finalize_adaptive
from geo3d.compress.adaptive.encoder import restore as restore_adaptive
from geo3d.compress.prune import finalize as finalize_pruning
from geo3d.compress.prune import prune
from geo3d.compress.prune import restore as restore_pruned
from geo3d.compress.quantize import finalize as finalize_quantized
from geo3d.compress.quantize import quantize
from geo3d.compress.quantize import restore as restore_quantized
from geo3d.compress.record import ORDER, records
from geo3d.compress.structure import finalize as finalize_structure
from geo3d.compress.structure import restore as restore_structured
from geo3d.compress.structure import structure
from geo3d.errors import CheckpointError, ConfigError
from geo3d.nn.graph import reads
from geo3d.seeds import seeded


class Step(NamedTuple):
    """One kind of compression."""

    run: Callable[..., nn.Module]
    """(encoder, **keywords) -> the rewritten copy, to be trained"""
    restore: Callable[[nn.Module, Mapping[str, Any]], nn.Module]
    """(encoder, record) -> the encoder with the modules that the record describes; values are still to be loaded"""
    finalize: Callable[[nn.Module], nn.Module]
    """(encoder) -> its final form, after training"""


STEPS = {
    "structure": Step(structure, restore_structured, finalize_structure),
    "prune": Step(prune, restore_pruned, finalize_pruning),
    "quantize": Step(quantize, restore_quantized, finalize_quantized),
    "adapt": Step(adapt, restore_adaptive, finalize_adaptive),
}

SHAPING = ("structure", "prune")
"""Steps whose :func:`finalize` may change the shapes of layers; the other steps come after that."""


def parse_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The steps of a recipe with their keywords, in order.

    Args:
        recipe: A mapping from each step to its keywords, or to null. The entry ``encoder`` changes keywords of the
            encoder on which the weights do not depend, such as ``k`` or ``dynamic``.

    Raises:
        ConfigError: For an unknown step or keyword, or a value out of its range.
    """
    unknown = [name for name in recipe if name not in (*ORDER, "encoder")]
    if unknown:
        raise ConfigError(f"recipe.{unknown[0]}: no such step; a recipe has encoder, {', '.join(ORDER)}")
    for name in ORDER:
        takes = [key for key in list(inspect.signature(step(name)).parameters)[1:] if key != "moments"]
        keywords = {} if recipe.get(name) is None else recipe[name]
        if not isinstance(keywords, Mapping):
            raise ConfigError(
                f"recipe.{name}: expected keywords of {name} ({', '.join(takes)}); found {shown(keywords)}"
            )
        wrong = [key for key in keywords if key not in takes]
        if wrong:
            raise ConfigError(f"recipe.{name}.{wrong[0]}: {name} takes no '{wrong[0]}'; it takes {', '.join(takes)}")
        for key, value in keywords.items():
            if not fits(value, annotation := parameters(step(name))[key].annotation):
                raise ConfigError(f"recipe.{name}.{key}: {mistake(value, annotation)}")
    if not isinstance(recipe.get("encoder"), Mapping | None):
        value = shown(recipe["encoder"])
        raise ConfigError(f"recipe.encoder: expected keywords of the encoder, such as k; found {value}")
    return {name: dict(recipe[name] or {}) for name in ("encoder", *ORDER) if name in recipe}


def step(name: str) -> Any:
    """The function of the compression step with this name."""
    return STEPS[name].run


def apply(encoder: nn.Module, recipe: Mapping[str, Any], only: tuple[str, ...] = ORDER, **extra: Any) -> nn.Module:
    """A rewritten copy of the encoder, after the steps of the recipe that ``only`` names.

    Args:
        encoder: Any encoder.
        recipe: See :func:`parse_recipe`.
        only: Names of the steps to apply; the others are left out.
        extra: Keywords of ``structure`` that a recipe cannot hold, such as ``moments``.
    """
    for name, keywords in parse_recipe(recipe).items():
        if name in only:
            more = {key: value for key, value in extra.items() if name == "structure"}
            encoder = step(name)(encoder, **keywords, **more)
    return encoder


def with_keywords(encoder: nn.Module, recipe: Mapping[str, Any]) -> nn.Module:
    """The encoder with the keywords that the recipe's entry ``encoder`` changes, and with the same weights.

    Raises:
        ConfigError: If a keyword is not known, its value does not fit, or it changes the shape of weights.
    """
    changes = parse_recipe(recipe).get("encoder", {})
    if not changes:
        return encoder
    names = list(inspect.signature(type(encoder)).parameters)
    unknown = [name for name in changes if name not in names]
    if unknown:
        raise ConfigError(f"recipe.encoder.{unknown[0]}: {type(encoder).__name__} takes {', '.join(names)}")
    try:
        with seeded("with_keywords"):  # what is drawn here is replaced below
            other = type(encoder)(**({name: getattr(encoder, name) for name in names} | changes))
    except (TypeError, ValueError, ConfigError) as error:
        raise ConfigError(f"recipe.encoder: {error}") from None
    other = rebuild(other, records(encoder))
    try:
        other.load_state_dict(encoder.state_dict())
    except RuntimeError:
        raise ConfigError(
            f"recipe.encoder: {', '.join(changes)} would change the weights' shapes; give only keywords that do not"
        ) from None
    return other.train(encoder.training)


def outputs_left(encoder: Any) -> Tensor | None:
    """(C,) indices of the original cloud features that a pruned encoder still has; None if it has them all."""
    left = [(record["outputs"], record["outputs_of"]) for record in records(encoder) if "outputs" in record]
    if not left:
        return None
    index, total = torch.tensor(left[0][0]), left[0][1]
    times = len(reads({op.path: op for op in encoder.layer_graph()}, "cloud"))  # such as maximum and mean
    return torch.cat([index + i * total for i in range(times)])


def penalty(encoder: nn.Module) -> Tensor | None:
    """() sum of the penalties that structure and pruning add to the loss; None if there are none."""
    owners: list[Any] = [module for module in encoder.modules() if hasattr(module, "penalty")]
    terms = [owner.penalty() for owner in owners]
    return torch.stack([term.reshape(()) for term in terms]).sum() if terms else None


def added_loss(
    encoder: Any,
    batch: Batch,
    cloud: Tensor,
    generator: torch.Generator,
    head: Any = None,
    loss: Callable[[Features], Tensor] | None = None,
) -> Tensor | None:
    """() what a compressed encoder adds to the loss of a training step; None if it adds nothing.

    Args:
        encoder: The encoder in training; it need not be compressed.
        batch: The batch that it has just seen.
        cloud: (B, cloud_channels) its features of the batch.
        generator: Draws the settings of an adaptive encoder.
        head: The classifier on top of the encoder, if there is one.
        loss: The loss of the features of a smaller setting of an adaptive encoder; by default they imitate the largest.
    """
    terms = [penalty(encoder)]
    if hasattr(encoder, "extra_loss"):
        terms.append(encoder.extra_loss(batch, cloud, generator, head, loss=loss))
    present = [term for term in terms if term is not None]
    return torch.stack(present).sum() if present else None


def finalize(encoder: nn.Module) -> nn.Module:
    """The encoder in its final form after training: layers decomposed, thresholds hard, pruned channels removed."""
    for record in records(encoder):
        encoder = STEPS[record["step"]].finalize(encoder)
    return encoder


def rebuild(encoder: nn.Module, steps: Sequence[Mapping[str, Any]]) -> nn.Module:
    """The encoder with the modules that the records ``steps`` describe; their values are still to be loaded.

    Raises:
        CheckpointError: If a step is not known, or does not fit the encoder.
    """
    if not isinstance(steps, Sequence) or not all(isinstance(record, Mapping) for record in steps):
        raise CheckpointError(f"the checkpoint's compression must be a list of records; found {steps!r}")
    for record in steps:
        if record.get("step") not in ORDER:
            raise CheckpointError(
                f"the checkpoint names a compression step {record.get('step')!r}; known: {', '.join(ORDER)}"
            )
        try:
            encoder = STEPS[record["step"]].restore(encoder, record)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError, AssertionError, ConfigError) as error:
            raise CheckpointError(
                f"the record of the step {record['step']} does not fit the encoder: {error!r}"
            ) from None
    encoder.compression = [dict(record) for record in steps]  # type: ignore[assignment]
    return encoder
