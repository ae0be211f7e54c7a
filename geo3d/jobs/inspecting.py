"""The job that draws clouds."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from torch_geometric.data import Data

from geo3d.checks import Range, Up, checked
from geo3d.errors import ConfigError
from geo3d.io.axes import z_up
from geo3d.io.read import as_data, read_arrays
from geo3d.seeds import generator
from geo3d.show.page import write_page
from geo3d.show.png import Painter, write_png
from geo3d.show.scene import Scene
from geo3d.show.scenes.cloud import cloud_scene
from geo3d.show.splat import splat

Mode = Literal["cloud"]
ON_FACES = 50_000
"""Points that are drawn on the faces of a mesh."""


@checked
def inspect(
    mode: Mode = "cloud",
    cloud: str | Path | None = None,
    data: Any = None,
    *,
    out: str | Path | None = None,
    split: Literal["train", "test"] = "test",
    index: Annotated[int, Range(0, 100_000_000)] = 0,
    up: Up = "z",
    renderer: Literal["own", "open3d"] = "own",
) -> dict[str, Any]:
    """What was drawn and where: a PNG picture, one HTML page that needs no network, or a window.

    ``mode=cloud`` shows one cloud, in its colours, its labels or by height, with its size, the distance between points,
    duplicates, and a guess of its unit and of which axis points up.

    Args:
        mode: What is drawn.
        cloud: A file with one cloud or mesh; give either this or ``data``.
        data: A data set, of which one cloud is drawn; give either this or ``cloud``.
        out: The file to write, ``NAME.png`` or ``NAME.html``; a window opens if it is left out.
        split: For a data set: the part from which the cloud is taken.
        index: For a data set: the number of the cloud.
        up: The axis that points up in the cloud's file, ``y`` or ``z``.
        renderer: Who draws a PNG picture: geo3d, which needs no driver and draws the same everywhere, or Open3D.

    Raises:
        ConfigError: If both or neither of ``cloud`` and ``data`` are given, or ``out`` has another suffix.
        CloudError: If the cloud cannot be read.
    """
    _check_target(out)
    if (cloud is None) == (data is None):
        raise ConfigError("inspect takes either cloud=FILE or data=NAME; give exactly one of the two")

    def scene_of(number: int) -> tuple[Scene, str]:
        shown, title, notes = _of_file(Path(cloud), up) if cloud is not None else _of_data(data, split, number)
        scene = cloud_scene(shown, title)
        return scene._replace(notes=(*notes, *scene.notes)), title

    scene, title = scene_of(index)
    if out is None:
        _open_window(
            scene, lambda number: scene_of(index + number)[0], 1 if cloud else len(data.dataset(split)) - index
        )
        return {"mode": mode}
    print("\n".join(scene.notes))
    page = Path(out).suffix.lower() == ".html"
    written = write_page(scene, out, title) if page else write_png(scene, out, _painter(renderer))
    return {"mode": mode, "written": str(written)}


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


def _of_file(path: Path, up: str) -> tuple[Data, str, list[str]]:
    """The cloud in a file, its title, and notes; a mesh gives points on its faces."""
    arrays = read_arrays(path)
    faces = len(arrays.get("faces", ()))
    if not faces:
        return z_up(as_data(arrays, str(path)), up), path.name, []
    points = as_data(arrays, str(path), ON_FACES, generator("inspect", path.name))
    note = f"{len(arrays['pos']):,} vertices and {faces:,} faces; {ON_FACES:,} points were drawn on the faces."
    return z_up(points, up), path.name, [note]


def _of_data(data: Any, split: str, index: int) -> tuple[Data, str, list[str]]:
    """A cloud of a data set, its title, and notes."""
    dataset = data.dataset(split)
    if index >= len(dataset):
        raise ConfigError(f"index={index}: the {split} split has {len(dataset):,} clouds; give a number below that")
    cloud = dataset[index]
    classes = list(dataset.classes)
    name = f"{classes[int(cloud.y)]}, " if "y" in cloud and classes else ""
    return cloud, f"{name}cloud {index} of the {split} split", []
