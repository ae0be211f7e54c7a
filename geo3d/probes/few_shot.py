"""Probes with few labels: episodes of K classes and N clouds each, and N labelled clouds of every class."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.svm import SVC

from geo3d.errors import ConfigError
from geo3d.probes.features import (
    ArrayLike,
    Labels,
    Matrix,
    as_labels,
    check_class_sizes,
    labelled,
    standardise,
    train_and_test,
)
from geo3d.probes.linear import LinearSVM
from geo3d.seeds import numpy_generator

Fit = Callable[[Matrix, Labels], Any]
"""(support features, support labels) -> something with ``predict(features)``."""


class Episode(NamedTuple):
    """One K-way N-shot task, as row numbers."""

    support: Labels
    """(way * shot,) rows of the training split to learn from, class by class"""
    query: Labels
    """(way * query,) rows to classify, class by class"""


def episodes(
    labels: ArrayLike,
    way: int,
    shot: int,
    query: int,
    folds: int,
    generator: np.random.Generator,
    query_labels: ArrayLike | None = None,
) -> list[Episode]:
    """``folds`` K-way N-shot tasks, drawn independently.

    There are two published protocols. With ``labels`` alone, support and query are disjoint rows of one split (as for
    DGCNN, arXiv 2203.00680). With ``query_labels``, the queries are rows of that other split (as for transformers,
    arXiv 2203.06604).

    Args:
        labels: (n,) labels of the training split.
        way: Classes in a task.
        shot: Support rows per class.
        query: Query rows per class.
        folds: Number of tasks.
        generator: Draws classes and rows.
        query_labels: (m,) labels of the split that queries come from.

    Raises:
        ConfigError: If a number is below 1 (``way``: below 2) or there are fewer classes than ``way``.
        CloudError: If a class has too few rows.
    """
    y = as_labels(labels, len(labels), "labels")
    if min(shot, query, folds) < 1 or way < 2:
        raise ConfigError(f"expected way >= 2 and shot, query, folds >= 1, found {way}, {shot}, {query}, {folds}")
    classes = np.unique(y)
    if way > len(classes):
        raise ConfigError(f"way={way} but there are only {len(classes)} classes; use way={len(classes)} or fewer")
    if query_labels is None:
        check_class_sizes(y, shot + query, "ask for fewer shots or queries, or leave the class out")
    else:
        asked = as_labels(query_labels, len(query_labels), "query labels")
        check_class_sizes(y, shot, "ask for fewer shots, or leave the class out")
        check_class_sizes(asked, query, "ask for fewer queries, or leave the class out", classes)
    drawn = []
    for _ in range(folds):
        support, queries = [], []
        for c in generator.permutation(classes)[:way]:
            rows = generator.permutation(np.flatnonzero(y == c))
            others = rows[shot:] if query_labels is None else generator.permutation(np.flatnonzero(asked == c))
            support.append(rows[:shot])
            queries.append(others[:query])
        drawn.append(Episode(np.concatenate(support), np.concatenate(queries)))
    return drawn


def published_svm(x: Matrix, y: Labels) -> SVC:
    """The classifier of the published few-shot protocol for DGCNN: one-vs-one linear SVM, C = 1."""
    return SVC(kernel="linear", C=1.0).fit(x, y)


def few_shot_accuracy(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike | None = None,
    test_y: ArrayLike | None = None,
    *,
    way: int,
    shot: int,
    query: int = 20,
    folds: int = 10,
    seed: int = 0,
    fit: Fit = published_svm,
) -> list[float]:
    """The accuracy on each of ``folds`` episodes, with features standardised by the statistics of the support.

    Args:
        train_x: (n, D) features of the training split.
        train_y: (n,) labels.
        test_x: (m, D) features to take the queries from; by default the training split.
        test_y: (m,) labels.
        way: Classes in an episode.
        shot: Support rows per class.
        query: Query rows per class.
        folds: Number of episodes.
        seed: Decides the episodes.
        fit: Trains the classifier of an episode.

    Raises:
        ConfigError: For the reasons of ``episodes``, or if only one of ``test_x`` and ``test_y`` is given.
        CloudError: If the features or labels cannot be used, or a class has too few rows.
    """
    if (test_x is None) != (test_y is None):
        raise ConfigError("few_shot_accuracy takes test features and test labels together, or neither")
    x, y = labelled(train_x, train_y, "train features")
    pool, truth, query_labels = x, y, None
    if test_x is not None and test_y is not None:
        _, _, pool, truth = train_and_test(train_x, train_y, test_x, test_y)
        query_labels = truth
    tasks = episodes(y, way, shot, query, folds, numpy_generator(seed, "episodes"), query_labels)
    accuracies = []
    for task in tasks:
        support, queries = standardise(x[task.support], pool[task.query])
        predicted = fit(support, y[task.support]).predict(queries)
        accuracies.append(float((predicted == truth[task.query]).mean()))
    return accuracies


def few_label_accuracy(
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    shots: int = 5,
    draws: int = 10,
    seed: int = 0,
    C: float = 1.0,
) -> list[float]:
    """For each draw, the accuracy on the whole test split of a linear SVM trained on ``shots`` clouds of every class.

    Features are standardised by the statistics of the whole training split. This needs no labels, and statistics of a
    handful of clouds would be noisy.

    Args:
        train_x: (n, D) features; all of them are used for standardising, the drawn ones for training.
        train_y: (n,) labels.
        test_x: (m, D) features.
        test_y: (m,) labels.
        shots: Labelled clouds per class.
        draws: How many times to draw the labelled clouds.
        seed: Decides the draws; the same for every encoder with these labels, so that encoders can be paired.
        C: C of the ``LinearSVM``.

    Raises:
        CloudError: If the features or labels cannot be used, or a class has fewer than ``shots`` rows.
        ConfigError: If ``shots`` or ``draws`` is below 1.
    """
    if shots < 1 or draws < 1:
        raise ConfigError(f"shots and draws must be at least 1, found {shots} and {draws}")
    x, y, tx, ty = train_and_test(train_x, train_y, test_x, test_y)
    check_class_sizes(y, shots, f"ask for fewer shots than {shots}, or leave the class out")
    x, tx = standardise(x, tx)
    generator = numpy_generator(seed, "few labels")
    accuracies = []
    for _ in range(draws):
        rows = np.concatenate([generator.permutation(np.flatnonzero(y == c))[:shots] for c in np.unique(y)])
        accuracies.append(LinearSVM(C).fit(x[rows], y[rows]).accuracy(tx, ty))
    return accuracies
