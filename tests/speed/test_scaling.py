import pytest
from speed.scaling import CLOUDS, POINTS, cells, exponents, scaling, scaling_table


def test_the_grid_keeps_within_what_is_allowed():
    found = cells(POINTS, CLOUDS, 131072, 1024)
    assert all(clouds * points <= 131072 for clouds, points in found)
    assert {points for clouds, points in found if clouds == 1} == set(POINTS)
    assert {clouds for clouds, points in found if points == 1024} == set(CLOUDS)
    assert (2, 65536) in found and (8, 16384) in found


def test_exponents_are_fitted_to_lines_through_the_grid():
    rows = [
        {"encoder": "E", "clouds": b, "points": n, "median_ms": 2.0 * b * n**1.5, "peak_mb": 3.0 * b * n}
        for b, n in cells([64, 128, 256], [1, 2, 4], 512, 64)
    ]
    fits = {fit["grows"]: fit for fit in exponents(rows)}
    assert fits["points"]["median_ms"] == pytest.approx(1.5) and fits["points"]["peak_mb"] == pytest.approx(1)
    assert fits["clouds"]["median_ms"] == pytest.approx(1) and fits["clouds"]["at"] == "points: 64"
    assert "time grows as the power 1.50 of the points, memory as the power 1.00" in scaling_table(rows)


def test_both_encoders_are_measured():
    said = []
    rows = scaling((64, 128), (1, 2), 128, k=6, path="torch", repeats=1, memory=False, say=said.append)
    assert {(row["encoder"], row["clouds"], row["points"]) for row in rows} == {
        (name, b, n) for name in ("DGCNN", "PointNet2") for b, n in ((1, 64), (1, 128), (2, 64))
    }
    assert len(said) == len(rows) and all(row["median_ms"] > 0 and row["peak_mb"] is None for row in rows)
