"""``geo3d inspect`` as a user runs it."""

import errno
import json
import re

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch_geometric.data import Data

from geo3d.checkpoint import save_encoder, save_head
from geo3d.cli.__main__ import main
from geo3d.data import Hands, Shapes
from geo3d.data.hands.skeleton import JOINTS
from geo3d.data.targets import targets_of
from geo3d.decoders import GlobalConcat
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.heads import JointRegressor, PointClassifier
from geo3d.io import write_cloud
from geo3d.seeds import seeded


@pytest.fixture
def file(tmp_path):
    pos = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    write_cloud(tmp_path / "cloud.ply", Data(pos=pos, point_y=torch.arange(300) % 3))
    return tmp_path / "cloud.ply"


def scene_in(path) -> dict:
    text = path.read_text()
    return json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', text, re.S)[1])


def test_a_file_becomes_a_picture_and_a_page(file, tmp_path, capsys):
    assert main(["inspect", f"cloud={file}", f"out={tmp_path / 'a.png'}"]) == 0
    printed = capsys.readouterr().out
    assert "300 points; extent" in printed and "point_y (300,)" in printed
    assert imread(tmp_path / "a.png").shape[1] > 560
    assert main(["inspect", f"cloud={file}", f"out={tmp_path / 'a.html'}"]) == 0
    (pane,) = scene_in(tmp_path / "a.html")["panes"]
    assert pane["title"] == "cloud.ply" and pane["points"][0]["count"] == 300
    assert [each["name"] for each in pane["points"][0]["colorings"]] == ["label", "height"]


def test_a_cloud_of_a_data_set_is_named_by_its_class(tmp_path):
    words = ["inspect", "data=shapes", "data.size=30", "index=4", f"out={tmp_path / 'b.html'}"]
    assert main(words) == 0
    (pane,) = scene_in(tmp_path / "b.html")["panes"]
    assert re.fullmatch(r"\w+, cloud 4 of the test split", pane["title"])


def test_y_up_files_are_drawn_upright(tmp_path):
    pos = torch.tensor([[0.0, 0, 0], [0, 2, 0], [1, 0, 0], [0, 0, 1]])
    write_cloud(tmp_path / "y.ply", Data(pos=pos))
    assert main(["inspect", f"cloud={tmp_path / 'y.ply'}", "up=y", f"out={tmp_path / 'y.html'}"]) == 0
    assert scene_in(tmp_path / "y.html")["panes"][0]["points"][0]["span"] == [1, 1, 2]


def test_a_mesh_is_drawn_by_points_on_its_faces(tmp_path):
    (tmp_path / "m.off").write_text("OFF\n4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n")
    assert main(["inspect", f"cloud={tmp_path / 'm.off'}", f"out={tmp_path / 'm.html'}"]) == 0
    described = scene_in(tmp_path / "m.html")
    assert described["panes"][0]["points"][0]["count"] == 50_000
    assert described["notes"][0] == "4 vertices and 2 faces; 50,000 points were drawn on the faces."


def test_large_clouds_are_thinned_and_say_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("geo3d.show.scenes.cloud.MOST", 1000)
    monkeypatch.setattr("geo3d.show.scenes.cloud.cloud_scene.__defaults__", ((), 1000))
    np.save(tmp_path / "big.npy", np.random.default_rng(0).random((5000, 3)).astype(np.float32))
    assert main(["inspect", f"cloud={tmp_path / 'big.npy'}", f"out={tmp_path / 'big.html'}"]) == 0
    assert "The picture shows 1,000 of 5,000 points" in capsys.readouterr().out
    points = scene_in(tmp_path / "big.html")["panes"][0]["points"][0]
    assert points["count"] == 1000 and points["numbers"] is not None


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_points_are_drawn(tmp_path, count):
    np.save(tmp_path / "few.npy", np.ones((count, 3), np.float32))
    for name in ("few.png", "few.html"):
        assert main(["inspect", f"cloud={tmp_path / 'few.npy'}", f"out={tmp_path / name}"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=a.png"], "inspect takes either cloud=FILE or data=NAME; give exactly one of the two"),
        (["cloud={}", "out=a.jpg"], "out=a.jpg: pictures are written as .png or .html; give out=NAME.png"),
        (["cloud=nothing.ply", "out=a.png"], "nothing.ply"),
        (["cloud={}", "mode=clouds", "out=a.png"], "mode"),
        (["cloud={}", "index=3", "out=a.png"], "index and split: choose a cloud of a data set"),
        (["cloud={}", "split=train", "out=a.png"], "index and split: choose a cloud of a data set"),
        (["data=shapes", "up=y", "out=a.png"], "up=y: is for a cloud's file"),
        (["cloud={}", "renderer=open3d", "out=a.html"], "renderer=open3d: is for PNG pictures"),
        (["data=shapes", "index=90000000", "out=a.png"], "index=90000000: the test split has"),
    ],
)
def test_mistakes_are_one_line(file, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *(word.format(file) for word in words)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["cloud.ply"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_refused(tmp_path, capsys, value):
    pos = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    pos[7, 1] = value
    np.save(tmp_path / "bad.npy", pos)
    assert main(["inspect", f"cloud={tmp_path / 'bad.npy'}", f"out={tmp_path / 'bad.png'}"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not (tmp_path / "bad.png").exists()


def test_a_window_without_a_screen_is_refused(file, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["inspect", f"cloud={file}"]) == 2
    assert "give out=NAME.png or out=NAME.html" in capsys.readouterr().err


@pytest.fixture
def checkpoint(tmp_path):
    with seeded(0, "encoder"):
        save_encoder(DGCNN(k=4, channels=(8, 8), embedding=16), tmp_path / "dgcnn" / "encoder")
        save_encoder(DGCNN(k=4, channels=(8, 8), embedding=12), tmp_path / "other" / "encoder")
        save_encoder(PointNet(embedding=8, width=0.125), tmp_path / "pointnet" / "encoder")
    return tmp_path / "dgcnn"


def test_features_share_a_basis_that_is_kept(file, checkpoint, tmp_path):
    words = ["inspect", "mode=features", f"checkpoint={checkpoint}", f"cloud={file}", f"basis={tmp_path / 'b.npz'}"]
    assert main([*words, f"beside=[{file}]", "point=5", "points=100", f"out={tmp_path / 'a.html'}"]) == 0
    first = scene_in(tmp_path / "a.html")
    assert [len(pane["points"]) for pane in first["panes"]] == [1, 1, 2, 1] and first["columns"] == 2
    assert first["panes"][2]["title"] == "cloud.ply, similarity to point 5"
    assert "100 of 300 points were encoded" in " ".join(first["notes"])
    kept = (tmp_path / "b.npz").read_bytes()
    assert main([*words, f"out={tmp_path / 'a.png'}"]) == 0 and (tmp_path / "b.npz").read_bytes() == kept


@pytest.mark.parametrize(("mode", "extra"), [("neighbors", ["point=3"]), ("compare", ["other={}"])])
@pytest.mark.parametrize("suffix", ["png", "html"])
def test_the_other_modes_draw(file, checkpoint, tmp_path, mode, extra, suffix):
    extra = [each.format(tmp_path / "other") for each in extra]
    out = tmp_path / f"a.{suffix}"
    assert main(["inspect", f"mode={mode}", f"checkpoint={checkpoint}", f"cloud={file}", *extra, f"out={out}"]) == 0
    assert out.stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mode=features"], "checkpoint: mode=features needs it; give checkpoint=DIR"),
        (["mode=views"], "invariance: mode=views needs it; give invariance=so3"),
        (["mode=compare", "checkpoint={dgcnn}"], "other: mode=compare needs it; give other=DIR"),
        (["checkpoint={dgcnn}"], "checkpoint: mode=cloud does not read it; leave it out"),
        (["mode=neighbors", "checkpoint={pointnet}"], "no layer of PointNet searches for nearest neighbours"),
        (["mode=neighbors", "checkpoint={dgcnn}", "point=300"], "point=300: cloud.ply has 300 points"),
        (["mode=features", "checkpoint=nothing"], "nothing"),
        (["mode=features", "checkpoint={dgcnn}", "beside=[nothing.ply]"], "nothing.ply"),
    ],
)
def test_mistakes_of_modes_are_one_line(file, checkpoint, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    folders = {name: tmp_path / name for name in ("dgcnn", "pointnet")}
    assert main(["inspect", f"cloud={file}", *(word.format(**folders) for word in words), "out=a.png"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1 and not (tmp_path / "a.png").exists()


def test_views_are_drawn_with_their_matches(file, tmp_path):
    words = ["inspect", "mode=views", "invariance=so3", f"cloud={file}", "points=200"]
    for seed, name in ((0, "a.html"), (0, "b.html"), (1, "c.html"), (0, "d.png")):
        assert main([*words, f"seed={seed}", f"out={tmp_path / name}"]) == 0
    first, again, other = (scene_in(tmp_path / name) for name in ("a.html", "b.html", "c.html"))
    assert first == again and first != other
    titles = [pane["title"] for pane in first["panes"]]
    assert titles == ["cloud.ply", "view 1, 200 points", "view 2, 200 points", "40 matching points"]


def test_a_hand_has_its_joints_drawn(tmp_path, capsys):
    with seeded(0, "encoder"):
        encoder = PointNet2(num_samples=(16, 8), num_neighbors=(8, 8), width=0.125)
        head = JointRegressor(encoder.cloud_channels, hidden=(16,))
    save_encoder(encoder, tmp_path / "pose" / "encoder", joints=list(JOINTS), input={"normalize": "oriented_box"})
    save_head(head, tmp_path / "pose" / "encoder")
    words = ["inspect", "mode=hand", "data=hands", "data.size=10", f"checkpoint={tmp_path / 'pose'}"]
    for name in ("h.png", "h.html"):
        assert main([*words, f"out={tmp_path / name}"]) == 0
    assert "mean joint error" in capsys.readouterr().out
    first, _ = scene_in(tmp_path / "h.html")["panes"]
    assert [each["count"] for each in first["points"]][1:] == [21, 21] and len(first["lines"][0]["ends"]) == 20 * 6


def test_an_encoder_alone_has_no_joints_to_draw(file, checkpoint, tmp_path, capsys):
    words = ["inspect", "mode=hand", f"checkpoint={checkpoint}", f"cloud={file}", f"out={tmp_path / 'a.png'}"]
    assert main(words) == 2 and "expected a network of hand poses" in capsys.readouterr().err


def test_a_segmentation_is_drawn_beside_the_truth(tmp_path, capsys):
    with seeded(0, "encoder"):
        encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
        decoder = GlobalConcat(encoder.point_channels, encoder.cloud_channels)
        names = list(targets_of(Shapes(size=2))["point_y"].names)
        head = PointClassifier(decoder.out_channels, len(names))
    card = {"classes": names, "input": {"num_points": 64}}
    save_encoder(encoder, tmp_path / "parts" / "encoder", head=head, decoder=decoder, **card)
    words = ["inspect", "mode=segmentation", "data=shapes", "data.size=40", f"checkpoint={tmp_path / 'parts'}"]
    for name in ("s.png", "s.html"):
        assert main([*words, f"out={tmp_path / name}"]) == 0
    assert re.search(r"% of [\d,]+ points right; IoU in percent", capsys.readouterr().out)
    titles = [pane["title"] for pane in scene_in(tmp_path / "s.html")["panes"]]
    assert titles[1:] == ["truth", "prediction", "errors"]
    assert main([*words[:2], f"checkpoint={tmp_path / 'parts'}", "cloud=nothing.ply", f"out={tmp_path / 'x.png'}"]) == 2
    capsys.readouterr()
    others = ["inspect", "mode=segmentation", "data=hands", "data.size=10", f"checkpoint={tmp_path / 'parts'}"]
    assert main([*others, f"out={tmp_path / 'x.png'}"]) == 2
    assert "its points have the classes palm" in capsys.readouterr().err


def test_labels_of_points_are_called_by_their_names(tmp_path):
    assert main(["inspect", "data=hands", "data.size=10", f"out={tmp_path / 'h.html'}"]) == 0
    names = scene_in(tmp_path / "h.html")["panes"][0]["points"][0]["colorings"][0]["names"]
    known = [name.replace("_", " ") for name in targets_of(Hands(size=2))["point_y"].names]
    assert set(names) <= {"unlabelled", *known} and "palm" in names


def test_a_full_disk_names_the_picture(file, tmp_path, capsys, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("geo3d.io.files.synchronize", full)
    out = tmp_path / "a.png"
    assert main(["inspect", f"cloud={file}", f"out={out}"]) == 2
    assert f"out={out}: could not be written, the disk is full; free space, run again" in capsys.readouterr().err
    assert not out.exists()
