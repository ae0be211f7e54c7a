"""What a training of hand poses shows at its end."""

from pathlib import Path

from geo3d.geometry.frame import frame_of, to_source
from geo3d.pose_metrics import MILLIMETRES, error_table, joint_distances
from geo3d.show.skeletons import Frame, plot_skeletons
from geo3d.show.success import plot_success
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.hand_pose import HandPose


def show_poses(task: HandPose, data: DataModule, out: Path) -> None:
    """Print the error of each joint, and draw the curve of good frames and the best, median and worst frame.

    Args:
        task: After it was scored.
        data: The data that it was scored on.
        out: Run folder, for ``success.png`` and ``skeletons.png``.
    """
    assert task.test is not None
    errors = joint_distances(task.test.predicted, task.test.truth)
    print(error_table(errors.mean(0).tolist(), task.names))
    plot_success(errors.amax(1), out / "success.png", {})
    order = errors.mean(1).argsort()
    frames = []
    for name, place in (("best", 0), ("median", len(order) // 2), ("worst", len(order) - 1)):
        row = int(order[place])
        cloud = data.cloud("test", row)
        points = MILLIMETRES * to_source(cloud.pos, frame_of(cloud))
        title = f"{name} frame: {float(errors[row].mean()):.1f} mm"
        frames.append(Frame(title, points, task.test.predicted[row], task.test.truth[row]))
    plot_skeletons(frames, task.bones, out / "skeletons.png")
