import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as ReferenceLogistic
from sklearn.svm import LinearSVC

from geo3d.errors import CloudError, ConfigError
from geo3d.probes.linear import LinearSVM, LogisticRegression, choose_C, stratified_folds
from geo3d.probes.solver import cross_entropy, principal_axes, solve, squared_hinge
from geo3d.seeds import numpy_generator


def features(rows=240, channels=30, classes=4, seed=0):
    """Correlated, overlapping classes far from the origin: what an encoder's features look like."""
    g = np.random.default_rng(seed)
    y = g.integers(0, classes, rows)
    hidden = g.normal(size=(classes, 8))[y] + g.normal(size=(rows, 8))
    x = np.maximum(hidden @ g.normal(size=(8, channels)), 0) + 0.3 * g.normal(size=(rows, channels)) + 2
    return x, y


def objective(model, x, y, loss):
    target = np.eye(len(model.classes))[np.searchsorted(model.classes, y)]
    value = 0.5 * (model.weight**2).sum() + model.C * loss(model.decision(x), target)[0]
    return value + (0.5 * (model.bias**2).sum() if model.penalise_intercept else 0)


def duality_gap(model, x, y):
    """How far the squared hinge's objective is from its least value at most, by a feasible point of the dual."""
    target = 2 * np.eye(len(model.classes))[np.searchsorted(model.classes, y)] - 1
    alpha = 2 * model.C * np.maximum(1 - target * model.decision(x), 0)
    if not model.penalise_intercept:  # then both sides must weigh the same
        sides = [np.where(target == side, alpha, 0).sum(0) for side in (1, -1)]
        least = np.minimum(*sides)
        alpha = alpha * np.where(target > 0, least / sides[0], least / sides[1])
    joined = (alpha * target).T @ (x if not model.penalise_intercept else np.column_stack([x, np.ones(len(x))]))
    dual = alpha.sum() - 0.5 * (joined**2).sum() - (alpha**2).sum() / (4 * model.C)
    return objective(model, x, y, squared_hinge) - dual


@pytest.mark.parametrize("loss", [squared_hinge, cross_entropy])
def test_gradient_and_curvature_are_those_of_the_loss(loss):
    g = np.random.default_rng(1)
    scores, target = g.normal(size=(5, 3)), np.eye(3)[[0, 2, 1, 1, 0]]
    _, slope, bend = loss(scores, target)
    step = 1e-5
    for i in range(5):
        for k in range(3):
            moved = np.zeros_like(scores)
            moved[i, k] = step
            ahead, back = loss(scores + moved, target), loss(scores - moved, target)
            assert slope[i, k] == pytest.approx((ahead[0] - back[0]) / (2 * step), abs=1e-6)
            assert bend[i, k] == pytest.approx((ahead[1][i, k] - back[1][i, k]) / (2 * step), abs=1e-5)


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
def test_svm_is_liblinear_with_a_penalised_intercept(C):
    x, y = features()
    ours = LinearSVM(C, tol=1e-14, max_iter=5000, penalise_intercept=True).fit(x, y)
    theirs = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=2e-4 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.bias, theirs.intercept_, atol=1e-3 * np.abs(theirs.intercept_).max())
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
def test_svm_is_liblinear_with_a_free_intercept(C):
    x, y = features()
    x = x - x.mean(0)  # liblinear's trick of a large intercept_scaling converges badly elsewhere
    ours = LinearSVM(C, tol=1e-14, max_iter=5000).fit(x, y)
    theirs = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=100_000, intercept_scaling=300).fit(x, y)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=1e-3 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.bias, theirs.intercept_, atol=1e-3)


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
def test_logistic_is_sklearns(C):
    x, y = features()
    ours = LogisticRegression(C, tol=1e-14, max_iter=5000).fit(x, y)
    theirs = ReferenceLogistic(C=C, solver="newton-cg", tol=1e-10, max_iter=10_000).fit(x, y)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=1e-4 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.probability(x), theirs.predict_proba(x), atol=1e-4)


@pytest.mark.parametrize(("kind", "loss"), [(LinearSVM, squared_hinge), (LogisticRegression, cross_entropy)])
def test_default_tolerance_reaches_the_least_objective(kind, loss):
    x, y = features()
    for C in (1e-3, 1.0, 100.0):
        rough, fine = kind(C).fit(x, y), kind(C, tol=1e-11, max_iter=20_000).fit(x, y)
        best = objective(fine, x, y, loss)
        assert best <= objective(rough, x, y, loss) <= best * (1 + 2e-3)


def test_more_channels_than_rows():
    x, y = features(rows=40, channels=90)
    ours = LinearSVM(0.1, tol=1e-14, max_iter=5000, penalise_intercept=True).fit(x, y)
    theirs = LinearSVC(C=0.1, dual=True, tol=1e-10, max_iter=200_000, random_state=0).fit(x, y)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=1e-3 * np.abs(theirs.coef_).max())


@pytest.mark.parametrize("shape", [(50, 12), (12, 50)])
@pytest.mark.parametrize("centre", [True, False])
def test_principal_axes_are_orthonormal_and_span_the_rows(shape, centre):
    x = np.random.default_rng(0).normal(size=shape) + 3
    x[:, 3] = x[:, 2]
    axes = principal_axes(x, centre)
    np.testing.assert_allclose(axes.basis.T @ axes.basis, np.eye(axes.basis.shape[1]), atol=1e-10)
    np.testing.assert_allclose(axes.turn(x) @ axes.basis.T + axes.mean, x, atol=1e-8)
    if shape[0] > shape[1]:
        assert axes.basis.shape[1] == 11  # the doubled channel adds no direction
    turned = axes.turn(x)
    moments = turned.T @ turned
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-7)


@pytest.mark.parametrize("penalise", [False, True])
def test_warm_start_gives_the_same_solution_sooner(penalise, monkeypatch):
    x, y = features()
    keywords = {"tol": 1e-12, "max_iter": 5000, "penalise_intercept": penalise}
    near = LinearSVM(0.9, **keywords).fit(x, y)
    calls = []
    monkeypatch.setattr(LinearSVM, "loss", staticmethod(lambda *a: calls.append(1) or squared_hinge(*a)))
    cold = LinearSVM(1.0, **keywords).fit(x, y)
    cold_calls = len(calls)
    calls.clear()
    warm = LinearSVM(1.0, **keywords).fit(x, y, start=near)
    assert len(calls) < cold_calls
    # |W|^2 / 2 makes the objective grow by half the squared distance from its minimum, at least: wherever the solver
    # stops, on whatever machine, the weights are no farther from the solution than this.
    reach = sum(np.sqrt(2 * max(duality_gap(model, x, y), 0)) for model in (cold, warm))
    assert np.linalg.norm(warm.weight - cold.weight) <= reach
    assert reach < 0.1 * np.linalg.norm(near.weight - cold.weight)  # close enough to tell one C from the next


def test_two_classes_any_labels_and_torch():
    x, y = features(classes=2)
    y = np.where(y == 1, 40, -3)
    model = LinearSVM(0.1).fit(torch.tensor(x, dtype=torch.float32), torch.tensor(y)[:, None])
    assert set(model.predict(x)) == {40, -3}
    np.testing.assert_allclose(model.weight[0], -model.weight[1], atol=1e-2)
    assert model.accuracy(x, y) == (model.predict(x) == y).mean() > 0.8


def test_constant_features_give_the_prior():
    y = np.array([0, 0, 0, 1])
    assert LogisticRegression().fit(np.ones((4, 3)), y).probability(np.ones((1, 3)))[0, 0] == pytest.approx(
        0.75, abs=0.01
    )


def test_choice_is_cross_validation():
    x, y = features(rows=150, channels=60)
    best, table = choose_C(x, y, [10.0, 1e-3, 1e-1], folds=3, seed=5, tol=1e-8)
    assert list(table) == [1e-3, 1e-1, 10.0]
    fold = stratified_folds(y, 3, numpy_generator(5, "folds"))
    for C, accuracies in table.items():
        plain = [
            LinearSVM(C, tol=1e-8).fit(x[fold != f], y[fold != f]).accuracy(x[fold == f], y[fold == f])
            for f in range(3)
        ]
        np.testing.assert_allclose(accuracies, plain, atol=0.021)  # one row near a boundary may differ
    means = {C: np.mean(a) for C, a in table.items()}
    assert best == min(C for C in means if means[C] == max(means.values()))
    assert choose_C(x, y, [10.0, 1e-3, 1e-1], folds=3, seed=5, tol=1e-8) == (best, table)


def test_the_smallest_of_equally_good_values_is_chosen():
    x = np.array([[-3.0], [-2.9], [-3.1], [3.0], [2.9], [3.1]])
    best, table = choose_C(x, np.array([0, 0, 0, 1, 1, 1]), [1.0, 10.0])
    assert table == {1.0: [1.0] * 3, 10.0: [1.0] * 3}
    assert best == 1.0


def test_folds_are_stratified_and_even():
    y = np.repeat([0, 1, 2], [31, 10, 5])
    fold = stratified_folds(y, 3, numpy_generator(0))
    for c in (0, 1, 2):
        sizes = np.bincount(fold[y == c], minlength=3)
        assert sizes.max() - sizes.min() <= 1
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 1
    assert not np.array_equal(fold, stratified_folds(y, 3, numpy_generator(1)))


def test_solve_stops_at_max_iter():
    x, y = features()
    target = np.eye(4)[y]
    one = solve(x, target, 1.0, squared_hinge, tol=1e-12, max_iter=1)
    many = solve(x, target, 1.0, squared_hinge, tol=1e-12, max_iter=500)
    assert np.abs(one - many).max() > 1e-3


def test_bad_input_is_said_in_a_line():
    x, y = features(rows=20)
    with pytest.raises(CloudError, match="1 of 20 rows hold NaN"):
        bad = x.copy()
        bad[3, 2] = np.nan
        LinearSVM().fit(bad, y)
    with pytest.raises(CloudError, match=r"20 rows but labels of shape \(19,\)"):
        LinearSVM().fit(x, y[:-1])
    with pytest.raises(CloudError, match="at least 2 classes"):
        LinearSVM().fit(x, np.zeros(20, dtype=int))
    with pytest.raises(CloudError, match="expected a matrix"):
        LinearSVM().fit(x[0], y[:1])
    with pytest.raises(CloudError, match="whole numbers"):
        LinearSVM().fit(x, y + 0.5)
    with pytest.raises(ConfigError, match="C must be above 0"):
        LinearSVM(0.0)
    with pytest.raises(ConfigError, match="equal classes"):
        LinearSVM().fit(x, y, start=LinearSVM().fit(x, y % 2))
    with pytest.raises(ConfigError, match="above 0"):
        choose_C(x, y, [])
    with pytest.raises(ConfigError, match="at least 2"):
        choose_C(x, y, [1.0], folds=1)
    with pytest.raises(CloudError, match="class 9 has 1 clouds, expected at least 3; use fewer folds"):
        choose_C(x, np.where(np.arange(20) == 0, 9, y % 2), [1.0])
