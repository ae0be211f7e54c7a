"""``mode=compare``."""

import torch

from geo3d.checkpoint.open import Checkpoint
from geo3d.errors import ConfigError
from geo3d.jobs.inspected.encoded import of_points, seen_by
from geo3d.jobs.inspected.source import Source
from geo3d.show.scene import Scene
from geo3d.show.scenes.compare import compare_scene


@torch.no_grad()
def compare(opened: Checkpoint, other: Checkpoint, source: Source, points: int) -> Scene:
    """The scene of two encoders on the same points.

    Args:
        opened: The checkpoint with the first encoder, which decides how clouds are prepared.
        other: That with the second one.
        source: One cloud.
        points: Most points that the encoders see.

    Raises:
        ConfigError: If the two were trained on clouds that are normalised in different ways.
    """
    ways = [each.card.get("input", {}).get("normalize", "unit_sphere") for each in (opened, other)]
    if ways[0] != ways[1]:
        raise ConfigError(
            f"other={other.folder}: was trained on clouds with normalize={ways[1]}, and the first encoder on clouds "
            f"with normalize={ways[0]}; give two of the same"
        )
    batch, rows = seen_by(opened, source, points)
    first, second = (of_points(each.encoder, batch, source.title).numpy() for each in (opened, other))
    kinds = [type(each.encoder).__name__ for each in (opened, other)]
    names = (f"{source.title}: first encoder, {kinds[0]}", f"other encoder, {kinds[1]}")
    return compare_scene(batch.pos.numpy(), first, second, names, rows.numpy())
