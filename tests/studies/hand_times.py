"""Trained networks for hand poses, one hand at a time: error against time, moving hands, and a steady camera."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from torch import Tensor

from geo3d.data import Hands
from geo3d.data.hands.from_depth import Camera
from geo3d.deploy.hand_tracker import MOVES, HandTracker
from geo3d.errors import ConfigError
from geo3d.io.files import replacing
from geo3d.pose_metrics import MILLIMETRES, joint_distances
from geo3d.seeds import generator

SHOWN = (240, 320, 60.0)
"""Rows, columns and horizontal angle of view of the camera in front of which hands move."""
FRAMES = 60
"""Pictures of one motion; the hand then vanishes, and another one appears."""
UNIT = 1e-4
"""Metres for each unit of the depths of the steady camera."""
RATE = 60.0
"""Pictures a second."""
EXITS = (0.3, 0.5, 0.7)
"""Probabilities below which no further step is taken."""


class Row(NamedTuple):
    """One setting of one network."""

    network: str
    setting: str
    error: float
    """Mean joint error in mm."""
    steps: float
    """Mean number of estimates."""
    median: float
    """Milliseconds from the picture to the joints."""
    p95: float


def pareto(names: Sequence[str], folders: Sequence[Path], tests: int, picture: Path) -> str:
    """A table of all networks, steps and thresholds: error and time of one hand; the picture shows them as curves."""
    rows = [row for name, folder in zip(names, folders, strict=True) for row in settings_of(name, folder, tests)]
    drawn(rows, picture)
    lines = ["| network | setting | error, mm | estimates | median ms | 95 % ms |", "|---|---|---|---|---|---|"]
    for row in rows:
        numbers = f"{row.error:.1f} | {row.steps:.2f} | {row.median:.2f} | {row.p95:.2f}"
        lines.append(f"| {row.network} | {row.setting} | {numbers} |")
    return "\n".join(lines)


def settings_of(name: str, folder: Path, tests: int) -> Iterator[Row]:
    """Each number of steps, and each threshold with all steps. All settings see a picture before any sees the next."""
    default = HandTracker(folder)
    most = default.head.steps if default.refines else 0
    wanted = [(f"steps: {count}", count, 0.0) for count in range(most + 1)]
    wanted += [(f"stops below {exit:g}", most, exit) for exit in EXITS] if most else []
    trackers = [
        HandTracker(folder, steps=count, exit_below=exit) if default.refines else default for _, count, exit in wanted
    ]
    hands = Hands("test", tests, held_out="pose")
    figures: list[list[tuple[float, float, float]]] = [[] for _ in trackers]
    for index in range(-3, tests):  # the first three warm up
        depth, camera, joints = hands.picture(max(0, index))
        for tracker, measured in zip(trackers, figures, strict=True):
            tracker.reset()
            began = time.perf_counter()
            made = tracker.depth(depth, camera)
            took = time.perf_counter() - began
            if index >= 0:
                measured.append((off(made.joints, joints), float(made.steps), 1000 * took))
    for (setting, _, _), measured in zip(wanted, figures, strict=True):
        error, count, took = np.array(measured).T
        yield Row(name, setting, error.mean(), count.mean(), float(np.median(took)), float(np.percentile(took, 95)))


def drawn(rows: Sequence[Row], picture: Path) -> None:
    """Write the figure of error against median time."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for color, name in enumerate(dict.fromkeys(row.network for row in rows)):
        for mark, exits in (("o-", False), ("x--", True)):
            some = [row for row in rows if row.network == name and row.setting.startswith("stops") == exits]
            times, errors = [row.median for row in some], [row.error for row in some]
            axes.plot(times, errors, mark, color=f"C{color}", label=None if exits else name)
    for mark, label in (("o-", "fixed steps"), ("x--", "stops when sure")):
        axes.plot([], [], mark, color="gray", label=label)
    axes.set_xlabel("median time from depth picture to joints, ms")
    axes.set_ylabel("mean joint error, mm")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves, which fill the picture
    picture.parent.mkdir(parents=True, exist_ok=True)
    with replacing(picture) as new:
        figure.savefig(new, dpi=120, format="png")
    pyplot.close(figure)


def off(predicted: Tensor, joints: Tensor) -> float:
    """Mean distance in mm of joints (J, 3) in metres."""
    return float(MILLIMETRES * joint_distances(predicted, joints).mean())


def motions(count: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Depth pictures of moving hands before one camera that stands still, each with its joints."""
    hands = Hands("test", count, held_out="pose")
    camera = hands.camera.with_picture(*SHOWN)
    for index in range(count):
        motion, draw = hands.motion(index), generator("moving", index)
        moments = [motion.at(frame / (FRAMES - 1)) for frame in range(FRAMES)]
        yield [(camera.measured(hand.corner, draw).depth, hand.joints) for hand in moments]


def counted(depth: Tensor) -> Tensor:
    """(H, W) int16 depths in units of ``UNIT``, as cameras give them."""
    return (depth / UNIT).round().short()


def shown() -> Camera:
    """The camera of :func:`motions`."""
    camera = Hands(size=1).camera.with_picture(*SHOWN)
    return Camera(camera.focal, camera.focal, *camera.center)


def sequences(folder: Path, count: int) -> str:
    """A table: error, tremble and time for each number of steps, each frame on its own and after the filter.

    Tremble is how far the joints of one frame are from those of the frame before, in the mean.
    """
    tracker, camera = HandTracker(folder), shown()
    if not tracker.refines:
        raise ConfigError(
            f"{folder}: a {type(tracker.head).__name__} does not refine; give a network with a JointRefiner"
        )
    most = tracker.head.steps
    kinds = [(steps, moves) for steps in range(most + 1) for moves in (None, MOVES)]
    trackers = [HandTracker(folder, moves=moves, steps=steps) for steps, moves in kinds]
    figures: list[list[tuple[float, float, float]]] = [[] for _ in kinds]
    for frames in motions(count):
        for tracker in trackers:
            tracker.reset()
        for depth, joints in frames:
            for tracker, measured in zip(trackers, figures, strict=True):
                before, began = tracker.last, time.perf_counter()
                made = tracker.depth(depth, camera)
                took = time.perf_counter() - began
                if before is not None:  # the first frame has none before it
                    measured.append((off(made.joints, joints), off(made.joints, before), 1000 * took))
    lines = ["| steps | joints | error, mm | tremble, mm | median ms |", "|---|---|---|---|---|"]
    for (steps, moves), measured in zip(kinds, figures, strict=True):
        error, tremble, took = np.array(measured).T
        kind = "of each frame" if moves is None else "filtered"
        lines.append(f"| {steps} | {kind} | {error.mean():.2f} | {tremble.mean():.2f} | {np.median(took):.2f} |")
    return "\n".join(lines)


def stream(folder: Path, seconds: float, budget: float) -> str:
    """What a camera of 60 pictures a second sees: pictures left out, delays, and how regular the joints come.

    The network takes the newest picture when it is free. A picture that a newer one has replaced is left out.

    Args:
        folder: The trained network.
        seconds: How long the camera runs.
        budget: Milliseconds for the encoder, see ``Runtime.set_budget``.
    """
    total, camera = round(seconds * RATE), shown()
    clips = motions(-(-total // FRAMES))
    frames = [(counted(depth), joints) for clip in clips for depth, joints in clip][:total]
    tracker = HandTracker(folder, budget_ms=budget)
    for depth, _ in frames[:20]:
        tracker.depth(UNIT * depth, camera)
    ends, delays, errors, last, began = [], [], [], -1, time.perf_counter()
    while (frame := int((time.perf_counter() - began) * RATE)) < total:
        if frame == last:
            time.sleep(max(0.0, began + (frame + 1) / RATE - time.perf_counter()))
            continue
        if frame // FRAMES != last // FRAMES:
            tracker.reset()
        last, (depth, joints) = frame, frames[frame]
        made = tracker.depth(UNIT * depth, camera)
        now = time.perf_counter()
        ends.append(now)
        delays.append(1000 * (now - began - frame / RATE))
        errors.append(off(made.joints, joints))
    gaps = 1000 * np.diff(ends)
    return (
        f"{total} pictures in {seconds:g} s, {len(ends)} seen, {total - len(ends)} left out; delay "
        f"{np.median(delays):.1f} ms (95 %: {np.percentile(delays, 95):.1f}); "
        f"{np.mean(gaps):.1f} +- {np.std(gaps):.1f} ms between joints; mean joint error {np.mean(errors):.1f} mm"
    )
