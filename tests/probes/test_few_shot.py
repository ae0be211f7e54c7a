import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from geo3d.errors import CloudError, ConfigError
from geo3d.probes.few_shot import episodes, few_label_accuracy, few_shot_accuracy
from geo3d.probes.linear import LinearSVM
from geo3d.seeds import numpy_generator


def split(rows, seed, classes=6):
    centres = 1.2 * np.random.default_rng(99).normal(size=(classes, 10))
    g = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    return 3 + centres[y] + g.normal(size=(rows, 10)), y


def test_support_and_query_from_one_split_are_disjoint_and_balanced():
    y = np.random.default_rng(0).permutation(np.repeat([2, 3, 5, 7, 11], 30))
    tasks = episodes(y, way=3, shot=4, query=20, folds=8, generator=numpy_generator(0))
    assert len(tasks) == 8
    for task in tasks:
        support, query = y[task.support].reshape(3, 4), y[task.query].reshape(3, 20)
        assert (support == support[:, :1]).all() and (query == support[:, :1]).all()
        assert len(set(support[:, 0])) == 3
        assert len(np.unique(np.concatenate([task.support, task.query]))) == 3 * 24  # nothing twice
    assert len({frozenset(y[task.support]) for task in tasks}) > 1
    assert len({tuple(task.support) for task in tasks}) == 8


def test_queries_from_the_other_split():
    y = np.repeat([0, 1, 2], 5)
    test_y = np.repeat([2, 9, 0, 1], 25)  # class 9 is not in training and is never asked for
    for task in episodes(y, 3, 5, 20, 6, numpy_generator(1), test_y):
        support, query = y[task.support].reshape(3, 5), test_y[task.query].reshape(3, 20)
        assert (query == support[:, :1]).all()
        assert len(np.unique(task.query)) == 60
        assert len(np.unique(task.support)) == 15


def test_episodes_are_decided_by_the_generator_and_cover_the_classes_evenly():
    y = np.repeat(np.arange(8), 6)
    draw = [episodes(y, 4, 2, 2, 300, numpy_generator(seed)) for seed in (0, 0, 1)]
    same = [all((a.support == b.support).all() for a, b in zip(draw[0], other, strict=True)) for other in draw[1:]]
    assert same == [True, False]
    counts = np.bincount([c for task in draw[0] for c in set(y[task.support])], minlength=8)
    assert counts.min() > 100 and counts.sum() == 1200  # 150 expected, deviation under 9


@pytest.mark.parametrize("separate", [False, True])
def test_accuracy_is_the_published_protocols(separate):
    x, y = split(240, 0)
    tx, ty = split(180, 1) if separate else (None, None)
    ours = few_shot_accuracy(x, y, tx, ty, way=5, shot=3, query=15, folds=4, seed=7)
    pool, truth = (tx, ty) if separate else (x, y)
    plain = []
    for task in episodes(y, 5, 3, 15, 4, numpy_generator(7, "episodes"), ty):
        scaler = StandardScaler().fit(x[task.support])
        svm = SVC(kernel="linear").fit(scaler.transform(x[task.support]), y[task.support])
        plain.append(svm.score(scaler.transform(pool[task.query]), truth[task.query]))
    np.testing.assert_allclose(ours, plain, atol=1e-12)
    assert 0.4 < np.mean(ours) < 1


def test_own_classifier_and_more_shots_help():
    x, y = split(600, 0)
    fit = KNeighborsClassifier(1).fit
    few = few_shot_accuracy(x, y, way=5, shot=1, folds=10, fit=fit)
    many = few_shot_accuracy(x, y, way=5, shot=20, folds=10, fit=fit)
    assert len(few) == 10 and np.mean(many) > np.mean(few) + 0.1


def test_few_labels_train_on_the_drawn_rows_only_and_scale_by_all():
    x, y = split(240, 0)
    tx, ty = split(180, 1)
    ours = few_label_accuracy(x, y, tx, ty, shots=2, draws=3, seed=4)
    scaler, generator = StandardScaler().fit(x), numpy_generator(4, "few labels")
    plain = []
    for _ in range(3):
        rows = np.concatenate([generator.permutation(np.flatnonzero(y == c))[:2] for c in range(6)])
        plain.append(LinearSVM().fit(scaler.transform(x[rows]), y[rows]).accuracy(scaler.transform(tx), ty))
    np.testing.assert_allclose(ours, plain, atol=0.006)
    assert len(set(ours)) > 1
    assert np.mean(few_label_accuracy(x, y, tx, ty, shots=30, draws=2)) > np.mean(ours)


def test_bad_input():
    x, y = split(60, 0)
    with pytest.raises(CloudError, match="class 0 has 10 clouds, expected at least 25; ask for fewer shots or queries"):
        few_shot_accuracy(x, y, way=2, shot=5, query=20)
    with pytest.raises(CloudError, match="class 0 has 10 clouds, expected at least 20; ask for fewer queries"):
        few_shot_accuracy(x, y, x, y, way=2, shot=5, query=20)
    with pytest.raises(ConfigError, match="only 6 classes; use way=6"):
        few_shot_accuracy(x, y, way=7, shot=1, query=1)
    with pytest.raises(ConfigError, match="together, or neither"):
        few_shot_accuracy(x, y, x, way=2, shot=1)
    with pytest.raises(ConfigError, match="way >= 2"):
        few_shot_accuracy(x, y, way=1, shot=1)
    with pytest.raises(CloudError, match="expected at least 11; ask for fewer shots than 11"):
        few_label_accuracy(x, y, x, y, shots=11)
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        few_label_accuracy(x, y, x, y, shots=0)
