"""``mode=neighbors``."""

import torch

from geo3d.checkpoint.open import Checkpoint
from geo3d.cloud import layout_of
from geo3d.encoders.inputs import encoder_inputs
from geo3d.errors import ConfigError
from geo3d.jobs.inspected.encoded import seen_by
from geo3d.jobs.inspected.features import chosen
from geo3d.jobs.inspected.source import Source
from geo3d.nn.describe import graph_of
from geo3d.nn.evaluate import Value, evaluate
from geo3d.nn.graph import Op
from geo3d.show.scene import Scene
from geo3d.show.scenes.neighbors import neighbor_scene


@torch.no_grad()
def neighbors(opened: Checkpoint, source: Source, points: int, point: int) -> Scene:
    """The scene of the neighbours of a point in each layer that searches for them, as the encoder's graph says.

    Args:
        opened: The checkpoint with the encoder.
        source: One cloud.
        points: Most points that the encoder sees.
        point: Number of the point.

    Raises:
        ConfigError: If the cloud has no such point, or no layer of the encoder searches for neighbours.
    """
    batch, numbers = seen_by(opened, source, points, chosen(source, point))
    encoder = opened.encoder
    ops = graph_of(encoder, "mode=neighbors")
    searches = [op for op in ops if op.kind == "neighbors"]
    if not searches:
        raise ConfigError(
            f"mode=neighbors: no layer of {type(encoder).__name__} searches for nearest neighbours; give a DGCNN"
        )
    x, layout = encoder_inputs(batch, encoder), layout_of(batch)
    inputs = {"pos": Value(batch.pos, layout), "x": Value(x[:, 3:], layout)}
    values = evaluate(encoder, ops, inputs, [op.path for op in searches])
    row = int((numbers == point).nonzero()[0, 0])
    layers = {_named(op, place): values[op.path].x[row].numpy() for place, op in enumerate(searches, 1)}
    scene = neighbor_scene(batch.pos.numpy(), layers, row, numbers.numpy())
    note = f"{source.title}: the encoder saw {len(numbers):,} of {len(source.cloud.pos):,} points."
    return scene._replace(notes=(note, *scene.notes))


def _named(op: Op, place: int) -> str:
    """What a search is called in a title."""
    return f"layer {place}, by {'coordinates' if op.sources == ('pos',) else 'features'}"
