"""The job that compares predicted joints of hands with the true ones."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geo3d.errors import CloudError, ConfigError, did_you_mean
from geo3d.io.arrays import read_archive
from geo3d.io.files import listing
from geo3d.jobs.run import finish_run, run_folder
from geo3d.pose_metrics import error_table, joint_distances, pose_metrics
from geo3d.show.success import plot_success

CAMERAS: dict[str, tuple[float, float, float, float]] = {
    "nyu": (588.03, -587.07, 320.0, 240.0),
    "icvl": (240.99, 240.96, 160.0, 120.0),
    "msra": (241.42, 241.42, 160.0, 120.0),
}
"""Focal lengths and principal points (fx, fy, cx, cy) in pixels with which the results of each set are compared."""
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "nyu": {"HandPointNet": (0.593, 0.860), "Point-to-Point": (0.715, 0.889), "DenseReg": (0.564, 0.858)}
}
"""Fractions of the test frames whose worst joint is at most 20 and 40 mm off, from published predictions."""


def score_pose(
    prediction: str | Path,
    truth: str | Path,
    *,
    out: str | Path,
    camera: str | None,
    prediction_key: str | None,
    truth_key: str | None,
) -> dict[str, Any]:
    """Metrics of predicted joints: errors in mm, fractions of good frames, the area under the curve of joints.

    Args:
        prediction: An NPZ file with an array (frames, joints, 3).
        truth: Another, or the same file with another array.
        out: Run folder.
        camera: ``nyu``, ``icvl`` or ``msra`` for pixels and depths in mm, ``metric`` for coordinates in mm.
        prediction_key: Name of the array; by default ``uvd``, for ``metric`` ``xyz``.
        truth_key: The same for the truth.

    Raises:
        CloudError: If a file cannot be read, has no such array, or the arrays do not fit.
        ConfigError: If the camera is not known.
    """
    known = [*CAMERAS, "metric"]
    if camera is None or camera not in known:
        given = "" if camera is None else f"found {camera}; "
        raise ConfigError(f"camera: the joints are in pixels or in mm; {given}{did_you_mean(camera or '', known)}")
    default = "xyz" if camera == "metric" else "uvd"
    predicted = _joints(prediction, prediction_key or default, "prediction_key")
    true = _joints(truth, truth_key or default, "truth_key")
    if predicted.shape != true.shape:
        raise CloudError(
            f"{truth}: has {_size(true)}, {prediction} has {_size(predicted)}; give those of the same frames"
        )
    if camera != "metric":
        _check_depth(true, truth)
        predicted, true = in_millimetres(predicted, camera), in_millimetres(true, camera)
    metrics = pose_metrics(predicted, true)
    files = {"prediction": Path(prediction), "truth": Path(truth)}
    manifest = {name: listing([path], path.parent) for name, path in files.items()}
    settings = {"task": "hand_pose", "camera": camera, "prediction_key": prediction_key, "truth_key": truth_key}
    with run_folder(out, manifest, settings) as folder:
        worst = joint_distances(predicted, true).amax(1)
        plot_success(worst, folder / "success.png", PUBLISHED.get(camera, {}))
        print(error_table(metrics["joint_errors"]))
        finish_run(folder, metrics)
    return metrics


def in_millimetres(uvd: Tensor, camera: str) -> Tensor:
    """(F, J, 3) float64 coordinates in mm from pixel columns, pixel rows and depths in mm.

    Example:
        >>> in_millimetres(torch.tensor([[[908.03, 240.0, 500.0]]]), "nyu").abs().round().tolist()
        [[[500.0, 0.0, 500.0]]]
    """
    fx, fy, cx, cy = CAMERAS[camera]
    u, v, depth = uvd.double().unbind(-1)
    return torch.stack([(u - cx) * depth / fx, (v - cy) * depth / fy, depth], -1)


def _joints(path: str | Path, key: str, option: str) -> Tensor:
    """(F, J, 3) the array of this name."""
    arrays = read_archive(path)
    if key not in arrays:
        raise CloudError(
            f"{path}: expected an array {key} (frames, joints, 3); found {', '.join(sorted(arrays)) or 'none'}; "
            f"give {option}=NAME"
        )
    array = arrays[key]
    if array.ndim != 3 or array.shape[2] != 3 or not array.size or array.dtype.kind not in "fiu":
        raise CloudError(f"{path}: {key}: expected numbers (frames, joints, 3); found {array.dtype} {array.shape}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        frame, joint, _ = bad[0].tolist()
        raise CloudError(f"{path}: {key}: joint {joint} of frame {frame} is not finite; every joint needs a position")
    return torch.from_numpy(array.astype(np.float64))


def _check_depth(uvd: Tensor, path: str | Path) -> None:
    behind = (uvd[..., 2] <= 0).nonzero()
    if len(behind):
        frame, joint = behind[0].tolist()
        depth = float(uvd[frame, joint, 2])
        raise CloudError(
            f"{path}: joint {joint} of frame {frame} has depth {depth:g}; expected pixels and depths in mm above 0, or "
            "give camera=metric"
        )


def _size(joints: Tensor) -> str:
    return f"{joints.shape[0]} frames of {joints.shape[1]} joints"
