import json

import numpy as np
import pytest
from scipy import stats

from geo3d.errors import ConfigError
from geo3d.probes.summary import compare, paired_gain, summarise


def test_summarise_is_numpys():
    values = np.random.default_rng(0).uniform(size=7)
    got = summarise(values)
    assert got["mean"] == pytest.approx(values.mean()) and got["std"] == pytest.approx(values.std(ddof=1))
    assert got["values"] == list(values) and got["count"] == 7
    assert summarise([0.5]) == {"mean": 0.5, "std": None, "values": [0.5], "count": 1}


def test_paired_gain_is_the_paired_t_statistic():
    g = np.random.default_rng(1)
    floor = g.uniform(size=6)
    result = floor + 0.1 + 0.02 * g.normal(size=6)
    got = paired_gain(result, floor)
    assert got["mean"] == pytest.approx((result - floor).mean())
    assert got["standard_error"] == pytest.approx(stats.sem(result - floor))
    assert got["ratio"] == pytest.approx(stats.ttest_rel(result, floor).statistic)


def test_gain_of_one_pair_or_of_equal_pairs_has_no_ratio():
    assert paired_gain([0.75], [0.5]) == {"mean": 0.25, "standard_error": None, "ratio": None}
    assert paired_gain([0.75, 0.5], [0.5, 0.25]) == {"mean": 0.25, "standard_error": 0.0, "ratio": None}


def test_compare():
    record = compare([0.7, 0.72], [0.9, 0.88], [0.92])
    assert record["fraction"] == pytest.approx((0.89 - 0.71) / (0.92 - 0.71))
    assert record["gain"]["mean"] == pytest.approx(0.18)
    assert record["ceiling"]["count"] == 1
    json.dumps(record, allow_nan=False)
    assert compare([0.7], [0.6], [0.9])["fraction"] == pytest.approx(-0.5)
    without = compare([0.7], [0.6])
    assert without["ceiling"] is None and without["fraction"] is None
    assert compare([0.7], [0.8], [0.7])["fraction"] is None


def test_bad_input():
    with pytest.raises(ConfigError, match="2 results but 1 floors; pair each"):
        compare([0.7], [0.8, 0.9])
    with pytest.raises(ConfigError, match="at least one value"):
        summarise([])
    with pytest.raises(ConfigError, match="all finite"):
        summarise([0.5, float("nan")])
