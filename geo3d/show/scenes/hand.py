"""The scene of a hand: its points, and the predicted and the true skeleton over them."""

from collections.abc import Sequence

import numpy as np

from geo3d.show.palette import distinct
from geo3d.show.scene import CAMERA_UPRIGHT, Coloring, Lines, Pane, Points, Scene, camera_around

ASIDE = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
"""A quarter turn about the up axis, to look from the side."""
JOINT_SIZE, POINT_SIZE = 1.6, 0.7
TRUE, PREDICTED = (tuple(each.tolist()) for each in distinct(2))


def hand_scene(
    pos: np.ndarray,
    colorings: tuple[Coloring, ...],
    predicted: np.ndarray,
    truth: np.ndarray | None,
    names: Sequence[str],
    bones: Sequence[tuple[int, int]],
    title: str,
) -> Scene:
    """A scene of two panes: a hand as the camera sees it, and from the side.

    Args:
        pos: (N, 3) points in the camera's axes, in millimetres.
        colorings: Of the points.
        predicted: (J, 3) joints.
        truth: (J, 3) true joints; None if they are not known.
        names: Of the joints.
        bones: Which joints are joined by a line.
        title: Of the hand.
    """
    middle, names = pos.mean(0), [name.replace("_", " ") for name in names]
    skeletons = {"predicted": (predicted, PREDICTED)} | ({} if truth is None else {"true": (truth, TRUE)})
    panes = []
    for name, turn in ((title, CAMERA_UPRIGHT), ("from the side", ASIDE @ CAMERA_UPRIGHT)):
        points = [Points(((pos - middle) @ turn.T).astype(np.float32), colorings, POINT_SIZE)]
        lines = []
        for kind, (joints, color) in skeletons.items():
            placed = ((joints - middle) @ turn.T).astype(np.float32)
            points.append(_joints(placed, kind, names))
            if bones:
                lines.append(Lines(placed[np.array(bones)], color, on_top=True))
        panes.append(Pane(name, tuple(points), tuple(lines)))
    notes = ["Lengths are in millimetres."]
    if truth is not None:
        errors = np.linalg.norm(predicted - truth, axis=1)
        worst = int(errors.argmax())
        notes.append(f"mean joint error {errors.mean():.1f} mm; worst {errors[worst]:.1f} mm, {names[worst]}")
    everything = np.concatenate([pane.everything() for pane in panes])
    camera = camera_around(everything, azimuth=-90.0, elevation=0.0)
    return Scene(tuple(panes), camera, notes=tuple(notes), axes=False)


def _joints(joints: np.ndarray, kind: str, names: Sequence[str]) -> Points:
    """The joints of one skeleton; the point under the mouse is named by its joint, the legend names the skeleton."""
    both = ("true joints", "predicted joints")
    which = Coloring(
        "skeleton", np.full(len(joints), int(kind == "predicted")), np.array([TRUE, PREDICTED], np.uint8), both
    )
    each = Coloring("joint", np.arange(len(joints)), distinct(len(joints)), tuple(names))
    return Points(joints, (which, each), JOINT_SIZE, on_top=True, name=f"{kind} joint")
