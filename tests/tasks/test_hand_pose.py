"""Hand pose: loss, averages over signs, what is written, and the commands."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from geo3d.checkpoint import open_checkpoint
from geo3d.cli.__main__ import main
from geo3d.compress import Adaptive
from geo3d.data import Hands
from geo3d.data.depth_camera import DepthCamera
from geo3d.data.hands.skeleton import BONES, JOINTS
from geo3d.data.targets import Joints
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import ConfigError
from geo3d.heads import Classifier, JointRegressor
from geo3d.heads.joints import Estimate
from geo3d.heads.prediction import estimates
from geo3d.invariance import SO3, Compose
from geo3d.invariance.views import Views
from geo3d.jobs.predicting import predict
from geo3d.seeds import generator, seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.hand_pose import EARLIER, HandPose

SMALL = ["encoder=pointnet2", "encoder.num_samples=[32,8]", "encoder.width=0.1", "data.num_points=128", "data.size=16"]
QUICK = ["trainer=cpu", "trainer.progress=false", "trainer.max_steps=3", "data.batch_size=4"]


def small(**keywords):
    with seeded(1, "hand pose"):
        encoder = PointNet2(num_samples=(32, 8), width=0.1)
        return HandPose(encoder, Joints(JOINTS), Views(Compose([]), num_views=1), **keywords)


def data(**keywords):
    return DataModule(Hands, **({"size": 8, "num_points": 128, "batch_size": 4, "holdout": 0.0} | keywords))


def test_the_loss_is_that_of_its_formula():
    task, draw = small(beta=0.1, uncertainty=0.5, margin=0.2), generator("loss")
    batch = next(iter(data().loader("train", torch.arange(4))))
    made = [
        Estimate(batch.joints + 0.2 * torch.randn(4, 21, 3, generator=draw),
                 torch.randn(4, 21, generator=draw), torch.randn(4, generator=draw))
        for _ in range(2)
    ]  # fmt: skip
    expected, count = 0.0, 4 * 21
    errors = [(each.joints - batch.joints).double() for each in made]
    last = errors[-1].norm(dim=2).mean(1)
    for weight, each, error in zip((EARLIER, 1.0), made, errors, strict=True):
        near = error.abs() < 0.1
        expected += weight * float(torch.where(near, error.square() / 0.2, error.abs() - 0.05).mean())
        std = each.log_std.double().exp()
        for row in range(4):
            for joint in range(21):
                s = float(std[row, joint])
                term = 3 * math.log(s) + float(error[row, joint].square().sum()) / (2 * s * s)
                expected += weight * 0.5 * term / count
            worth = float(error.norm(dim=2).mean(1)[row] > 1.2 * last[row])
            chance = 1 / (1 + math.exp(-float(each.go_on[row])))
            expected -= 0.5 * (worth * math.log(chance) + (1 - worth) * math.log(1 - chance)) / 4
    loss, logged = task.loss(made, batch)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(logged["train_error"]) == pytest.approx(float(last.mean()), rel=1e-5)


def test_the_likelihood_does_not_move_the_joints():
    task = small(uncertainty=10.0, head=JointRegressor)
    batch = next(iter(data().loader("train", torch.arange(4))))
    joints = (batch.joints + 0.3).requires_grad_(True)
    task.loss([Estimate(joints, torch.zeros(4, 21))], batch)[0].backward()
    expected = joints.grad.clone()
    joints.grad = None
    torch.nn.functional.smooth_l1_loss(joints, batch.joints, beta=task.beta).backward()
    torch.testing.assert_close(expected, joints.grad)


def test_smaller_settings_of_an_adaptive_encoder_learn_the_joints():
    with seeded(1, "adaptive"):
        encoder = Adaptive(DGCNN(k=4, channels=(8, 8), embedding=16), widths=(0.5, 1), ks=(2, 4), points=(64, 128))
        task = HandPose(encoder, Joints(JOINTS), Views(Compose([]), num_views=1), seed=3).train()
    batch = next(iter(data().loader("train", torch.arange(4))))
    seen, apart = task.augmented(batch), copy.deepcopy(task)
    expected = apart.loss(apart.head(apart.encoder(seen)), seen)[0]
    settings = apart.encoder.subnet_training(seen, generator(3, "settings", 0))[1:]
    apart.head.eval()
    expected = expected + sum(apart.loss(apart.head(made), seen)[0] for _, made in settings) / len(settings)
    loss = task.training_step(batch, 0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) and len(settings) == 3
    assert task.head.training
    loss.backward()
    norm = task.head.first.layers[1]
    assert int(norm.num_batches_tracked) == 1  # of the largest setting alone


@pytest.mark.parametrize("signs", [1, 4])
def test_turned_hands_have_turned_joints_in_their_principal_axes(signs):
    task = small(signs=signs).eval()
    near = [data(normalize="oriented_box", rotation=rotation) for rotation in ("aligned", "so3")]
    first, second = (next(iter(each.loader("test"))) for each in near)
    one, other = (estimates(task.encoder, task.head, batch, signs) for batch in (first, second))
    torch.testing.assert_close(one.joints, other.joints, atol=2e-4, rtol=0)  # both in the camera's axes
    assert float((first.pos - second.pos).abs().max()) < 1e-4


def test_four_signs_make_the_choice_of_signs_indifferent():
    task = small(signs=4).eval()
    batch = next(iter(data(normalize="oriented_box").loader("test")))
    flip = torch.tensor([1.0, -1.0, -1.0])
    other = batch.clone()
    other.pos, other.frame = batch.pos * flip, batch.frame.clone()
    other.frame[:, :3, :3] = batch.frame[:, :3, :3] * flip
    with torch.no_grad():
        for signs, same in ((4, True), (1, False)):
            a, b = (estimates(task.encoder, task.head, each, signs).joints for each in (batch, other))
            assert torch.allclose(a, b, atol=1e-5) == same
    drawn = task.augmented(batch)
    ratios = (drawn.pos / batch.pos).view(len(batch.ptr) - 1, -1, 3).round().median(1).values
    assert len(ratios.unique(dim=0)) > 1 and bool((ratios.prod(1) == 1).all())


def test_hands_are_learned_and_scored_in_millimetres():
    module, task = data(), small(head=JointRegressor)
    test = task.compared(module, "test")
    source = torch.stack([Hands("test", 8)[i].joints for i in range(8)])
    torch.testing.assert_close(test.truth.float(), 1000 * source, atol=0.05, rtol=0)
    batch = next(iter(module.loader("test")))
    with torch.no_grad():
        spread = task.head(task.encoder(batch))[-1].log_std.double().exp()
    scale = batch.frame[:, :3, 0].norm(dim=1)  # metres for each unit of the normalised clouds
    torch.testing.assert_close(test.std, 1000 * scale[:, None] * spread, rtol=1e-4, atol=1e-3)
    score = task.score(module)
    errors = (test.predicted - test.truth).norm(dim=2)
    assert score["mean_joint_error"] == pytest.approx(float(errors.mean()))
    lengths = [
        torch.stack([(each[:, a] - each[:, b]).norm(dim=1) for a, b in BONES], 1)
        for each in (test.predicted, test.truth)
    ]
    assert score["bone_length_error"] == pytest.approx(float((lengths[0] - lengths[1]).square().mean().sqrt()))
    assert len(score["joint_errors"]) == 21 and score["frames"] == 8 and score["steps"] == 1
    optimizer, first = torch.optim.Adam(task.parameters(), 3e-3), None
    batch = next(iter(module.loader("train", torch.arange(8), 8)))
    task.train()
    for _ in range(60):
        loss, logged = task.loss(task.predict(task.encoder(batch), batch), batch)
        first = first or float(logged["train_error"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(logged["train_error"]) < 0.5 * first


def test_other_heads_are_refused():
    with pytest.raises(ConfigError, match="JointRegressor, JointVoter or JointRefiner"):
        small(head=Classifier)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("hands")
    assert main(["finetune", "task=hand_pose", "data=hands", *SMALL, *QUICK, f"out={out}"]) == 0
    return out


def test_the_metrics_of_a_run_and_its_checkpoint(trained):
    test = json.loads((trained / "metrics.json").read_text())["test"]
    assert 10 < test["mean_joint_error"] < 1000 and len(test["joint_errors"]) == len(JOINTS)
    assert {"auc_0_50", "max_error_20", "max_error_40", "aligned_joint_error", "bone_length_error"} <= set(test)
    assert len(test["calibration"]["actual"]) == 10 and test["steps"] == 4
    for name in ("success.png", "skeletons.png"):
        with Image.open(trained / name) as image:
            assert image.width > 400 and len(image.convert("RGB").getcolors(1 << 20)) > 50
    opened = open_checkpoint(trained)
    assert opened.card["joints"] == list(JOINTS) and opened.head.steps == 3


@pytest.mark.parametrize("head", ["joint_regressor", "joint_voter"])
def test_heads_are_chosen_by_name(head, tmp_path, capsys):
    words = ["finetune", "task=hand_pose", "data=hands", f"head={head}", *SMALL, *QUICK, f"out={tmp_path / 'D'}"]
    assert main(words) == 0
    assert type(open_checkpoint(tmp_path / "D").head).__name__.lower() == head.replace("_", "")
    assert "thumb_tip" in capsys.readouterr().out
    assert main(["finetune", "data=shapes", f"head={head}", *QUICK, f"out={tmp_path / 'E'}"]) == 2
    assert "Classify has a head of its own" in capsys.readouterr().err


def picture(path):
    """A depth picture of a hand, its camera, and the hand's joints."""
    hand, camera = Hands(size=4).hand(2), DepthCamera(240, 320, 60, near=0.1)
    depth = camera.measured(hand.corner, generator("picture")).depth
    Image.fromarray((1000 * depth).round().numpy().astype(np.uint16)).save(path)
    return f"[{camera.focal},{camera.focal},{camera.center[0]},{camera.center[1]}]"


def test_joints_in_a_depth_picture(trained, tmp_path, capsys):
    camera = picture(tmp_path / "crop.png")
    words = ["predict", f"checkpoint={trained}", f"depth={tmp_path / 'crop.png'}", f"camera={camera}"]
    assert main([*words, f"out={tmp_path / 'J.json'}"]) == 0
    found = json.loads((tmp_path / "J.json").read_text())
    joints = np.array(found["joints_mm"])
    assert joints.shape == (21, 3) and found["names"] == list(JOINTS) and min(found["std_mm"]) > 0
    assert 200 < joints[:, 2].mean() < 900  # in front of the camera, in millimetres
    assert main([*words, f"out={tmp_path / 'J.json'}", "depth_scale=0.002"]) == 0
    twice = np.array(json.loads((tmp_path / "J.json").read_text())["joints_mm"])
    assert twice[:, 2].mean() > 1.5 * joints[:, 2].mean()


def test_a_left_hand_is_seen_as_a_right_one(trained, tmp_path):
    pos = Hands(size=4)[1].pos.numpy()
    found = []
    for name, points, side in (("right", pos, "right"), ("left", pos * [-1, 1, 1], "left")):
        np.savez(tmp_path / f"{name}.npz", pos=points.astype(np.float32))
        words = [f"cloud={tmp_path / name}.npz", f"side={side}", f"out={tmp_path / 'J.json'}"]
        assert main(["predict", f"checkpoint={trained}", *words]) == 0
        found.append(np.array(json.loads((tmp_path / "J.json").read_text())["joints_mm"]))
    np.testing.assert_allclose(found[1], found[0] * [-1, 1, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["depth=crop.png"], "give camera=[fx,fy,cx,cy]"),
        (["depth=crop.png", "camera=[0,270,160,120]"], "wrong intrinsics"),
        (["depth=crop.png", "camera=[270,270,160]"], "camera: [270, 270, 160] is not a list"),
        (["depth=crop.png", "camera=[270,270,160,120]", "center=[3,0,0.5]"], "no point within 0.125 m"),
        (["depth=zero.png", "camera=[270,270,160,120]"], "are 0"),
        (["depth=none.png", "camera=[270,270,160,120]"], "none.png"),
        ([], "give a depth picture"),
        (["depth=crop.png", "camera=[270,270,160,120]", "side=both"], "side"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(trained, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture("crop.png")
    Image.fromarray(np.zeros((240, 320), np.uint16)).save("zero.png")
    capsys.readouterr()
    assert main(["predict", f"checkpoint={trained}", *words, "out=J.json"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crop.png", "zero.png"]


def test_joints_are_written_as_json_and_labels_are_not(trained, tmp_path, capsys):
    assert main(["predict", f"checkpoint={trained}", "cloud=x.npz", f"out={tmp_path / 'J.npz'}"]) == 2
    assert "out=NAME.json" in capsys.readouterr().err


def test_views_of_joints_turn_with_the_cloud():
    batch = next(iter(data().loader("train", torch.arange(4))))
    (view,) = Views(SO3(), num_views=1)(batch, 0)
    distance = torch.cdist(view.batch.joints, view.batch.pos.view(4, -1, 3)[:, :50])
    before = torch.cdist(batch.joints, batch.pos.view(4, -1, 3)[:, :50])
    torch.testing.assert_close(distance, before, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.block=0.1"], "data.block: is for labels of points"),
        (["data.label_points=5"], "data.label_points: is for labels of points"),
        (["data.view=pair"], "give data.view=single"),
        (["task.signs=4"], "give data.normalize=oriented_box"),
        (["recipe=pruned2"], "which the head reads; give recipe.prune.group=weight, or head=joint_regressor"),
    ],
)
def test_what_does_not_fit_joints_is_refused_before_training(words, message, tmp_path, capsys):
    assert main(["finetune", "task=hand_pose", "data=hands", *SMALL, *QUICK, *words, f"out={tmp_path / 'D'}"]) == 2
    error = capsys.readouterr().err
    assert message in error and not (tmp_path / "D" / "encoder").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["data.normalize=none"],
        ["data.normalize=oriented_box", "task.signs=4", "data.rotation=so3"],
        ["recipe=pruned2", "head=joint_regressor"],
        ["encoder=dgcnn", "encoder.k=4", "encoder.channels=[8,8]", "encoder.embedding=16", "recipe=adaptive"],
    ],
)
def test_kinds_of_encoders_and_poses(words, tmp_path):
    small = SMALL if not any(word == "encoder=dgcnn" for word in words) else SMALL[-2:]
    out = tmp_path / "D"
    assert main(["finetune", "task=hand_pose", "data=hands", *small, *QUICK, *words, f"out={out}"]) == 0
    np.savez(tmp_path / "hand.npz", pos=Hands(size=4)[1].pos.numpy())
    assert main(["predict", f"checkpoint={out}", f"cloud={tmp_path / 'hand.npz'}", f"out={tmp_path / 'J.json'}"]) == 0


def test_principal_axes_are_not_turned_in_training(tmp_path):
    words = ["data.normalize=oriented_box", "data.rotation=so3", "trainer.max_steps=1"]
    seen = []
    augmented = HandPose.augmented
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HandPose, "augmented", lambda self, batch: seen.append(augmented(self, batch)) or seen[-1])
        out = f"out={tmp_path / 'D'}"
        assert main(["finetune", "task=hand_pose", "data=hands", *SMALL, *QUICK, *words, out]) == 0
    spread = seen[0].pos.view(-1, 128, 3).var(1)
    assert bool((spread[:, 0] > spread[:, 2]).all())


def test_steps_are_counted_cloud_by_cloud():
    task, batch = small().eval(), next(iter(data().loader("test")))
    with torch.no_grad():
        torch.nn.init.normal_(task.head.move)
        chances = torch.stack([each.go_on.sigmoid() for each in task.head(task.encoder(batch))])
        task.head.exit_below = float(chances[0].median()) + 1e-6
        together = estimates(task.encoder, task.head, batch, 1).steps
    expected = [next((i for i in range(4) if chances[i, row] < task.head.exit_below), 3) + 1 for row in range(8)]
    assert together.tolist() == expected and len(set(expected)) > 1


def test_the_cube_is_that_of_the_training(tmp_path):
    out = tmp_path / "D"
    words = ["task=hand_pose", "data=hands", "data.cut=0.06", *SMALL, *QUICK, f"out={out}"]
    assert main(["finetune", *words]) == 0 and open_checkpoint(out).card["cut"] == 0.06
    camera = picture(tmp_path / "crop.png")
    points = []
    for extra in ([], ["cut=0.06"], ["cut=0.2"]):
        found = predict(out, depth=tmp_path / "crop.png", camera=json.loads(camera), out=tmp_path / "J.json",
                        **{word.split("=")[0]: float(word.split("=")[1]) for word in extra})  # fmt: skip
        points.append(found["points"])
    assert points[0] == points[1] < points[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["depth=crop.png", "camera=[270,270,160,120]", "votes=3", "block=2"], "votes, block: for labels of points"),
        (["depth=crop.png", "camera=[270,270,160,120]", "scale=5"], "scale: is the unit of a cloud"),
        (["cloud=hand.npz", "camera=[1,1,1,1]"], "belong to a depth picture"),
        (["cloud=hand.npz", "cut=0.02"], "give center=[x,y,z], too"),
    ],
)
def test_options_that_would_do_nothing_are_refused(trained, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture("crop.png")
    np.savez("hand.npz", pos=Hands(size=4)[1].pos.numpy())
    capsys.readouterr()
    assert main(["predict", f"checkpoint={trained}", *words, "out=J.json"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_predicting_needs_a_network_for_points_or_hands(tmp_path, capsys):
    words = ["pretrain", "data=hands", "objective=equivariant_info_nce", *SMALL, *QUICK, f"out={tmp_path / 'A'}"]
    assert main(words) == 0
    capsys.readouterr()
    assert main(["predict", f"checkpoint={tmp_path / 'A'}", "cloud=x.npz", "out=J.json"]) == 2
    assert "task=segment or task=hand_pose" in capsys.readouterr().err
