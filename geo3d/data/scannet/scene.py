"""One ScanNet scene as it is downloaded: the mesh, its segments, and who they belong to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.data.scannet.labels import class_of
from geo3d.errors import CloudError
from geo3d.geometry.frame import rescaled, turned
from geo3d.io.files import read_bytes, read_json
from geo3d.io.read import read_cloud

MESH = "_vh_clean_2"
"""The mesh that is labelled; the finer one is ``_vh_clean``, and its aggregation does not fit."""


def mesh(folder: Path) -> Data:
    """``pos`` and ``rgb`` of the vertices of a scene's labelled mesh."""
    return read_cloud(folder / f"{folder.name}{MESH}.ply")


def segment_labels(folder: Path, categories: Mapping[str, int], unknown: str, num_points: int) -> tuple[Tensor, Tensor]:
    """(N,) class and (N,) instance of each vertex: -1 and 0 for those in no annotated object.

    A vertex belongs to a segment, a segment to an object, and an object has a raw category.

    Args:
        folder: The scene's folder.
        categories: The class of each raw category.
        unknown: ``refuse`` or ``ignore`` raw categories that are not among them.
        num_points: Number of vertices of the mesh.

    Raises:
        CloudError: If a file is missing, damaged, or belongs to another mesh, or a raw category is unknown.
    """
    segments = _json(folder / f"{folder.name}{MESH}.0.010000.segs.json")
    of_vertex = segments.get("segIndices")
    if not isinstance(of_vertex, list) or len(of_vertex) != num_points:
        size = len(of_vertex) if isinstance(of_vertex, list) else type(of_vertex).__name__
        raise CloudError(
            f"{folder}: the mesh has {num_points} vertices, the segments are of {size}; download both again"
        )
    aggregation = folder / f"{folder.name}.aggregation.json"
    groups = _groups(aggregation)
    strange = sorted({label for _, label, _ in groups} - set(categories))
    if strange and unknown == "refuse":
        raise CloudError(
            f"{aggregation}: the raw categories {', '.join(strange[:8])} are not in the table of labels; give "
            "unknown=ignore to leave these objects without a label"
        )
    classes, instances = {}, {}
    for number, label, members in groups:
        for segment in members:
            classes[segment], instances[segment] = categories.get(label, -1), number + 1
    unique, inverse = np.unique(np.asarray(of_vertex, dtype=np.int64), return_inverse=True)
    each = [[table.get(int(segment), none) for segment in unique] for table, none in ((classes, -1), (instances, 0))]
    return torch.tensor(each[0])[inverse], torch.tensor(each[1])[inverse]


def _groups(path: Path) -> list[tuple[int, str, list[int]]]:
    """Number, raw category and segments of each object; an object that is listed again is left out (scene0217_00)."""
    content = _json(path)
    if MESH not in str(content.get("segmentsFile", MESH)):
        raise CloudError(
            f"{path}: belongs to another mesh ({content['segmentsFile']}); expected the one of *{MESH}.ply"
        )
    groups, seen = [], set()
    try:
        for group in content["segGroups"]:
            number = int(group["objectId"])
            if number not in seen:
                groups.append((number, str(group["label"]), [int(segment) for segment in group["segments"]]))
            seen.add(number)
    except (KeyError, TypeError, ValueError) as error:
        raise CloudError(f"{path}: expected segGroups with objectId, label and segments; {error!r} is wrong") from error
    return groups


def ply_labels(folder: Path, num_points: int) -> Tensor:
    """(N,) class of each vertex from ``SCENE_vh_clean_2.labels.ply``, which holds NYU40 numbers.

    Raises:
        CloudError: If the file is missing, has no labels, or another number of vertices.
    """
    path = folder / f"{folder.name}{MESH}.labels.ply"
    numbers = read_cloud(path).get("point_y")
    if numbers is None or len(numbers) != num_points:
        size = "no labels" if numbers is None else f"{len(numbers)} vertices"
        raise CloudError(f"{path}: expected a label for each of {num_points} vertices; found {size}")
    unique, inverse = numbers.unique(return_inverse=True)
    return torch.tensor([class_of(number) for number in unique.tolist()])[inverse]


def aligned(cloud: Data, folder: Path) -> Data:
    """The cloud with the walls along the axes, by the matrix in ``SCENE.txt``; unchanged where there is none.

    Raises:
        CloudError: If the matrix is not 16 numbers, or no rotation and shift.
    """
    path = folder / f"{folder.name}.txt"
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    entries = dict(line.split("=", 1) for line in lines if "=" in line)
    text = next((value for name, value in entries.items() if name.strip() == "axisAlignment"), None)
    if text is None:
        return cloud
    try:
        matrix = torch.tensor([float(word) for word in text.split()], dtype=torch.float64).view(4, 4)
    except (ValueError, RuntimeError):
        raise CloudError(f"{path}: axisAlignment: expected 16 numbers, found {text.strip()[:60]!r}") from None
    rotation = matrix[:3, :3]
    error = (rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max()
    if not bool(matrix.isfinite().all()) or float(error) > 1e-3 or float(torch.linalg.det(rotation)) < 0:
        raise CloudError(f"{path}: axisAlignment: expected a rotation and a shift; found {matrix.tolist()}")
    u, _, v = torch.linalg.svd(rotation)  # the file rounds to a few digits
    shift = matrix[:3, 3].to(cloud.pos.dtype)
    return rescaled(turned(cloud, (u @ v).to(cloud.pos.dtype)), -shift, shift.new_ones(()))


def _json(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise CloudError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content
