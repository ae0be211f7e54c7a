"""Joints against the truth: the metrics of published predictions, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from geo3d.errors import CloudError, ConfigError
from geo3d.jobs import score

NYU = Path(__file__).parents[3] / "shared" / "data" / "hands_nyu" / "nyu_test_uvd.npz"
METHODS = {  # mean error in mm, area under the curve, fractions of frames within 20 and 40 mm
    "hand_pointnet": ("10.540", "0.790", "0.593", "0.860"),
    "point_to_point": ("9.045", "0.821", "0.715", "0.889"),
    "densereg": ("10.214", "0.805", "0.564", "0.858"),
}


def write(folder, name="p.npz", **arrays):
    np.savez(folder / name, **arrays)
    return folder / name


def joints(frames=3, number=4):
    rng = np.random.default_rng(frames)
    return rng.uniform((100, 100, 400), (200, 200, 900), (frames, number, 3)).astype(np.float32)


@pytest.mark.skipif(not NYU.exists(), reason="needs the published predictions for NYU")
@pytest.mark.parametrize("name", METHODS)
def test_published_predictions_have_their_published_errors(name, tmp_path):
    metrics = score(
        NYU, NYU, out=tmp_path, task="hand_pose", camera="nyu", prediction_key=name, truth_key="groundtruth"
    )
    keys = ("mean_joint_error", "auc_0_50", "max_error_20", "max_error_40")
    assert tuple(f"{metrics[key]:.3f}" for key in keys) == METHODS[name]
    assert len(metrics["joint_errors"]) == 14 and metrics["frames"] == 8252


@pytest.mark.parametrize(
    ("camera", "focal"), [("nyu", (588.03, -587.07)), ("icvl", (240.99, 240.96)), ("msra", (241.42, 241.42))]
)
def test_pixels_become_millimetres(camera, focal, tmp_path):
    true = joints()
    predicted = true + np.array([3, 0, 0], dtype=np.float32)
    predicted[:, 1] = true[:, 1] + np.array([0, 5, 0], dtype=np.float32)
    record = score(
        write(tmp_path, uvd=predicted),
        write(tmp_path, "t.npz", uvd=true),
        out=tmp_path / "s",
        task="hand_pose",
        camera=camera,
    )
    expected = 3 * true[..., 2] / focal[0]
    expected[:, 1] = 5 * true[:, 1, 2] / abs(focal[1])
    assert record["joint_errors"] == pytest.approx(expected.mean(0).tolist(), rel=1e-5)
    assert record["mean_joint_error"] == pytest.approx(expected.mean(), rel=1e-5)
    assert json.loads((tmp_path / "s" / "metrics.json").read_text())["mean_joint_error"] == record["mean_joint_error"]
    assert (tmp_path / "s" / "success.png").stat().st_size > 1000


def test_coordinates_in_millimetres(tmp_path):
    true = joints() - 500
    record = score(
        write(tmp_path, mine=true + np.float32(10)), write(tmp_path, "t.npz", xyz=true), out=tmp_path / "s",
        task="hand_pose", camera="metric", prediction_key="mine",
    )  # fmt: skip
    assert record["mean_joint_error"] == pytest.approx(10 * 3**0.5, rel=1e-5)
    assert record["max_error_20"] == 1.0 and record["aligned_joint_error"] < 1e-3
    assert record["auc_0_50"] == pytest.approx(66 / 101)  # thresholds from 17.5 to 50


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ({"xyz": joints()}, {}, "p.npz: expected an array uvd .*; found xyz; give prediction_key=NAME"),
        ({}, {"label": joints()}, "t.npz: expected an array uvd .*; found label; give truth_key=NAME"),
        ({"uvd": joints(4)}, {}, "has 3 frames of 4 joints, .* has 4 frames of 4 joints"),
        ({"uvd": joints(3, 5)}, {}, "has 3 frames of 4 joints, .* has 3 frames of 5 joints"),
        ({"uvd": joints()[0]}, {}, r"uvd: expected numbers \(frames, joints, 3\); found float32 \(4, 3\)"),
        ({"uvd": joints()[:0]}, {}, r"uvd: expected numbers \(frames, joints, 3\)"),
        ({"uvd": np.where(np.arange(3) == 1, np.nan, joints())}, {}, "joint 0 of frame 0 is not finite"),
        ({}, {"uvd": joints() * np.float32([1, 1, -1])}, "t.npz: joint 0 of frame 0 has depth -"),
    ],
)
def test_files_that_do_not_fit_are_refused(prediction, truth, message, tmp_path):
    files = write(tmp_path, **prediction or {"uvd": joints()}), write(tmp_path, "t.npz", **truth or {"uvd": joints()})
    with pytest.raises(CloudError, match=message) as raised:
        score(*files, out=tmp_path / "s", task="hand_pose", camera="nyu")
    assert "\n" not in str(raised.value) and not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"task": "hand_pose"}, "camera: the joints are in pixels or in mm; "),
        ({"task": "hand_pose", "camera": "nuy"}, "camera: .*found nuy; did you mean 'nyu'"),
        ({"camera": "nyu"}, "camera: belongs to task=hand_pose"),
        ({"truth_key": "uvd"}, "truth_key: belongs to task=hand_pose"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, message, tmp_path):
    file = write(tmp_path, uvd=joints())
    with pytest.raises(ConfigError, match=message):
        score(file, file, out=tmp_path / "s", **words)
