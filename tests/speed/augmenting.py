"""Two augmented views of a batch, compared with the same transforms in NumPy, one cloud at a time."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from speed.contenders import PATHS, own_paths
from speed.measure import values
from torch import Tensor

from geo3d import seeds
from geo3d.bench.case import Case, Check, Make
from geo3d.bench.inputs import surfaces
from geo3d.invariance import SO2, SO3, AnisotropicScale, Compose, Jitter, Scale, Translation
from geo3d.invariance.views import Views

RECIPES = {
    "so3": Compose([Scale(0.8, 1.25), AnisotropicScale(0.8, 1.25), Jitter(0.02, 0.05), SO3()]),
    "z": Compose([SO2("z"), Scale(0.8, 1.25), Translation(0.1), Jitter(0.01, 0.03)]),
}
"""The recipes of ``invariance=so3`` and ``invariance=z``."""


class Transform(NamedTuple):
    """One transform of a cloud (N, 3), written as in common data sets."""

    draw: Callable[[np.random.Generator, int], Any]
    """Draws the parameter for a cloud of N points."""
    act: Callable[[np.ndarray, Any], np.ndarray]


def log_uniform(count: int, low: float, high: float) -> Transform:
    """Scaling by ``count`` factors that are log-uniform between ``low`` and ``high``."""
    return Transform(lambda rng, n: np.exp(rng.uniform(math.log(low), math.log(high), count)), lambda x, f: x * f)


def noise(std: float, clip: float) -> Transform:
    """Adding clipped normal noise."""
    return Transform(lambda rng, n: np.clip(rng.normal(0, std, (n, 3)), -clip, clip), lambda x, added: x + added)


def turned(x: np.ndarray, angle: float) -> np.ndarray:
    """(N, 3) the cloud rotated about z."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def rotation(rng: np.random.Generator, n: int) -> np.ndarray:
    """(3, 3) a uniform rotation, from a random quaternion."""
    w, *v = (q := rng.normal(size=4)) / np.linalg.norm(q)
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return (w * w - np.dot(v, v)) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * cross


CHAINS = {
    "so3": (
        log_uniform(1, 0.8, 1.25),
        log_uniform(3, 0.8, 1.25),
        noise(0.02, 0.05),
        Transform(rotation, lambda x, matrix: x @ matrix.T),
    ),
    "z": (
        Transform(lambda rng, n: rng.uniform(0, 2 * math.pi), turned),
        log_uniform(1, 0.8, 1.25),
        Transform(lambda rng, n: rng.uniform(-0.1, 0.1, 3), lambda x, shift: x + shift),
        noise(0.01, 0.03),
    ),
}
"""The same transforms as in ``RECIPES``, in the same order."""


def view_cases(clouds: Sequence[int] = (32,), points: int = 2048, paths: Sequence[str] = PATHS) -> list[Make]:
    """One case for each recipe and batch size."""
    return [partial(view_case, recipe, count, points, paths) for recipe in RECIPES for count in clouds]


def view_case(recipe: str, num_clouds: int, num_points: int, paths: Sequence[str]) -> Case:
    """The case that makes two views of each cloud."""
    batch, views, chain = surfaces(num_clouds, num_points), Views(RECIPES[recipe]), CHAINS[recipe]
    clouds = list(batch.pos.view(num_clouds, num_points, 3).numpy())
    rng = seeds.numpy_generator(0, "bench", "views")
    own = own_paths(paths)

    def of_geo3d(path: Any) -> Any:
        with path():
            return views(batch, 0, "bench")

    def by_cloud() -> list[Tensor]:
        both = []
        for _ in range(2):
            drawn = [[each.draw(rng, num_points) for each in chain] for _ in clouds]
            both.append(chained(clouds, drawn, chain))
        return both

    def check() -> dict[str, list[Check]]:
        by_path: dict[str, list[Check]] = {}
        for name, path in own.items():
            for view in of_geo3d(path):
                parts = [[part[i] for part in per_cloud(view.element, num_clouds)] for i in range(num_clouds)]
                expected = chained(clouds, parts, chain).view(-1, 3)
                same = values(view.batch.pos, expected, 1e-5, "coordinates, same draws")
                by_path[name] = [*by_path.get(name, []), same]
        return by_path

    calls: dict[str, Callable[[], Any]] = {name: partial(of_geo3d, path) for name, path in own.items()}
    calls["NumPy, cloud by cloud"] = by_cloud
    title = f"two views, recipe {recipe}, {num_clouds} clouds of {num_points} points"
    return Case(title, calls, "NumPy, cloud by cloud", check, num_clouds)


def chained(clouds: Sequence[np.ndarray], parameters: Sequence[Sequence[Any]], chain: Sequence[Transform]) -> Tensor:
    """(B, N, 3) the clouds after all transforms, each with its own parameters."""
    out = []
    for cloud, own in zip(clouds, parameters, strict=True):
        for transform, parameter in zip(chain, own, strict=True):
            cloud = transform.act(cloud, parameter)
        out.append(cloud.astype(np.float32))
    return torch.from_numpy(np.stack(out))


def per_cloud(element: Sequence[Tensor], num_clouds: int) -> list[np.ndarray]:
    """The parameters of each transform of the recipe, one entry per cloud; noise (M, 3) is split by cloud."""
    parts = [part.numpy().astype(np.float64) for part in element]
    return [part if len(part) == num_clouds else part.reshape(num_clouds, -1, 3) for part in parts]
