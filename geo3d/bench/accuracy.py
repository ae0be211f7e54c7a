"""Test accuracy of trained encoders, by their own head or by a linear probe."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d import checkpoint
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.probes.features import labelled, standardise
from geo3d.probes.linear import LinearSVM

if TYPE_CHECKING:
    from geo3d.bench.model import Contender

PROBE_C = 1e-3
"""C of the linear SVM on standardised features that scores an encoder without a head."""


class Split(NamedTuple):
    """Clouds to score on, or to fit a probe on."""

    batches: Iterable[Batch]
    y: Tensor
    """(n,) labels, in the order of the batches."""


class Clouds(NamedTuple):
    """The clouds that accuracy is measured on."""

    tests: Sequence[Split]
    """The test split, once per draw of poses."""
    train: Split
    classes: int


def correct(contender: "Contender", clouds: Clouds) -> tuple[Tensor, str]:
    """(n,) fraction of the draws in which each test cloud is classified correctly, and the kind of classifier.

    The classifier is the head saved beside the encoder. Without one, it is a linear probe fitted on the training split.

    Raises:
        ConfigError: If the head has another number of classes than the data.
    """
    head = checkpoint.load_head(contender.path)
    if isinstance(head, Classifier):
        if head.num_classes != clouds.classes:
            raise ConfigError(
                f"{contender.path}: its head knows {head.num_classes} classes, the data has {clouds.classes}; "
                "give the data it was trained on"
            )
        predict: Callable[[Tensor], Tensor] = partial(_by_head, head)
        by = "head"
    else:
        predict, by = _probe(contender, clouds.train), "linear probe"
    with torch.no_grad():
        right = [(predict(contender.features(test.batches)) == test.y).float() for test in clouds.tests]
    return torch.stack(right).mean(0), by


def _by_head(head: Classifier, features: Tensor) -> Tensor:
    return head(features).argmax(1)


def _probe(contender: "Contender", train: Split) -> Callable[[Tensor], Tensor]:
    x, y = labelled(contender.features(train.batches), train.y, f"{contender.name}, training split")
    model = LinearSVM(PROBE_C).fit(standardise(x)[0], y)
    return lambda features: torch.from_numpy(model.predict(standardise(x, features.double().numpy())[1]))


def accuracies(contenders: "Sequence[Contender]", clouds: Clouds, reference: int) -> list[dict[str, Any]]:
    """One row per contender: accuracy, gain over the reference, and the gain's standard error over clouds.

    The draws of each cloud are averaged first.
    """
    results = [correct(contender, clouds) for contender in contenders]
    rows = []
    for right, by in results:
        gain = right.double() - results[reference][0].double()
        error = None if len(gain) < 2 else float(gain.std()) / sqrt(len(gain))
        rows.append({"mean": float(right.mean()), "gain": float(gain.mean()), "standard_error": error, "by": by,
                     "clouds": len(right), "draws": len(clouds.tests)})  # fmt: skip
    return rows
