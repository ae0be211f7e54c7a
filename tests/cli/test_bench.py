import json

import pytest

from geo3d.cli.__main__ import main
from geo3d.cli.bench import NAMES, USAGE, parsed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encodr"], "bench encodr: no such measurement; did you mean 'encoder'?"),
        (["encoder", "--point", "3"], "bench encoder --point: no such option; did you mean '--points'?"),
        (["encoder", "fast"], "bench encoder fast: no such option"),
        (["encoder", "--points", "many"], "bench: --points: expected a whole number from 1 to 1000000, found 'many'"),
        (["encoder", "--points", "512,1024"], "bench: --points: expected a whole number from 1 to 1000000"),
        (["encoder", "--clouds", "1,0"], "bench: --clouds: expected a whole number from 1 to 4096, found '0'"),
        (["encoder", "--threads"], "bench: --threads: expected one argument"),
        (["encoder", "--path", "gpu"], "bench: --path: invalid choice: 'gpu'"),
        (["data", "--k", "3"], "bench data --k: views have no neighbours"),
    ],
)
def test_mistakes_are_one_line_and_status_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"geo3d: error: {message}")


def test_a_place_that_cannot_be_written_to_is_found_before_measuring(tmp_path, capsys):
    assert main(["bench", "kernels", "--quick", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "expected the name of a file to write, found a folder" in said.err and said.out == ""


def test_nothing_chosen_is_a_mistake_and_leaves_no_file(tmp_path, capsys):
    assert main(["bench", "data", "--quick", "--only", "nowhere", "--out", str(tmp_path / "x.json")]) == 2
    assert "no title contains it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_names_every_measurement_and_option(capsys):
    assert main(["bench"]) == main(["bench", "--help"]) == main(["bench", "encoder", "--help"]) == 0
    assert capsys.readouterr().out == 3 * f"{USAGE}\n"
    options = vars(parsed(["scaling", "--points", "64,128"]))
    assert options.pop("name") == "scaling" and options["points"] == (64, 128)
    assert all(f"--{option}" in USAGE for option in options)
    assert all(f"\n{name}  " in USAGE for name in NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "scaling"])
def test_a_quick_run_prints_and_saves(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    only = {"kernels": ["--only", "knn"], "train": ["--only", "dgcnn"], "encoder": ["--only", "dgcnn"]}.get(name, [])
    assert main(["bench", name, "--quick", "--repeats", "1", "--path", "torch", *only]) == 0
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
    assert main(["bench", "scaling", "--quick", "--only", "dgcnn", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert len(record["rows"]) == 7 and len(record["exponents"]) == 2
    assert "DGCNN: time grows as the power" in capsys.readouterr().out
