"""Linear classifiers on frozen features: squared-hinge SVM, softmax regression, and cross-validation of C."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from typing_extensions import Self

from geo3d.errors import ConfigError
from geo3d.probes.features import ArrayLike, Labels, Matrix, as_features, as_labels, check_class_sizes, labelled
from geo3d.probes.solver import cross_entropy, principal_axes, solve, squared_hinge
from geo3d.seeds import numpy_generator


class LinearModel(ABC):
    """A linear classifier that minimises |W|^2 / 2 + C * loss.

    After ``fit`` it has ``classes (K,)``, ``weight (K, D)`` and ``bias (K,)``. With two classes, K is 2, not 1.

    Args:
        C: Weight of the loss, summed over the rows.
        tol: Stop when the objective is above its minimum by about this fraction of its value.
        max_iter: Maximum number of L-BFGS steps.
        penalise_intercept: Whether |W|^2 includes the intercepts, as in liblinear.
    """

    classes: Labels
    weight: Matrix
    bias: Matrix

    def __init__(
        self, C: float = 1.0, *, tol: float = 1e-6, max_iter: int = 1000, penalise_intercept: bool = False
    ) -> None:
        if not C > 0:
            raise ConfigError(f"C must be above 0, found {C}")
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.penalise_intercept = penalise_intercept

    @staticmethod
    @abstractmethod
    def loss(logits: Matrix, target: Matrix) -> tuple[float, Matrix, Matrix]:
        """The loss summed over rows, its gradient and the diagonal of its curvature; see ``solver.Loss``."""

    def fit(self, x: ArrayLike, y: ArrayLike, start: "LinearModel | None" = None) -> Self:
        """The model itself, after training on features (n, D) and integer labels (n,).

        Args:
            x: Features, one row per cloud; NumPy or torch.
            y: Labels, any integers.
            start: A fitted model of the same classes and channels to start from, best one with a smaller C.

        Raises:
            CloudError: If the input cannot be used (NaN, counts that differ, one class only).
            ConfigError: If ``start`` has other classes or channels.
        """
        x, y = labelled(x, y)
        axes = principal_axes(x, centre=not self.penalise_intercept)
        self.classes, index = np.unique(y, return_inverse=True)
        shape = (len(self.classes), x.shape[1])
        first = None
        if start is not None:
            if not np.array_equal(start.classes, self.classes) or start.weight.shape != shape:
                raise ConfigError(f"start is a model of shape {start.weight.shape}, expected {shape} and equal classes")
            first = np.concatenate([axes.basis.T @ start.weight.T, (start.bias + start.weight @ axes.mean)[None]])
        target = np.eye(len(self.classes))[index]
        solved = solve(axes.turn(x), target, self.C, self.loss, first, self.tol, self.max_iter, self.penalise_intercept)
        self.weight = (axes.basis @ solved[:-1]).T
        self.bias = solved[-1] - self.weight @ axes.mean
        return self

    def decision(self, x: ArrayLike) -> Matrix:
        """(n, K) logits, one column per class."""
        return as_features(x) @ self.weight.T + self.bias

    def predict(self, x: ArrayLike) -> Labels:
        """(n,) labels of the classes with the highest logits."""
        return self.classes[self.decision(x).argmax(1)]

    def accuracy(self, x: ArrayLike, y: ArrayLike) -> float:
        """Fraction of the rows whose label is predicted correctly."""
        predicted = self.predict(x)
        return float((predicted == as_labels(y, len(predicted))).mean())


class LinearSVM(LinearModel):
    """One-vs-rest SVM with squared hinge; with ``penalise_intercept=True``, the same as liblinear's ``LinearSVC``.

    Example:
        >>> x = np.array([[-2.0, 0.0], [-1.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
        >>> LinearSVM(C=1.0).fit(x, np.array([3, 3, 7, 7])).predict(np.array([[-5.0, 0.0], [4.0, 2.0]])).tolist()
        [3, 7]
    """

    loss = staticmethod(squared_hinge)


class LogisticRegression(LinearModel):
    """Softmax regression; two classes have a row of weights each, which is half the penalty of a single row."""

    loss = staticmethod(cross_entropy)

    def probability(self, x: ArrayLike) -> Matrix:
        """(n, K) probabilities of the classes."""
        logits = self.decision(x)
        exp = np.exp(logits - logits.max(1, keepdims=True))
        return exp / exp.sum(1, keepdims=True)


def stratified_folds(y: Labels, folds: int, generator: np.random.Generator) -> Labels:
    """(n,) the fold of each row, drawn so that every class is spread evenly over the folds.

    Raises:
        ConfigError: If there are fewer than two folds.
        CloudError: If a class has fewer rows than there are folds.
    """
    if folds < 2:
        raise ConfigError(f"folds must be at least 2, found {folds}")
    check_class_sizes(y, folds, f"use fewer folds than {folds}, or leave the class out")
    order = generator.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # class by class, at random inside each
    fold = np.empty(len(y), dtype=np.int64)
    fold[order] = np.arange(len(y)) % folds  # continues from class to class, so that folds also have equal sizes
    return fold


def choose_C(  # noqa: N802 (C is what everybody calls it)
    x: ArrayLike,
    y: ArrayLike,
    values: Sequence[float],
    folds: int = 3,
    seed: int = 0,
    model: type[LinearModel] = LinearSVM,
    tol: float = 1e-4,
) -> tuple[float, dict[float, list[float]]]:
    """The C with the best mean accuracy over stratified folds (the smallest if tied), and the fold accuracies by C.

    Args:
        x: (n, D) training features, already standardised if wanted.
        y: (n,) labels.
        values: Values of C to try; the solver starts from the solution for the next smaller value.
        folds: Number of folds.
        seed: Decides the folds.
        model: ``LinearSVM`` or ``LogisticRegression``.
        tol: As in ``LinearModel``.

    Raises:
        ConfigError: If there are no values, one of them is not above 0, or there are fewer than two folds.
        CloudError: If the input cannot be used, or a class has fewer rows than there are folds.
    """
    x, y = labelled(x, y)
    if not len(values) or min(values) <= 0:
        raise ConfigError(f"values of C must be above 0 and at least one, found {list(values)}")
    fold = stratified_folds(y, folds, numpy_generator(seed, "folds"))
    index = np.unique(y, return_inverse=True)[1]
    target = np.eye(index.max() + 1)[index]
    z = principal_axes(x).turn(x)  # axes of all rows: they use no labels, and rotation leaves the objective as it is
    table: dict[float, list[float]] = {float(C): [] for C in sorted(set(values))}
    for held in range(folds):
        inside, outside = fold != held, fold == held
        rows, weights = z[inside], None
        for C, accuracies in table.items():
            weights = solve(rows, target[inside], C, model.loss, weights, tol)
            logits = z[outside] @ weights[:-1] + weights[-1]
            accuracies.append(float((logits.argmax(1) == index[outside]).mean()))
    return max(table, key=lambda C: (np.mean(table[C]), -C)), table
