import json
import shutil

import pytest
import torch
from matplotlib.image import imread
from torch_geometric.data import Data

from geo3d.bench.inputs import randomized
from geo3d.checkpoint import save_encoder
from geo3d.cli.__main__ import main
from geo3d.cli.bench import USAGE
from geo3d.cli.bench_model import OPTIONS
from geo3d.encoders import DGCNN
from geo3d.io.write import write_cloud


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    for name, width in {"large": 16, "small": 8}.items():
        torch.manual_seed(0)
        encoder = randomized(DGCNN(k=4, channels=(8, width), embedding=16)).eval()
        save_encoder(encoder, place / name / "encoder", input={"num_points": 32})
    return place


def run(models, out, *words, names=("large", "small")):
    paths = [str(models / name / "encoder") for name in names]
    return main(["bench", "model", "--checkpoint", *paths, "--out", str(out), *words])


QUICK = ("--repeats", "2", "--threads", "1", "--engines", "geo3d,torch", "--no-memory")


def test_a_run_with_data_prints_the_table_and_writes_all_three_files(models, tmp_path, capsys):
    words = ("--data", "shapes", "data.size=40", "--rotation", "so3", "--draws", "2", "--published", *QUICK)
    assert run(models, tmp_path, *words) == 0
    printed, record = capsys.readouterr().out, json.loads((tmp_path / "model.json").read_text())
    names = [f"DGCNN, channels 8-{width}, embedding 16, k = 4, float" for width in (16, 8)]
    assert [row["name"] for row in record["rows"]] == names
    assert f"- {names[0]}: {models / 'large' / 'encoder'}" in printed  # where it lies is said once
    assert record["reference"] == names[0] and record["num_points"] == 32
    assert all(row["accuracy"]["draws"] == 2 and row["accuracy"]["by"] == "linear probe" for row in record["rows"])
    assert all(len(row["timings"]) == 2 and row["stages_ms"] and row["peak_mb"] == {} for row in record["rows"])
    written = (tmp_path / "model.md").read_text().rstrip("\n")
    assert names[1] in written and written in printed
    assert imread(tmp_path / "pareto.png").shape[:2] == (800, 1200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.md", "pareto.png"]


def test_without_data_there_is_no_accuracy_and_no_picture(models, tmp_path, capsys):
    assert run(models, tmp_path, "--num-points", "24", "--clouds", "2", "--reference", "small", *QUICK) == 0
    record = json.loads((tmp_path / "model.json").read_text())
    assert record["reference"] == record["rows"][1]["name"] and [row["accuracy"] for row in record["rows"]] == [
        None,
        None,
    ]
    assert record["rows"][1]["score"] == 2 and record["rows"][0]["score"] > 2
    assert not (tmp_path / "pareto.png").exists()
    assert "trained on 32 points, here 24" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["wide,narrow"], ["wide", "narrow"]])
def test_names_are_those_given(words, models, tmp_path):
    assert run(models, tmp_path, "--names", *words, "--reference", "narrow", *QUICK) == 0
    record = json.loads((tmp_path / "model.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["wide", "narrow"] and record["reference"] == "narrow"


def test_a_folder_name_that_several_checkpoints_have_is_no_reference(models, tmp_path, capsys):
    for name in ("large", "small"):
        shutil.copytree(models / name, tmp_path / name / "0")
    assert run(tmp_path, tmp_path / "out", "--reference", "0", *QUICK, names=("large/0", "small/0")) == 2
    assert "--reference 0: several checkpoints lie in a folder of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--names", "a"], "bench model --names: expected 2 different names, one a checkpoint"),
        (["--names", "a,a"], "bench model --names: expected 2 different names, one a checkpoint"),
        (["--engines", "geo3d,tensorrt"], "engines: no engine 'tensorrt'; there are geo3d, torch"),
        (["--reference", "smal"], "bench model --reference smal: did you mean 'small'?"),
        (["--poses", "so3"], "bench model --poses: no such option; there are checkpoint"),
        (["--dat", "shapes"], "bench model --dat: no such option; did you mean '--data'?"),
        (["--data", "scannet"], "bench: --data: invalid choice: 'scannet'"),
        (["--data", "modelnet"], "data.root: a value is needed"),
        (["--data", "shapes", "data.sizes=3"], "data.sizes: geo3d.data.Shapes takes no 'sizes'; did you mean 'size'?"),
        (["--up", "z"], "bench model --up: belongs to data; give --data NAME, too"),
        (["--clouds", "0"], "bench: --clouds: expected a whole number from 1 to 4096"),
        (
            ["--data", "shapes", "data.size=34", "--clouds", "99"],
            "bench model --clouds 99: the test split has 34 clouds",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(words, message, models, tmp_path, capsys):
    assert run(models, tmp_path / "out", *QUICK, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"geo3d: error: {message}")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_missing_checkpoint_is_one_line(models, tmp_path, capsys):
    assert run(models, tmp_path, *QUICK, names=("large", "lost")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "lost" in line and "no such folder" in line
    assert main(["bench", "model"]) == 2 and "--checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(("split", "message"), [("test", "has no labels"), (None, "there is no test split")])
def test_data_that_cannot_be_scored_on_is_one_line(split, message, models, tmp_path, capsys):
    for name in ("train", split) if split else ("a", "b"):
        for i in range(3):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            write_cloud(tmp_path / "data" / name / f"{i}.ply", Data(pos=torch.rand(40, 3)))
    assert run(models, tmp_path / "out", "--data", "folder", "--root", str(tmp_path / "data"), *QUICK) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_help_names_every_option(capsys):
    assert main(["bench", "model", "--help"]) == 0
    assert capsys.readouterr().out == f"{USAGE}\n"
    assert all(f"--{option} " in USAGE for option in OPTIONS if option != "memory")
