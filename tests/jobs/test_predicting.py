"""Labels of one's own cloud from the command line, and their score."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geo3d.checkpoint import open_checkpoint
from geo3d.cli.__main__ import main
from geo3d.data import Rooms, Shapes
from geo3d.data.scannet.labels import NUMBERS
from geo3d.io import read_cloud, write_cloud

SAMPLE = Path(__file__).parents[2] / "datasets" / "mosd" / "sample"
QUICK = ["trainer.accelerator=cpu", "trainer.progress=false", "trainer.max_steps=3", "data.batch_size=2"]
SMALL = ["encoder=dgcnn", "encoder.k=4", "encoder.channels=[8,8]", "encoder.embedding=8", "task.hidden=[8]"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes")
    data = ["data=mosd", f"data.root={SAMPLE}", "data.num_points=100"]
    assert main(["finetune", "task=segment", *SMALL, *data, *QUICK, f"out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    out = tmp_path_factory.mktemp("parts")
    data = ["data=shapes", "data.classes=[chair,cup]", "data.size=8", "data.num_points=64"]
    assert main(["finetune", "task=segment", *SMALL, *data, *QUICK, f"out={out}"]) == 0
    return out


def refused(words, capsys):
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_every_point_of_a_file_gets_a_label_in_its_row(scenes, tmp_path, capsys):
    cloud = SAMPLE / "scene_3.npz"
    assert main(["predict", f"checkpoint={scenes}", f"cloud={cloud}", f"out={tmp_path / 'l.npz'}"]) == 0
    assert "points  340" in capsys.readouterr().out
    found = np.load(tmp_path / "l.npz")
    assert found["label"].shape == found["probability"].shape == (340,) and found["classes"].tolist() == [
        "table",
        "object",
    ]
    assert ((found["probability"] >= 0.5) & (found["probability"] <= 1)).all()
    assert main(["predict", f"checkpoint={scenes}", f"cloud={cloud}", f"out={tmp_path / 'l.ply'}", "votes=2"]) == 0
    again = read_cloud(tmp_path / "l.ply")
    assert torch.equal(again.pos, read_cloud(cloud).pos) and again.point_y.shape == (340,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.npz", "l.ply"]


def test_the_score_is_that_of_the_test_split(scenes, tmp_path):
    cloud, metrics = SAMPLE / "scene_3.npz", json.loads((scenes / "metrics.json").read_text())["test"]
    truth = np.load(cloud)["instance"] > 1
    assert main(["predict", f"checkpoint={scenes}", f"cloud={cloud}", f"out={tmp_path / 'l.npz'}", "votes=1"]) == 0
    np.savez(tmp_path / "t.npz", label=truth.astype(np.int64))
    files = [f"prediction={tmp_path / 'l.npz'}", f"truth={tmp_path / 't.npz'}"]
    assert main(["score", "task=segment", *files, f"out={tmp_path / 's'}"]) == 0
    scored = json.loads((tmp_path / "s" / "metrics.json").read_text())
    label = np.load(tmp_path / "l.npz")["label"]
    ious = [((label == c) & (truth == c)).sum() / ((label == c) | (truth == c)).sum() for c in (0, 1)]
    assert scored["class_iou"] == pytest.approx(dict(zip(("table", "object"), ious, strict=True)))
    assert scored["miou"] == pytest.approx(sum(ious) / 2) and scored["points"] == 340
    assert scored["accuracy"] == pytest.approx((label == truth).mean())
    assert abs(scored["accuracy"] - metrics["accuracy"]) < 0.2  # other subsets of the points, the same network


def test_a_network_of_parts_is_told_the_category(parts, tmp_path, capsys):
    write_cloud(tmp_path / "cup.ply", Shapes(size=2, classes=["chair", "cup"], num_points=150)[1])
    words = ["predict", f"checkpoint={parts}", f"cloud={tmp_path / 'cup.ply'}", f"out={tmp_path / 'l.npz'}"]
    assert "category: the network labels the parts of one class of objects; there are chair, cup" in refused(
        words, capsys
    )
    assert "found cop; did you mean 'cup'?" in refused([*words, "category=cop"], capsys)
    assert main([*words, "category=cup"]) == 0
    found = np.load(tmp_path / "l.npz")
    groups = Shapes(size=2, classes=["chair", "cup"]).targets["point_y"].groups[1]
    assert set(found["label"].tolist()) <= set(groups)


@pytest.mark.parametrize("name", ["pointnet2_part", "pointnet2_part_msg"])
def test_pointnet2_for_parts_is_trained_and_told_the_category(name, tmp_path, capsys):
    data = ["data=shapes", "data.classes=[chair,cup]", "data.size=8", "data.num_points=64", "data.batch_size=2"]
    small = [f"encoder={name}", "encoder.width=0.1", "encoder.num_samples=[32,8]", "task.hidden=[8]"]
    out = tmp_path / "run"
    assert main(["finetune", "task=segment", *small, *data, *QUICK, f"out={out}"]) == 0
    opened = open_checkpoint(out)
    assert opened.decoder.categories == 2 and opened.head.categories == 0 and opened.encoder.absolute
    assert 0 <= json.loads((out / "metrics.json").read_text())["test"]["instance_miou"] <= 1
    write_cloud(tmp_path / "cup.ply", Shapes(size=2, classes=["chair", "cup"], num_points=150)[1])
    words = ["predict", f"checkpoint={out}", f"cloud={tmp_path / 'cup.ply'}"]
    assert "category: the network labels the parts of one class" in refused(
        [*words, f"out={tmp_path / 'l.npz'}"], capsys
    )
    probabilities = []
    for category in ("chair", "cup"):
        labels = tmp_path / f"{category}.npz"
        assert main([*words, f"category={category}", f"out={labels}"]) == 0
        probabilities.append(np.load(labels)["probability"])
    assert not np.allclose(*probabilities)
    assert main(["finetune", "task=segment", f"checkpoint={out}", *data, *QUICK, f"out={tmp_path / 'more'}"]) == 0
    other = ["data=shapes", "data.classes=[chair,cup,car]", "data.size=9", "data.num_points=64", *QUICK]
    words = ["finetune", "task=segment", f"checkpoint={out}", *other, f"out={tmp_path / 'other'}"]
    assert "decoder: expected one with the categories of the data set, 3, or none (0); found 2" in refused(
        words, capsys
    )


def test_what_does_not_fit_is_one_line(scenes, tmp_path, capsys):
    cloud = f"cloud={SAMPLE / 'scene_3.npz'}"
    run = ["predict", f"checkpoint={scenes}", cloud]
    assert "labels are written as .npz, .ply or .txt" in refused([*run, f"out={tmp_path / 'l.csv'}"], capsys)
    assert "other classes than the 20 of ScanNet" in refused([*run, f"out={tmp_path / 'l.txt'}"], capsys)
    assert "no categories; leave it out" in refused([*run, f"out={tmp_path / 'l.npz'}", "category=cup"], capsys)
    assert "no such file" in refused(
        ["predict", f"checkpoint={scenes}", "cloud=x.ply", f"out={tmp_path / 'l.npz'}"], capsys
    )
    assert main(["finetune", *SMALL[:4], "task.hidden=[8]", "data=shapes", "data.size=8", "data.num_points=32", *QUICK,
                 "data.classes=[cup,car]", f"out={tmp_path / 'whole'}"]) == 0  # fmt: skip
    words = ["predict", f"checkpoint={tmp_path / 'whole'}", cloud, f"out={tmp_path / 'l.npz'}"]
    assert "expected a segmentation network, with decoder and head" in refused(words, capsys)
    assert not (tmp_path / "l.npz").exists()


def test_scores_of_files_that_do_not_fit_are_one_line(tmp_path, capsys):
    good = {"label": np.array([0, 1, 1]), "classes": np.array(["a", "b"])}
    cases = [
        ({"label": good["label"]}, {"label": good["label"]}, "expected label and classes, as written by geo3d predict"),
        (good, {"label": np.array([0, 1])}, "has 2 labels"),
        (good, {"other": np.array([0, 1, 1])}, "expected whole numbers (N,) under one of label, point_y"),
        (good, {"label": np.array([0.0, 1.0, 1.0])}, "expected whole numbers (N,)"),
        (good, {"label": np.array([-1, 5, 9])}, "no label is one of the 2 classes"),
        (good | {"label": np.array([0, 1, 2])}, {"label": good["label"]}, "expected labels from 0 to 1; found 0 to 2"),
    ]
    for i, (prediction, truth, message) in enumerate(cases):
        np.savez(tmp_path / "p.npz", **prediction)
        np.savez(tmp_path / "t.npz", **truth)
        words = ["score", f"prediction={tmp_path / 'p.npz'}", f"truth={tmp_path / 't.npz'}", f"out={tmp_path / str(i)}"]
        assert message in refused(words, capsys)
    np.savez(tmp_path / "t.npz", label=np.array([0, 1, 7]))
    np.savez(tmp_path / "p.npz", **good)
    assert main([*words[:3], f"out={tmp_path / 'good'}"]) == 0
    assert json.loads((tmp_path / "good" / "metrics.json").read_text())["points"] == 2


def test_blocks_turns_and_units(scenes, tmp_path):
    """A file in millimetres with its scale gives the labels of the one in metres, in blocks of any size."""
    cloud = read_cloud(SAMPLE / "scene_3.npz")
    np.savez(tmp_path / "mm.npz", pos=(cloud.pos * 1000).numpy())
    labels = {}
    for name, file, options in (
        ("whole", SAMPLE / "scene_3.npz", []),
        ("blocks", SAMPLE / "scene_3.npz", ["block=0.5", "steps=3", "turns=2"]),
        ("mm", tmp_path / "mm.npz", ["block=0.5", "steps=3", "turns=2", "scale=0.001"]),
    ):
        out = tmp_path / f"{name}.npz"
        assert main(["predict", f"checkpoint={scenes}", f"cloud={file}", f"out={out}", *options]) == 0
        labels[name] = np.load(out)
    assert len(labels["blocks"]["label"]) == 340
    np.testing.assert_allclose(labels["mm"]["probability"], labels["blocks"]["probability"], atol=1e-3)
    assert not np.array_equal(labels["blocks"]["probability"], labels["whole"]["probability"])


def test_a_network_trained_on_blocks_labels_in_blocks(tmp_path, capsys):
    rooms = ["data=rooms", "data.size=2", "data.points=2000", "data.frames=4", "data.block=1.5", "data.num_points=128"]
    out = tmp_path / "run"
    assert main(["finetune", "task=segment", *SMALL, *rooms, *QUICK, "data.normalize=none", f"out={out}"]) == 0
    assert json.loads((out / "encoder" / "encoder.json").read_text())["input"]["block"] == 1.5
    assert (out / "confusion.png").exists() and "class" in capsys.readouterr().out
    room = Rooms(split="test", size=2, points=2000, frames=4)[0]
    np.savez(tmp_path / "room.npz", pos=room.pos.numpy())
    one, other, whole = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "c.npz"
    words = ["predict", f"checkpoint={out}", f"cloud={tmp_path / 'room.npz'}"]
    for file, options in ((one, []), (other, ["block=1.5"]), (whole, ["block=50"])):
        assert main([*words, f"out={file}", *options]) == 0
    a, b, c = (np.load(file)["probability"] for file in (one, other, whole))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_labels_of_scannet_in_the_form_of_its_benchmark(tmp_path):
    root = SAMPLE.parents[1] / "scannet" / "sample"
    data = ["data=scannet", f"data.root={root}", "data.num_points=64"]
    assert main(["finetune", "task=segment", *SMALL, *data, *QUICK, f"out={tmp_path / 'run'}"]) == 0
    mesh = root / "scans" / "scene0001_00" / "scene0001_00_vh_clean_2.ply"
    for suffix in ("npz", "txt"):
        words = ["predict", f"checkpoint={tmp_path / 'run'}", f"cloud={mesh}", f"out={tmp_path / f'scene.{suffix}'}"]
        assert main(words) == 0
    labels = np.load(tmp_path / "scene.npz")["label"]
    numbers = [int(line) for line in (tmp_path / "scene.txt").read_text().splitlines()]
    assert numbers == [NUMBERS[label] for label in labels] and len(numbers) == len(read_cloud(mesh).pos)
