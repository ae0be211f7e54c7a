"""``python -m speed``: whether every measurement runs, prints and saves."""

import json

import pytest
from speed.__main__ import NAMES, QUICK, asked, main

from geo3d.checks import parameters
from geo3d.errors import ConfigError, Geo3dError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encodr"], "encodr: no such measurement; did you mean 'encoder'?"),
        (["encoder", "point=3"], "point: speed encoder takes no 'point'; did you mean 'points'?"),
        (["encoder", "fast"], "fast: expected KEY=VALUE, for example quick=true"),
        (["encoder", "clouds=[1,0]"], "clouds"),
        (["encoder", "path=gpu"], "path: 'gpu' is not native or torch"),
        (["data", "k=3"], "data k: views have no neighbours"),
        (["room", "clouds=[3]"], "room clouds: there is one room"),
        (["data", "quick=true", "only=nowhere"], "data only=nowhere: no title contains it"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="^" + message.replace("?", r"\?")) as raised:
        main(words)
    assert "\n" not in str(raised.value) and not list(tmp_path.rglob("*.json"))


def test_a_place_that_cannot_be_written_to_is_found_before_measuring(tmp_path, capsys):
    with pytest.raises(Geo3dError, match="expected the name of a file to write, found a folder"):
        main(["kernels", "quick=true", f"out={tmp_path}"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "scaling"])
def test_a_quick_run_prints_and_saves(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    only = {"kernels": ["only=knn"], "train": ["only=dgcnn"], "encoder": ["only=dgcnn"]}.get(name, [])
    main([name, "quick=true", "repeats=1", "path=torch", *only])
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "runs" / f"bench-{name}.json").read_text())
    assert record["bench"] == name and record["machine"]["processor"] in printed
    assert record["limits"]["copy"] > 0 and record["cases"]
    for case in record["cases"]:
        assert case["title"] in printed
        assert all(row["equal"] and row["ratio"] > 0 for row in case["rows"])
    assert "NOT EQUAL" not in printed and f"all figures are in runs/bench-{name}.json" in printed


def test_a_quick_run_of_scaling(tmp_path, capsys):
    out = tmp_path / "scaling.json"
    main(["scaling", "quick=true", "only=dgcnn", f"out={out}"])
    record = json.loads(out.read_text())
    assert len(record["rows"]) == 7 and len(record["exponents"]) == 2
    assert "DGCNN: time grows as the power" in capsys.readouterr().out


def test_help_names_every_measurement(capsys):
    main([])
    said = capsys.readouterr().out
    assert all(f"\n{name}  " in said for name in (*NAMES, "model")) and set(QUICK) == set(NAMES)
    assert "quick" in parameters(asked)
