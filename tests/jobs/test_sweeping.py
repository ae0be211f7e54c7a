"""Many recipes one after another: what is skipped, what goes on, and the table."""

import json
import shutil

import numpy as np
import pytest
from support.blobs import Blobs

from geo3d.checkpoint import read_card
from geo3d.cli.__main__ import main
from geo3d.cli.config import choices, config_dir, read
from geo3d.compress import parse_recipe
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.jobs import finetune, sweep
from geo3d.jobs.run import finish_run
from geo3d.jobs.sweeping import planned, recipe_of, summary, table
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule

TRAINER = {"max_epochs": 1, "progress": False, "accelerator": "cpu"}
RUNS = {
    "float": None,
    "w4": {"quantize": {"weights": 4}, "seeds": 2},
    "w2": {"quantize": {"weights": 2}, "of": ["b"], "steps": 2},
}


def blobs():
    return DataModule(Blobs, batch_size=8, num_points=16, size=24, holdout=0.0)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    found = {}
    for name in "ab":
        with seeded(name):
            encoder = DGCNN(k=4, channels=(8, 8), embedding=8)
        out = tmp_path_factory.mktemp(name)
        finetune(blobs(), out=out, encoder=encoder, trainer=TRAINER)
        found[name] = str(out / "encoder")
    return found


def job(out, checkpoints, runs=RUNS, **keywords):
    return sweep(blobs(), checkpoints, runs, out=out, **({"seeds": [3, 4], "draws": 2, "trainer": TRAINER} | keywords))


EVERY = ["a/float/3", "b/float/3", "a/w4/3", "b/w4/3", "b/w2/3", "a/w4/4", "b/w4/4"]


def test_the_plan_has_first_seeds_first_and_only_what_was_asked_for(checkpoints):
    assert ["/".join(map(str, each)) for each in planned(checkpoints, RUNS, [3, 4])] == EVERY
    assert ["/".join(map(str, each)) for each in planned({"b": ""}, {"w2": RUNS["w2"]}, [7])] == ["b/w2/7"]
    assert recipe_of(RUNS["w2"]) == {"quantize": {"weights": 2}} and recipe_of(None) == {}


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"../../a": {}}, r"runs\.\.\./\.\./a: expected a name of letters"),
        ({"w2": {"of": ["c"]}}, "runs.w2.of: expected some of a, b; found ..c"),
        ({"w2": {"of": "a"}}, "runs.w2.of: 'a' is not a list of str or null"),
        ({"w2": {"steps": 0}}, "runs.w2.steps: 0 is not an int from 1"),
        ({"w2": {"seeds": 1.5}}, "runs.w2.seeds: 1.5 is not an int from 1"),
        ({"w2": {"points": 1}}, "runs.w2.points: 1 is not an int from 2"),
        ({"w2": 3}, "runs.w2: expected the steps of a recipe; found 3"),
        ({"good": {}, "w2": {"quantise": {}}}, "runs.w2: recipe.quantise: no such step"),
        ({"w2": {"quantize": {"bits": 2}}}, "runs.w2: recipe.quantize.bits: quantize takes no 'bits'"),
    ],
)
def test_mistakes_are_found_before_the_first_run(runs, message, checkpoints, tmp_path):
    with pytest.raises(ConfigError, match=message) as raised:
        job(tmp_path / "out", checkpoints, runs)
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="checkpoints: there is none"):
        job(tmp_path / "out", {})


def test_in_pieces_it_comes_to_the_same(checkpoints, tmp_path, capsys):
    out = tmp_path / "out"
    assert job(out, checkpoints, minutes=0) == {"finished": 0, "left": 7}
    assert not list(out.glob("*/*/*/metrics.json"))
    assert job(out, checkpoints, only="b/w") == {"finished": 2, "left": 4}
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/metrics.json")}
    assert {str(path.parent.relative_to(out)) for path in stamps} == {"b/w4/3", "b/w2/3", "b/w4/4"}
    assert json.loads((out / "metrics.json").read_text())["left"] == ["a/float/3", "b/float/3", "a/w4/3", "a/w4/4"]
    # one that was stopped before it was measured goes on, and comes to the same figures
    before = json.loads((out / "b/w4/3/metrics.json").read_text())
    (out / "b/w4/3/finished.json").unlink()
    (out / "b/w4/3/metrics.json").unlink()
    shutil.rmtree(out / "b/w4/3/encoder")
    del stamps[out / "b/w4/3/metrics.json"]
    with pytest.warns(UserWarning, match="holds a finished run"):
        assert job(out, checkpoints) == {"finished": 5, "left": 0}
    assert json.loads((out / "b/w4/3/metrics.json").read_text()) == before
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert {str(path.parent.relative_to(out)) for path in out.glob("*/*/*/metrics.json")} == set(EVERY)
    assert read_card(out / "b/w4/4")["seed"] == 4 and read_card(out / "a/float/3").get("compression") is None
    assert "step" in (out / "b/w2/3/metrics.csv").read_text().splitlines()[0]
    assert len((out / "b/w2/3/metrics.csv").read_text().splitlines()) == 2  # its own end: 2 of 3 steps
    capsys.readouterr()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*/*.json")}
    with pytest.warns(UserWarning, match="nothing was left to do"):
        assert job(out, checkpoints) == {"finished": 5, "left": 0}
    changed = {path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"manifest.json", "settings.json", "versions.json"}  # the results stay as they are
    assert job(out, checkpoints, only="none of them") == {"finished": 5, "left": 0}
    printed, written = capsys.readouterr().out, (out / "table.md").read_text()
    assert written in printed and "seed" in written
    check_table(out, written)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        job(out, checkpoints, lr=0.5)


def check_table(out, written):
    head, rule, *lines = written.splitlines()
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    assert head.count("|") == rule.count("|") == 9 and len(lines) == len(rows) == 5
    row = rows["a/w4"]
    results = [json.loads((out / f"a/w4/{seed}/metrics.json").read_text()) for seed in (3, 4)]
    hits = [np.load(out / f"a/w4/{seed}/test.npz") for seed in (3, 4)]
    assert row["seeds"] == 2 and row["bytes"] == results[0]["bytes"]["after"]
    assert row["smaller"] == results[0]["bytes"]["before"] / row["bytes"]
    after = [result["test"]["after"] for result in results]
    assert row["after"] == pytest.approx(np.mean(after)) and row["std"] == pytest.approx(np.std(after, ddof=1))
    each = np.mean([hit["after"] - hit["before"] for hit in hits], 0)
    assert row["difference"] == pytest.approx(each.mean()) == pytest.approx(row["after"] - row["before"], abs=1e-6)
    assert row["error"] == pytest.approx(each.std(ddof=1) / 24**0.5)
    assert rows["a/float"]["std"] is None and rows["a/float"]["seeds"] == 1
    (line,) = [line for line in lines if line.startswith("| a | w4 |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == "2" and cells[3] == f"{row['bytes'] / 1000:.0f}" and cells[4] == f"{row['smaller']:.1f}x"
    assert cells[5] == f"{100 * row['after']:.1f} +- {100 * row['std']:.1f}"
    assert cells[6] == f"{100 * row['difference']:+.1f} +- {100 * row['error']:.1f}"
    assert cells[7] == f"{row['similarity']:.3f}"


def test_without_heads_the_table_has_features_only(tmp_path):
    (tmp_path / "0").mkdir()
    result = {"bytes": {"before": 4000, "after": 1000}, "similarity": 0.5}
    (tmp_path / "0" / "metrics.json").write_text(json.dumps(result))
    assert summary(tmp_path, "w4", "a") == {}  # it may still be at work
    finish_run(tmp_path / "0", result)
    row = summary(tmp_path, "w4", "a")
    assert row == {"run": "w4", "checkpoint": "a", "seeds": 1, "bytes": 1000, "smaller": 4.0, "similarity": 0.5}
    assert table([row]).splitlines()[2] == "| a | w4 | 1 | 1 | 4.0x | - | - | 0.500 |"
    assert summary(tmp_path / "0", "w4", "a") == {}


@pytest.mark.parametrize("name", [name for name in choices("experiment") if name.startswith("compression")])
def test_the_experiments_that_are_delivered_fit(name):
    content = read(config_dir() / "experiment" / f"{name}.yaml")
    assert content["runs"]
    for run in content["runs"].values():
        parse_recipe(recipe_of(run))
    assert all(run.get("seeds", 1) <= len(content.get("seeds", [0, 1, 2])) for run in content["runs"].values())


def test_the_command(checkpoints, tmp_path, capsys):
    words = ["sweep", f"checkpoints.a={checkpoints['a']}", "experiment=null", "data.size=12", "data.num_points=16"]
    words += ["runs.w4.quantize.weights=4", "trainer=cpu", "trainer.max_steps=1", "trainer.progress=false", "draws=1"]
    assert main([*words, f"out={tmp_path / 'run'}"]) == 0
    assert "| a | w4 | 1 |" in capsys.readouterr().out
    assert main([*words, "runs.w3.quantise.weights=3", f"out={tmp_path / 'other'}"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "runs.w3: recipe.quantise: no such step" in lines[0]
    assert main(["sweep", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("compression_table", "only", "minutes", "checkpoints"))


def test_the_control_is_the_whole_network_trained_for_as_long_as_the_compressed_ones():
    config = read(config_dir() / "experiment" / "compression_fast.yaml")
    control = config["runs"]["control"]
    assert recipe_of(control) == {}
    assert control["steps"] == config["trainer"]["max_steps"] + config["shaping_steps"]


def test_a_control_trains_on_what_it_was_given_in_floats(checkpoints, tmp_path):
    job(tmp_path, {"a": checkpoints["a"]}, {"control": {"steps": 2}}, seeds=[3])
    done = tmp_path / "a" / "control" / "3"
    before, after = read_card(checkpoints["a"]), read_card(done / "encoder")
    assert after["keywords"] == before["keywords"] and not after.get("compression")
    assert json.loads((done / "training.json").read_text())["step"] == 2
    assert json.loads((done / "metrics.json").read_text())["test"]["draws"] == 2
