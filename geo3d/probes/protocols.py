"""The linear probes of published papers by name, and ``strict``, geo3d's own.

A published preset reproduces the classifier, its C and the preprocessing. Some authors also picked the epoch by its
accuracy on the test split; the presets do not reproduce that. ``selection`` tells what is known about how the authors
chose. A C that they fixed after looking at the test split is biased by it.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from sklearn.svm import SVC

from geo3d.errors import ConfigError, did_you_mean
from geo3d.probes.features import ArrayLike, Labels, Matrix, standardise, train_and_test
from geo3d.probes.linear import LinearSVM, LogisticRegression, choose_C


@dataclass(frozen=True)
class Protocol:
    """How frozen features become one accuracy.

    ``SVC`` has the hinge loss, one-vs-one. ``LinearSVC`` has the squared hinge, one-vs-rest, and penalises the
    intercept, as in liblinear. ``LinearSVM`` is the same with an unpenalised intercept. ``LogisticRegression`` is
    multinomial.
    """

    name: str
    points: int | None
    """Points taken of each cloud; None takes all."""
    pooling: str
    """How the authors pooled the features of the points to the feature of a cloud."""
    classifier: Literal["SVC", "LinearSVC", "LinearSVM", "LogisticRegression"]
    C: float | tuple[float, ...]
    """One value, or several, from which cross-validation inside the training split chooses."""
    selection: str
    """How the authors chose their model and C."""
    seeds: int
    """Number of pretraining runs that are reported."""
    source: str
    scaling: bool = False
    """Whether features are standardised by the statistics of the training split."""
    folds: int = 3
    """Folds of the cross-validation."""


CROSSPOINT = Protocol(
    name="crosspoint",
    points=1024,
    pooling="max and mean",
    classifier="SVC",
    C=0.1,
    selection="best test accuracy over epochs",
    seeds=1,
    source="CrossPoint, train_crosspoint.py; arXiv 2203.00680",
)
CROSSPOINT_EVAL = Protocol(
    name="crosspoint_eval",
    points=1024,
    pooling="max and mean",
    classifier="SVC",
    C=0.01,
    selection="C left to be tuned",
    seeds=1,
    source="CrossPoint, eval_ssl.ipynb; arXiv 2203.00680",
)
STRL = Protocol(
    name="strl",
    points=2048,
    pooling="its DGCNN's, 1024 channels",
    classifier="SVC",
    C=1.0,
    selection="validation loss",
    seeds=1,
    source="STRL, BYOL/evaluate_dgcnn.py; arXiv 2109.00179",
)
OCCO = Protocol(
    name="occo",
    points=None,
    pooling="the encoder's",
    classifier="SVC",
    C=1.0,
    selection="test accuracy of every second epoch",
    seeds=1,
    source="OcCo, train_svm.py; arXiv 2010.01089",
)
IAE = Protocol(
    name="iae",
    points=2048,
    pooling="its DGCNN's",
    classifier="LinearSVC",
    C=1.0,
    selection="not stated",
    seeds=1,
    source="IAE, classification/train_svm.py; arXiv 2201.00785",
)
POINTMAE = Protocol(
    name="pointmae",
    points=1024,
    pooling="its transformer's global feature",
    classifier="LinearSVC",
    C=1.0,
    selection="best accuracy over epochs on the split it reports",
    seeds=1,
    source="Point-MAE, runner_pretrain.py; arXiv 2203.06604",
)
M2AE = Protocol(
    name="m2ae",
    points=1024,
    pooling="max plus mean",
    classifier="SVC",
    C=0.012,
    selection="C for ModelNet40; not stated how",
    seeds=1,
    source="Point-M2AE, runner_test_svm.py; arXiv 2205.14401",
)
M2AE_SCANOBJECTNN = Protocol(
    name="m2ae_scanobjectnn",
    points=1024,
    pooling="max plus mean",
    classifier="SVC",
    C=0.042,
    selection="C for OBJ_BG; not stated how",
    seeds=1,
    source="Point-M2AE, runner_test_svm.py; arXiv 2205.14401",
)
I2P = Protocol(
    name="i2p",
    points=1024,
    pooling="max",
    classifier="SVC",
    C=0.0093,
    selection="C for ModelNet40; not stated how",
    seeds=1,
    source="I2P-MAE, runner_test_svm.py; arXiv 2212.06785",
)
I2P_SCANOBJECTNN = Protocol(
    name="i2p_scanobjectnn",
    points=1024,
    pooling="max",
    classifier="SVC",
    C=0.018,
    selection="C for OBJ_BG; not stated how",
    seeds=1,
    source="I2P-MAE, runner_test_svm.py; arXiv 2212.06785",
)
RECON = Protocol(
    name="recon",
    points=1024,
    pooling="its transformer's",
    classifier="LinearSVC",
    C=0.075,
    selection="not stated",
    seeds=1,
    source="ReCon, runner_svm.py; arXiv 2302.02318",
)
POINTJEPA = Protocol(
    name="pointjepa",
    points=1024,
    pooling="max plus mean",
    classifier="SVC",
    C=0.012,
    selection="scored at every validation; C is that of m2ae",
    seeds=10,
    source="Point-JEPA, point_jepa.py; arXiv 2404.16432",
)
STRICT = Protocol(
    name="strict",
    points=None,
    pooling="the encoder's",
    scaling=True,
    classifier="LinearSVM",
    C=(1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    selection="C by cross-validation inside the training split; the test split is scored once",
    seeds=3,
    source="geo3d",
)

STRICT_LOGISTIC = replace(STRICT, name="strict_logistic", classifier="LogisticRegression")

PROTOCOLS = {
    preset.name: preset
    for preset in (
        CROSSPOINT,
        CROSSPOINT_EVAL,
        STRL,
        OCCO,
        IAE,
        POINTMAE,
        M2AE,
        M2AE_SCANOBJECTNN,
        I2P,
        I2P_SCANOBJECTNN,
        RECON,
        POINTJEPA,
        STRICT,
        STRICT_LOGISTIC,
    )
}
"""Command-line name -> preset."""


def protocol(name: str) -> Protocol:
    """The preset of that name.

    Raises:
        ConfigError: If there is none.

    Example:
        >>> protocol("iae").C
        1.0
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol={name} does not exist; {did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def evaluate(
    protocol: Protocol, train_x: ArrayLike, train_y: ArrayLike, test_x: ArrayLike, test_y: ArrayLike, seed: int = 0
) -> dict[str, Any]:
    """The accuracy on the test features, which are scored once, with the classifier, C and sizes used.

    Args:
        protocol: A preset.
        train_x: (n, D) features.
        train_y: (n,) labels.
        test_x: (m, D) features.
        test_y: (m,) labels.
        seed: Seed of the folds of the cross-validation.

    Returns:
        ``protocol``, ``accuracy`` (0 to 1), ``classifier``, ``C``, ``train`` and ``test`` (numbers of clouds),
        ``channels``, and ``cross_validation``: for each C the fold accuracies, None if the protocol fixes C.

    Raises:
        CloudError: If the features or labels cannot be used, or a class has fewer clouds than there are folds.
    """
    x, y, tx, ty = train_and_test(train_x, train_y, test_x, test_y)
    if protocol.scaling:
        x, tx = standardise(x, tx)
    C, table = protocol.C, None
    if isinstance(C, tuple):
        model = LogisticRegression if protocol.classifier == "LogisticRegression" else LinearSVM
        C, table = choose_C(x, y, C, protocol.folds, seed, model)
    predicted = classify(protocol, C, x, y, tx)
    return {
        "protocol": protocol.name,
        "accuracy": float((predicted == ty).mean()),
        "classifier": protocol.classifier,
        "C": C,
        "train": len(x),
        "test": len(tx),
        "channels": x.shape[1],
        "cross_validation": table,
    }


def classify(protocol: Protocol, C: float, x: Matrix, y: Labels, test_x: Matrix) -> Labels:
    """(m,) labels that the protocol's classifier, trained on ``x`` and ``y``, predicts for ``test_x``."""
    if protocol.classifier == "SVC":
        return np.asarray(SVC(kernel="linear", C=C, cache_size=1000).fit(x, y).predict(test_x))
    if protocol.classifier == "LogisticRegression":
        return LogisticRegression(C).fit(x, y).predict(test_x)
    return LinearSVM(C, penalise_intercept=protocol.classifier == "LinearSVC").fit(x, y).predict(test_x)
