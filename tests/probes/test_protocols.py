import json

import numpy as np
import pytest
from sklearn.svm import SVC, LinearSVC

from geo3d.errors import CloudError, ConfigError
from geo3d.probes import LinearSVM, LogisticRegression, choose_C
from geo3d.probes.protocols import PROTOCOLS, STRICT, evaluate, protocol


def split(rows, seed, classes=5):
    """Overlapping classes in unscaled, correlated, rectified features."""
    shape = np.random.default_rng(3)
    centres, mix = shape.normal(size=(classes, 6)), shape.normal(size=(6, 40)) * np.exp(shape.normal(size=40))
    g = np.random.default_rng(seed)
    y = g.integers(0, classes, rows)
    return np.maximum((centres[y] + g.normal(size=(rows, 6))) @ mix, 0), y


@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_presets_are_sklearns_classifiers(name):
    preset = PROTOCOLS[name]
    assert preset.name == name
    if preset.scaling:  # those are geo3d's own
        return
    train, test = split(200, 0), split(150, 1)
    got = evaluate(preset, *train, *test)
    if preset.classifier == "SVC":
        reference = SVC(kernel="linear", C=preset.C)
    else:
        reference = LinearSVC(C=preset.C, dual=False, max_iter=50_000)
    assert got["accuracy"] == pytest.approx(reference.fit(*train).score(*test), abs=0.014)  # two rows at a boundary
    assert got["C"] == preset.C and got["cross_validation"] is None
    assert 0.4 < got["accuracy"] < 0.98


def test_the_values_in_print():
    values = {name: (p.classifier, p.C, p.scaling) for name, p in PROTOCOLS.items() if not p.scaling}
    assert values == {
        "crosspoint": ("SVC", 0.1, False),
        "crosspoint_eval": ("SVC", 0.01, False),
        "strl": ("SVC", 1.0, False),
        "occo": ("SVC", 1.0, False),
        "iae": ("LinearSVC", 1.0, False),
        "pointmae": ("LinearSVC", 1.0, False),
        "m2ae": ("SVC", 0.012, False),
        "m2ae_scanobjectnn": ("SVC", 0.042, False),
        "i2p": ("SVC", 0.0093, False),
        "i2p_scanobjectnn": ("SVC", 0.018, False),
        "recon": ("LinearSVC", 0.075, False),
        "pointjepa": ("SVC", 0.012, False),
    }


def test_strict_chooses_inside_train_and_scales_by_train():
    (x, y), (tx, ty) = split(240, 0), split(150, 1)
    got = evaluate(STRICT, x, y, tx, ty, seed=2)
    scaled, scaled_test = (x - x.mean(0)) / x.std(0), (tx - x.mean(0)) / x.std(0)
    best, table = choose_C(scaled, y, STRICT.C, 3, seed=2)
    assert got["C"] == best and got["cross_validation"] == table
    assert got["accuracy"] == LinearSVM(best).fit(scaled, y).accuracy(scaled_test, ty)
    assert STRICT.seeds >= 3 and len(STRICT.C) == 5
    # scales of the channels do not matter, and neither do the test labels for what is chosen
    again = evaluate(STRICT, x * np.logspace(-3, 3, 40), y, tx * np.logspace(-3, 3, 40), (ty + 1) % 5, seed=2)
    assert again["C"] == best and again["accuracy"] < got["accuracy"]
    json.dumps(got)


def test_strict_logistic_is_strict_with_another_classifier():
    (x, y), (tx, ty) = split(240, 0), split(150, 1)
    got = evaluate(protocol("strict_logistic"), x, y, tx, ty, seed=2)
    scaled, scaled_test = (x - x.mean(0)) / x.std(0), (tx - x.mean(0)) / x.std(0)
    best, table = choose_C(scaled, y, STRICT.C, 3, seed=2, model=LogisticRegression)
    assert got["C"] == best and got["cross_validation"] == table
    assert got["accuracy"] == LogisticRegression(best).fit(scaled, y).accuracy(scaled_test, ty)


def test_one_against_one_and_one_against_rest_are_told_apart():
    """Classes on a line: any two are separable, but none in the middle from all the rest."""
    x = np.concatenate([np.linspace(a, a + 1, 20) for a in range(0, 14, 2)])[:, None]
    y = np.repeat(np.arange(7), 20)
    assert evaluate(protocol("strl"), x, y, x, y)["accuracy"] == 1.0
    assert evaluate(protocol("iae"), x, y, x, y)["accuracy"] < 0.9


def test_unknown_name_and_bad_input():
    with pytest.raises(ConfigError, match="protocol=pointmea does not exist; did you mean 'pointmae'"):
        protocol("pointmea")
    with pytest.raises(ConfigError, match="there are crosspoint, "):
        protocol("zzz")
    x, y = split(40, 0)
    with pytest.raises(CloudError, match="class 8 has 2 clouds, expected at least 3"):
        evaluate(STRICT, x, np.where(np.arange(40) < 2, 8, y), x, y)
    with pytest.raises(CloudError, match="at least 2 classes"):
        evaluate(protocol("strl"), x, np.zeros(40, int), x, y)
