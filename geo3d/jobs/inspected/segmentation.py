"""``mode=segmentation``."""

import torch
from torch_geometric.data import Data

from geo3d.checkpoint.open import Checkpoint
from geo3d.errors import CheckpointError, ConfigError
from geo3d.jobs.inspected.source import Source
from geo3d.metrics import class_iou, confusion
from geo3d.show.colorings import colorings_of
from geo3d.show.scene import Scene, thinned
from geo3d.show.scenes.cloud import MOST
from geo3d.show.scenes.segmentation import segmentation_scene
from geo3d.tasks.dense import Division, point_probabilities, restricted


@torch.no_grad()
def segmentation(opened: Checkpoint, source: Source) -> Scene:
    """The scene of what a network says of each point, beside the truth if the cloud has labels.

    Args:
        opened: A checkpoint of ``geo3d finetune task=segment``.
        source: One cloud; for a network of parts with its class in ``y``.

    Raises:
        ConfigError: If the cloud's classes are others than the network's.
        CheckpointError: If the checkpoint is of no segmentation, or the network needs the class of the object and the
            cloud has none.
    """
    cloud, title, classes = source.cloud, source.title, source.classes
    network, names = opened.network, list(opened.card.get("classes") or ())
    if network is None or not names:
        raise CheckpointError(f"{opened.folder}: expected a segmentation network; train it with task=segment")
    if opened.card.get("categories") and "y" not in cloud:
        raise CheckpointError(
            f"{opened.folder}: the network labels the parts of one class of objects, and {title} does not say its "
            "class; take the cloud from a data set"
        )
    if classes and list(classes) != names:
        raise ConfigError(
            f"{title}: its points have the classes {', '.join(classes)[:100]}, and the network knows "
            f"{', '.join(names)[:100]}; give a network that was trained on such data"
        )
    convention = opened.card.get("input", {})
    division = Division(convention.get("num_points"), 1, convention.get("block"))
    how, key = convention.get("normalize", "unit_sphere"), ("inspect", title)
    probabilities = point_probabilities(network, cloud, title, division, normalize=how, pose=None, key=key)
    if opened.card.get("groups") and "y" in cloud:
        probabilities = restricted(probabilities, opened.card["groups"][int(cloud.y)])
    predicted, truth = probabilities.argmax(1), cloud.get("point_y")
    iou = [] if truth is None else class_iou(confusion(predicted, truth, len(names))).tolist()
    kept = thinned(len(predicted), MOST)
    rows = torch.arange(len(predicted)) if kept is None else torch.from_numpy(kept)
    plain = Data(**{name: cloud[name][rows] for name in ("pos", "rgb", "normal") if name in cloud})
    scene = segmentation_scene(
        plain.pos.numpy(), colorings_of(plain), predicted[rows].numpy(), None if truth is None else truth[rows].numpy(),
        names, iou, title, kept,
    )  # fmt: skip
    if kept is None:
        return scene
    return scene._replace(notes=(*scene.notes, f"{title}: {len(kept):,} of {len(predicted):,} points are drawn."))
