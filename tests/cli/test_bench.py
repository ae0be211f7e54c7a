import json
import shutil

import pytest
import torch
from matplotlib.image import imread
from torch_geometric.data import Data

from geo3d.bench.inputs import randomized
from geo3d.checkpoint import save_encoder
from geo3d.checks import parameters
from geo3d.cli.__main__ import main
from geo3d.cli.bench import USAGE, compared, parsed
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
    return main(["bench", f"checkpoint=[{','.join(paths)}]", f"out={out}", *words])


QUICK = ("repeats=2", "threads=1", "engines=[geo3d,torch]", "memory=false")


def test_a_run_with_data_prints_the_table_and_writes_all_three_files(models, tmp_path, capsys):
    words = ("data=shapes", "data.size=40", "rotation=so3", "draws=2", *QUICK)
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
    assert run(models, tmp_path, "num_points=24", "clouds=2", "reference=small", *QUICK) == 0
    record = json.loads((tmp_path / "model.json").read_text())
    assert record["reference"] == record["rows"][1]["name"] and [row["accuracy"] for row in record["rows"]] == [
        None,
        None,
    ]
    assert record["rows"][1]["score"] == 2 and record["rows"][0]["score"] > 2
    assert not (tmp_path / "pareto.png").exists()
    assert "trained on 32 points, here 24" in capsys.readouterr().out


def test_names_are_those_given(models, tmp_path):
    assert run(models, tmp_path, "names=[wide, narrow one]", "reference=narrow one", *QUICK) == 0
    record = json.loads((tmp_path / "model.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["wide", "narrow one"] and record["reference"] == "narrow one"


def test_one_checkpoint_and_one_number_need_no_brackets(models):
    found = parsed([f"checkpoint={models / 'large'}", "threads=2"])
    assert [str(each) for each in found.checkpoint] == [str(models / "large")] and found.threads == (2,)


def test_a_folder_name_that_several_checkpoints_have_is_no_reference(models, tmp_path, capsys):
    for name in ("large", "small"):
        shutil.copytree(models / name, tmp_path / name / "0")
    assert run(tmp_path, tmp_path / "out", "reference=0", *QUICK, names=("large/0", "small/0")) == 2
    assert "reference=0: several checkpoints lie in a folder of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["names=[a]"], "bench names=[a]: expected 2 different names, one per checkpoint"),
        (["names=[a,a]"], "bench names=[a,a]: expected 2 different names, one per checkpoint"),
        (["engines=[geo3d,tensorrt]"], "engines: no engine 'tensorrt'; there are geo3d, torch"),
        (["reference=smal"], "bench reference=smal: did you mean 'small'?"),
        (["poses=so3"], "poses: geo3d bench takes no 'poses'; it takes checkpoint"),
        (["dat=shapes"], "dat: geo3d bench takes no 'dat'; did you mean 'data'?"),
        (
            ["data=nuscenes"],
            "bench data=nuscenes: no such data set; there are dexycb, folder, hands, icvl, modelnet, mosd, msra, nyu, "
            "rooms, s3dis, scannet, scannet_frames, scanobjectnn, shapenetpart, shapes, store",
        ),
        (["data=modelnet"], "data.root: a value is needed"),
        (["data=shapes", "data.sizes=3"], "data.sizes: geo3d.data.Shapes takes no 'sizes'; did you mean 'size'?"),
        (["data.up=z"], "bench data.up=z: belongs to data; give data=NAME, too"),
        (["clouds=0"], "clouds: 0 is not an int from 1 to 4096"),
        (["data=shapes", "data.size=34", "clouds=99"], "bench clouds=99: the test split has 34 clouds"),
        (["--repeats", "3"], "bench --repeats: options are KEY=VALUE; write repeats=..."),
        (["--no-memory"], "bench --no-memory: options are KEY=VALUE; write memory=..."),
        (["model"], "bench model: write geo3d bench checkpoint=DIR"),
        (["kernels"], "bench kernels: to compare geo3d with public code, run make bench in a checkout"),
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
    assert main(["bench", "repeats=1"]) == 2 and "checkpoint: a value is needed" in capsys.readouterr().err


@pytest.mark.parametrize(("split", "message"), [("test", "has no labels"), (None, "there is no test split")])
def test_data_that_cannot_be_scored_on_is_one_line(split, message, models, tmp_path, capsys):
    for name in ("train", split) if split else ("a", "b"):
        for i in range(3):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            write_cloud(tmp_path / "data" / name / f"{i}.ply", Data(pos=torch.rand(40, 3)))
    assert run(models, tmp_path / "out", "data=folder", f"data.root={tmp_path / 'data'}", *QUICK) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_help_names_every_option(capsys):
    assert main(["bench"]) == main(["bench", "--help"]) == 0
    assert capsys.readouterr().out == 2 * f"{USAGE}\n"
    assert all(f"{option}=" in USAGE for option in parameters(compared))


@pytest.mark.parametrize(
    "words, message",
    [
        (["checkpoint=[]"], "checkpoint: [] is not a str or a list of str of length 1 to 1000"),
        (
            ["checkpoint=a", "data=shapes", "data.rotation=so3"],
            "bench data.rotation: is an option of bench itself",
        ),
        (["checkpoint=a", "data=shapes", "data.num_points=9"], "bench data.num_points: is an option of bench itself"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(words, message, capsys):
    assert main(["bench", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
