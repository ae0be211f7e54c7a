"""``mode=views``."""

from geo3d.cloud import collate
from geo3d.data.prepared import prepare
from geo3d.invariance.base import Invariance
from geo3d.invariance.views import Views
from geo3d.jobs.inspected.source import Source
from geo3d.seeds import generator
from geo3d.show.scene import Scene
from geo3d.show.scenes.views import Seen, views_scene


def views(invariance: Invariance, source: Source, points: int, seed: int) -> Scene:
    """The scene of two views of a cloud as pretraining makes them.

    Args:
        invariance: What must not matter; it draws the views.
        source: One cloud.
        points: Most points of a view.
        seed: Of the draw.
    """
    prepared = prepare(source.cloud, source.title, None, "unit_sphere", generator(seed, "inspect"), None)
    batch = collate([prepared])
    made = Views(invariance, num_points=points, num_views=2, normalize="unit_sphere")(batch, seed, "inspect")
    seen = [Seen(view.batch.pos.numpy(), view.batch.point_id.numpy()) for view in made]
    return views_scene(batch.pos.numpy(), seen, source.title)
