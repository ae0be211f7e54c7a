"""Files for the evaluation server of the ScanNet benchmark."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from geo3d.data.scannet.downloaded import mesh_file
from geo3d.data.scannet.labels import NUMBERS
from geo3d.data.scannet.scene import mesh
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder, replacing


def write_submission(folder: str | Path, predictions: Mapping[str, Tensor], scans: str | Path) -> list[Path]:
    """The files that were written: for each scene ``SCENE.txt`` with an NYU40 number per line, one for each vertex.

    All predictions are checked before anything is written. The server wants a zip of the files, without a folder.

    Args:
        folder: Where to write; made if it is missing.
        predictions: For each scene the classes (N,) of its vertices, integers from 0 to 19.
        scans: The folder with ``SCENE/SCENE_vh_clean_2.ply``, to compare the numbers of vertices.

    Raises:
        CloudError: If there are no predictions, a mesh is missing, or a prediction does not fit the mesh.
        Geo3dError: If the folder cannot be written to.
    """
    if not predictions:
        raise CloudError(f"{folder}: expected the predictions of at least one scene, found none")
    scans = existing_folder(scans, "the folders of the scenes")
    for name, classes in predictions.items():
        _check(name, classes, scans)
    table = torch.tensor(NUMBERS)
    paths = [Path(folder) / f"{name}.txt" for name in predictions]
    for path, classes in zip(paths, predictions.values(), strict=True):
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{number}\n" for number in table[classes.long().cpu()].tolist()))
    return paths


def _check(name: str, classes: Tensor, scans: Path) -> None:
    """Check that a prediction has a class for every vertex of its mesh."""
    if "/" in name or name.startswith(".") or not name:
        raise CloudError(f"{scans}: expected the name of a scene, found {name!r}")
    path = mesh_file(scans / name)
    count = len(mesh(scans / name).pos)
    whole = classes.dim() == 1 and not classes.is_floating_point() and classes.dtype != torch.bool
    if not whole or len(classes) != count:
        raise CloudError(
            f"{path}: expected {count} classes, one per vertex; found {tuple(classes.shape)} of {classes.dtype}"
        )
    if int(classes.min()) < 0 or int(classes.max()) >= len(NUMBERS):
        raise CloudError(
            f"{path}: expected classes from 0 to {len(NUMBERS) - 1}, found {int(classes.min())} to {int(classes.max())}"
        )
