"""The job that draws clouds, and what an encoder makes of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from geo3d.checks import Length, Range, Seed, Up, checked
from geo3d.errors import ConfigError
from geo3d.invariance.base import Invariance
from geo3d.jobs.inspected.source import Source, of_data, of_file
from geo3d.show.page import write_page
from geo3d.show.png import Painter, write_png
from geo3d.show.scene import Scene
from geo3d.show.scenes.cloud import cloud_scene
from geo3d.show.splat import splat

Mode = Literal["cloud", "views", "features", "neighbors", "compare", "segmentation", "hand"]
Number = Annotated[int, Range(0, 100_000_000)]
READS = {
    "cloud": (),
    "views": ("invariance", "points", "seed"),
    "features": ("checkpoint", "beside", "points", "point", "basis"),
    "neighbors": ("checkpoint", "points", "point"),
    "compare": ("checkpoint", "other", "points"),
    "segmentation": ("checkpoint",),
    "hand": ("checkpoint",),
}
"""Options that a mode reads beside those of all modes."""
NEEDS = {
    "cloud": (),
    "views": ("invariance",),
    "features": ("checkpoint",),
    "neighbors": ("checkpoint",),
    "compare": ("checkpoint", "other"),
    "segmentation": ("checkpoint",),
    "hand": ("checkpoint",),
}
"""Options without which a mode cannot work."""
GIVEN = {"checkpoint": "DIR", "other": "DIR", "invariance": "so3"}
POINTS = 8192
Drawer = Callable[[list[Source]], Scene]
"""Makes the scene of one cloud, or of several for ``features``."""


@checked
def inspect(
    mode: Mode = "cloud",
    cloud: str | Path | None = None,
    data: Any = None,
    *,
    out: str | Path | None = None,
    checkpoint: str | Path | None = None,
    other: str | Path | None = None,
    split: Literal["train", "test"] = "test",
    index: Number = 0,
    beside: Annotated[Sequence[str | Number], Length(0, 8)] = (),
    points: Annotated[int, Range(16, 1_000_000)] = 8192,
    point: Number | None = None,
    invariance: Invariance | None = None,
    seed: Seed = 0,
    basis: str | Path | None = None,
    up: Up = "z",
    renderer: Literal["own", "open3d"] = "own",
) -> dict[str, Any]:
    """What was drawn and where: a PNG picture, one HTML page that needs no network, or a window.

    ``mode=cloud`` shows one cloud, in its colours, its labels or by height, with its size, the distance between points,
    duplicates, and a guess of its unit and of which axis is upright. ``mode=views`` shows two views of a cloud as
    pretraining with an invariance makes them, and which points match. ``mode=features`` shows what an encoder makes of
    each point, as colours, and how similar all points are to a chosen one. ``mode=neighbors`` shows the neighbours of
    a point in each layer of a DGCNN. ``mode=compare`` shows where two encoders, such as one and its compressed form,
    see different things. ``mode=segmentation`` shows the labels that a network gives to points, the true ones, and the
    errors. ``mode=hand`` shows the joints that a network finds in a hand, and the true ones.

    Args:
        mode: What is drawn.
        cloud: A file with one cloud or mesh; give either this or ``data``.
        data: A data set, of which one cloud is drawn; give either this or ``cloud``.
        out: The file to write, ``NAME.png`` or ``NAME.html``; a window opens if it is left out.
        checkpoint: A saved encoder, for all modes but ``cloud``.
        other: For ``compare``: the second encoder.
        split: For a data set: the part from which the cloud is taken.
        index: For a data set: the number of the cloud.
        beside: For ``features``: further clouds in the same colours, files or numbers of a data set.
        points: Most points of a cloud that the encoder sees; the features of the others are interpolated.
        point: For ``features`` and ``neighbors``: the number of a point in the cloud.
        invariance: For ``views``: what must not matter, such as ``so3``.
        seed: For ``views``: of the draw.
        basis: For ``features``: a file with the directions that become colours, which is read if it exists, else
            written, so that pictures agree.
        up: The axis that points up in a cloud's file, ``y`` or ``z``.
        renderer: Who draws a PNG picture: geo3d, which needs no driver and draws the same everywhere, or Open3D.

    Raises:
        ConfigError: If both or neither of ``cloud`` and ``data`` are given, an option is missing or is not read by this
            mode, or ``out`` has another suffix.
        CheckpointError: If a checkpoint is missing or damaged.
        CloudError: If a cloud cannot be read.
    """
    given: dict[str, Any] = {"checkpoint": checkpoint, "other": other, "beside": tuple(beside) or None, "basis": basis}
    given |= {"invariance": invariance, "point": point}
    _check_options(mode, given | {"points": None if points == POINTS else points, "seed": seed or None})
    _check_target(out)
    if (cloud is None) == (data is None):
        raise ConfigError("inspect takes either cloud=FILE or data=NAME; give exactly one of the two")
    if data is None and (index or split != "test"):
        raise ConfigError("index and split: choose a cloud of a data set; with cloud=FILE leave them out")
    if data is not None and up != "z":
        raise ConfigError(f"up={up}: is for a cloud's file; a data set says itself which way is up; leave it out")
    if renderer != "own" and (out is None or Path(out).suffix.lower() != ".png"):
        raise ConfigError(f"renderer={renderer}: is for PNG pictures; give out=NAME.png, or leave it out")

    def read(place: str | int | Path) -> Source:
        if data is not None and str(place).isdecimal():
            return of_data(data, split, int(str(place)))
        return of_file(Path(str(place)), up)

    def scene_of(number: int) -> Scene:
        sources = [read(index + number if cloud is None else cloud), *map(read, beside)]
        made = draw(sources)
        return made._replace(notes=(*(note for each in sources for note in each.notes), *made.notes))

    draw = _drawer(mode, given, points, seed)
    scene = scene_of(0)
    if out is None:
        _open_window(scene, scene_of, 1 if data is None else len(data.dataset(split)) - index)
        return {"mode": mode}
    print("\n".join(scene.notes))
    page = Path(out).suffix.lower() == ".html"
    title = scene.panes[0].title
    written = write_page(scene, out, title) if page else write_png(scene, out, _painter(renderer))
    return {"mode": mode, "written": str(written)}


def _drawer(mode: str, given: dict[str, Any], points: int, seed: int) -> Drawer:
    """What makes the scenes of a mode; checkpoints are opened once, and what a mode does not need is not imported."""
    if mode == "cloud":
        return lambda sources: cloud_scene(sources[0].cloud, sources[0].title, sources[0].classes)
    if mode == "views":
        from geo3d.jobs.inspected.views import views

        return lambda sources: views(given["invariance"], sources[0], points, seed)
    from geo3d.checkpoint.open import open_checkpoint

    opened = open_checkpoint(given["checkpoint"])
    if mode == "features":
        from geo3d.jobs.inspected.features import features

        basis = None if given["basis"] is None else Path(given["basis"])
        return lambda sources: features(opened, sources, points, given["point"], basis)
    if mode == "neighbors":
        from geo3d.jobs.inspected.neighbors import neighbors

        return lambda sources: neighbors(opened, sources[0], points, given["point"] or 0)
    if mode == "segmentation":
        from geo3d.jobs.inspected.segmentation import segmentation

        return lambda sources: segmentation(opened, sources[0])
    if mode == "hand":
        from geo3d.jobs.inspected.hand import hand

        return lambda sources: hand(opened, sources[0])
    from geo3d.jobs.inspected.compare import compare

    second = open_checkpoint(given["other"])
    return lambda sources: compare(opened, second, sources[0], points)


def _check_options(mode: str, given: dict[str, Any]) -> None:
    """Check that the options of a mode are there, and no others.

    Raises:
        ConfigError: If not.
    """
    for name, value in given.items():
        if value is None and name in NEEDS[mode]:
            raise ConfigError(f"{name}: mode={mode} needs it; give {name}={GIVEN[name]}")
        if value is not None and name not in READS[mode]:
            readers = [each for each, names in READS.items() if name in names]
            raise ConfigError(
                f"{name}: mode={mode} does not read it; leave it out, or give mode={' or '.join(readers)}"
            )


def _check_target(out: str | Path | None) -> None:
    """Check that a file is of a kind that can be written, and that a window can be opened if there is none.

    Raises:
        ConfigError: If not.
    """
    if out is None:
        from geo3d.show.open3d_view import check_open3d

        check_open3d()
    elif Path(out).suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"out={out}: pictures are written as .png or .html; give out=NAME.png")


def _painter(renderer: str) -> Painter:
    """What draws the panes of a PNG picture."""
    if renderer == "own":
        return splat
    from geo3d.show.open3d_view import open3d_picture

    return open3d_picture


def _open_window(scene: Scene, scene_of: Callable[[int], Scene], count: int) -> None:
    """Show ``count`` scenes, one after the other, as long as the user asks for the next one."""
    from geo3d.show.open3d_view import show

    numbers = iter(range(1, count))

    def following() -> Scene | None:
        number = next(numbers, None)
        return None if number is None else scene_of(number)

    show(scene, following)
