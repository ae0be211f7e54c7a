"""``mode=hand``."""

import numpy as np
import torch

from geo3d.checkpoint.open import Checkpoint
from geo3d.data.hands.skeleton import BONES, JOINTS, PARTS
from geo3d.deploy.hand_tracker import hand_joints
from geo3d.errors import CheckpointError, ConfigError
from geo3d.jobs.inspected.source import Source
from geo3d.pose_metrics import MILLIMETRES
from geo3d.show.colorings import of_labels
from geo3d.show.palette import UNKNOWN
from geo3d.show.scene import Coloring, Scene
from geo3d.show.scenes.hand import hand_scene


@torch.no_grad()
def hand(opened: Checkpoint, source: Source) -> Scene:
    """The scene of the joints that a network finds in a cloud, beside the true ones if the cloud has them.

    Args:
        opened: A checkpoint of ``geo3d finetune task=hand_pose``.
        source: A right hand alone, in metres in the camera's axes, x right, y down, z forward.

    Raises:
        CheckpointError: If the checkpoint finds no joints.
        ConfigError: If the cloud has another number of joints.
    """
    cloud, title = source.cloud, source.title
    names = list(opened.card.get("joints") or ())
    if not names or opened.head is None:
        raise CheckpointError(f"{opened.folder}: expected a network of hand poses; train it with task=hand_pose")
    truth = cloud.get("joints")
    if truth is not None and truth.shape[-2] != len(names):
        raise ConfigError(
            f"{title}: has {truth.shape[-2]} joints, and the network was trained for {len(names)}; give a network that "
            "was trained on such hands"
        )
    made = hand_joints(opened.encoder, opened.head, opened.card, cloud.pos, title)
    grey = Coloring("points", np.zeros(len(cloud.pos), dtype=np.int64), np.array([UNKNOWN], dtype=np.uint8))
    parts = (of_labels("part", cloud.point_y.numpy(), PARTS),) if "point_y" in cloud else ()
    true = None if truth is None else MILLIMETRES * truth.reshape(-1, 3).double().numpy()
    bones = BONES if tuple(names) == tuple(JOINTS) else ()
    pos, joints = MILLIMETRES * cloud.pos.double().numpy(), MILLIMETRES * made.joints.numpy()
    return hand_scene(pos, (grey, *parts), joints, true, names, bones, title)
