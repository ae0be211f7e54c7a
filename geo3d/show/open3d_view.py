"""A scene in Open3D: a picture by its renderer, and a window in which points are picked.

Needs ``pip install geo3d[inspect]``. Open3D shows one view, so panes stand side by side in it. It has no words: titles
are the name of the window; notes and picked points are printed.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from geo3d.errors import ConfigError
from geo3d.show.scene import Camera, Pane, Points, Scene
from geo3d.show.splat import point_size

SQUARE = np.sqrt(np.pi / 4)
"""Side of the square with the area of a disc of diameter 1: Open3D draws points as squares."""
BALL = 0.006
"""Radius of an enlarged point, such as a joint, in extents of the scene."""
WINDOW = 720
"""Height of a window in pixels."""
PROBE = "import open3d; v = open3d.visualization.Visualizer(); ok = v.create_window(width=64, height=64, visible={}); "
SECONDS = 60
"""Time that Open3D has to open its first window."""
KEYS = {"N": 78, "C": 67, "P": 80, "Q": 81}
"""Keys of the window, as GLFW numbers them."""


def open3d_picture(pane: Pane, camera: Camera, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8 picture of a pane by Open3D's renderer, which needs a driver of OpenGL but no screen.

    Raises:
        ConfigError: If Open3D is not installed or cannot draw here.
    """
    check_open3d(visible=False)
    o3d = _open3d()
    window = o3d.visualization.Visualizer()
    window.create_window(width=width, height=height, visible=False)
    try:
        for geometry in _geometries(pane, np.zeros(3), 0):
            window.add_geometry(geometry)
        _prepare(window, camera, sum(len(each.pos) for each in pane.points), width, height)
        window.poll_events()
        window.update_renderer()
        picture = np.asarray(window.capture_screen_float_buffer(do_render=True))
    finally:
        window.destroy_window()
    return (255 * picture).round().astype(np.uint8)


def check_open3d(visible: bool = True) -> None:
    """Check that Open3D can open a window. It is tried in another process, because some drivers end the process.

    Args:
        visible: Whether the window is to be seen, which needs a screen.

    Raises:
        ConfigError: If it cannot.
    """
    instead = "give out=NAME.png or out=NAME.html"
    if visible and sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError(f"a window needs a screen, and DISPLAY is not set; {instead}")
    code = PROBE.format(visible) + "v.destroy_window(); raise SystemExit(0 if ok else 3)"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"Open3D opened no window within {SECONDS} s; {instead}") from None
    if done.returncode == 0:
        return
    if "No module named 'open3d'" in done.stderr:
        raise ConfigError(f"Open3D is not installed; run pip install 'geo3d[inspect]', or {instead}")
    reason = (done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"])[-1]
    raise ConfigError(f"Open3D cannot draw here ({reason[:200]}); {instead}")


def _open3d() -> Any:
    """The package, which prints errors alone."""
    import open3d

    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


def show(scene: Scene, following: Callable[[], Scene | None], say: Callable[[str], None] = print) -> None:
    """Show a scene in a window until it is closed; call :func:`check_open3d` before.

    Keys: N the next sample, C the next colouring, P to pick points (Shift and a click, then Q), Q to close.

    Args:
        scene: What is shown first.
        following: Gives the next scene; None if there is none.
        say: Called with notes, and with what is known of each picked point.
    """
    current, number, asked = scene, 0, "N"
    while asked != "Q":
        if asked == "N":
            say("\n".join(current.notes))
        asked, number = _window(current, number)
        if asked == "N":
            after = following()
            if after is None:
                say("that was the last sample")
            current = after or current
        elif asked == "P":
            say("\n".join(_picked(current, number)) or "no point was picked")


def _window(scene: Scene, number: int) -> tuple[str, int]:
    """The key that closed the window, and the number of the colouring that it showed."""
    o3d = _open3d()
    window = o3d.visualization.VisualizerWithKeyCallback()
    width, camera = _opened(window, scene)
    asked, shown = ["Q"], [number]

    def fill(view: Any, first: bool) -> None:
        for geometry in _side_by_side(scene, shown[0]):
            view.add_geometry(geometry, reset_bounding_box=first)

    def recolor(view: Any) -> bool:
        shown[0] += 1
        view.clear_geometries()
        fill(view, False)
        return True

    def close(key: str) -> Callable[[Any], bool]:
        def closing(view: Any) -> bool:
            asked[0] = key
            view.close()
            return False

        return closing

    window.register_key_callback(KEYS["C"], recolor)
    for key in "NPQ":
        window.register_key_callback(KEYS[key], close(key))
    fill(window, True)
    _prepare(window, camera, _count(scene), width, WINDOW)
    window.run()
    window.destroy_window()
    return asked[0], shown[0]


def _picked(scene: Scene, number: int) -> list[str]:
    """A line for each point that was picked in a window of its own."""
    o3d = _open3d()
    window = o3d.visualization.VisualizerWithVertexSelection()
    width, camera = _opened(window, scene)
    every, sources = [], []
    for shift, pane in zip(_shifts(scene), scene.panes, strict=True):
        for points in pane.points:
            every.append(_cloud(points, shift, number))
            sources += [(pane, points, row) for row in range(len(points.pos))]
    joined = o3d.geometry.PointCloud()
    for each in every:
        joined += each
    window.add_geometry(joined)
    _prepare(window, camera, _count(scene), width, WINDOW)
    window.run()
    chosen = [point.index for point in window.get_picked_points()]
    window.destroy_window()
    return [described(*sources[index]) for index in chosen]


def described(pane: Pane, points: Points, row: int) -> str:
    """What is known of a point: its number, its place, and the value of each colouring.

    Args:
        pane: Where it is.
        points: The set to which it belongs.
        row: Its row there.
    """
    number = row if points.numbers is None else int(points.numbers[row])
    parts = [f"{pane.title}: {points.name or 'point'} {number}"]
    parts.append("at " + ", ".join(f"{each:.4g}" for each in points.pos[row].tolist()))
    for coloring in points.colorings:
        if coloring.names:
            parts.append(f"{coloring.name} {coloring.names[int(coloring.values[row])]}")
        elif coloring.limits is not None and coloring.table is not None:
            low, high = coloring.limits
            parts.append(f"{coloring.name} {low + (high - low) * coloring.values[row] / (len(coloring.table) - 1):.3g}")
    return "; ".join(parts)


def _opened(window: Any, scene: Scene) -> tuple[int, Camera]:
    """The width of the window, which is opened, and the camera that sees all panes."""
    count = len(scene.panes)
    width = min(WINDOW * count, 1800)
    titles = " | ".join(dict.fromkeys(pane.title for pane in scene.panes))
    window.create_window(window_name=f"{titles} - N next, C colours, P pick, Q close"[:200], width=width, height=WINDOW)
    if count == 1:
        return width, scene.camera
    eye, target = np.array(scene.camera.eye), np.array(scene.camera.target)
    away = target + (eye - target) * max(1.0, WINDOW * count / width)
    return width, scene.camera._replace(eye=tuple(away.tolist()))


def _shifts(scene: Scene) -> np.ndarray:
    """(P, 3) how far each pane is moved to stand beside the others."""
    camera = scene.camera
    distance = np.linalg.norm(np.subtract(camera.eye, camera.target))
    side = 2 * distance * np.tan(np.radians(camera.field) / 2)
    places = np.arange(len(scene.panes)) - (len(scene.panes) - 1) / 2
    return places[:, None] * side * camera.axes()[0]


def _side_by_side(scene: Scene, number: int) -> list[Any]:
    shifts = _shifts(scene)
    return [each for pane, shift in zip(scene.panes, shifts, strict=True) for each in _geometries(pane, shift, number)]


def _geometries(pane: Pane, shift: np.ndarray, number: int) -> list[Any]:
    """Open3D's geometries of a pane; points that are drawn large become balls."""
    o3d = _open3d()
    made: list[Any] = []
    size = float(np.ptp(pane.everything(), axis=0).max())
    for points in pane.points:
        cloud = _cloud(points, shift, number)
        if points.scale <= 1.5:
            made.append(cloud)
            continue
        for center, color in zip(np.asarray(cloud.points), np.asarray(cloud.colors), strict=True):
            ball = o3d.geometry.TriangleMesh.create_sphere(BALL * points.scale * size, 8).translate(center)
            ball.paint_uniform_color(color)
            made.append(ball)
    for lines in pane.lines:
        ends = o3d.utility.Vector3dVector(lines.ends.reshape(-1, 3).astype(np.float64) + shift)
        pairs = o3d.utility.Vector2iVector(np.arange(2 * len(lines.ends)).reshape(-1, 2))
        made.append(o3d.geometry.LineSet(ends, pairs).paint_uniform_color(np.array(lines.color) / 255))
    return made


def _cloud(points: Points, shift: np.ndarray, number: int) -> Any:
    o3d = _open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points.pos.astype(np.float64) + shift))
    coloring = points.colorings[number % len(points.colorings)]
    cloud.colors = o3d.utility.Vector3dVector(coloring.rgb() / 255)
    return cloud


def _count(scene: Scene) -> int:
    return max(sum(len(each.pos) for each in pane.points) for pane in scene.panes)


def _prepare(window: Any, camera: Camera, count: int, width: int, height: int) -> None:
    """Set colours, the size of points, and the camera."""
    o3d = _open3d()
    options = window.get_render_option()
    options.point_size = float(SQUARE * point_size(count, height))
    options.background_color = (1.0, 1.0, 1.0)
    options.light_on = False
    focal = height / 2 / np.tan(np.radians(camera.field) / 2)
    turned = camera.axes() * [[1], [-1], [-1]]  # Open3D's cameras look along z, with y downwards
    parameters = o3d.camera.PinholeCameraParameters()
    parameters.intrinsic = o3d.camera.PinholeCameraIntrinsic(
        width, height, focal, focal, width / 2 - 0.5, height / 2 - 0.5
    )
    extrinsic = np.eye(4)
    extrinsic[:3, :3], extrinsic[:3, 3] = turned, -turned @ camera.eye
    parameters.extrinsic = extrinsic
    window.get_view_control().convert_from_pinhole_camera_parameters(parameters, allow_arbitrary=True)
