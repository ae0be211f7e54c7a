"""The job that writes features to a file."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geo3d.checkpoint import open_checkpoint
from geo3d.checks import Up, checked
from geo3d.cloud import collate
from geo3d.data.prepared import prepare
from geo3d.errors import CloudError, ConfigError
from geo3d.io import read_cloud
from geo3d.io.axes import z_up
from geo3d.io.files import replacing
from geo3d.jobs.run import finish_run, run_folder
from geo3d.seeds import generator
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.extract import extract

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@checked
def embed(
    checkpoint: str | Path,
    data: DataModule | None = None,
    cloud: str | Path | None = None,
    *,
    out: str | Path,
    up: Up = "z",
) -> dict[str, Any]:
    """Metrics of the run, which saves the features of a data set or of one file in ``out/features.npz``.

    For a data set the arrays are the cloud features of each split (``train`` and ``test``), and the labels if there are
    any (``train_y`` and ``test_y``). For a file they are the features of the cloud (``cloud``) and of its points
    (``point``), and the coordinates as the encoder saw them (``pos``).

    Args:
        checkpoint: A saved encoder.
        data: The clouds of a data set; give either this or ``cloud``.
        cloud: A file with one cloud; give either this or ``data``.
        out: Run folder.
        up: The axis that points up in the file, ``y`` or ``z``.

    Raises:
        ConfigError: If both or neither of ``data`` and ``cloud`` are given, or ``out`` holds another run.
        CheckpointError: If there is no checkpoint, or it is damaged.
        CloudError: If the clouds cannot be used, or a feature is NaN or infinite.
    """
    if (data is None) == (cloud is None):
        raise ConfigError("embed takes either data=NAME data.root=PATH or cloud=FILE; give exactly one of the two")
    opened = open_checkpoint(checkpoint)
    encoder, card = opened.encoder, opened.card
    if cloud is not None:
        manifest = {"file": str(cloud), "up": up}
    else:
        assert data is not None
        manifest = data.manifest()
        trained_on = card.get("input", {}).get("num_points", data.num_points)
        if trained_on != data.num_points:
            note = f"the encoder was trained on {trained_on} points and is given data.num_points={data.num_points}"
            warnings.warn(note, stacklevel=2)
    with run_folder(out, manifest, {"checkpoint": card["sha256"]}) as out:
        if cloud is not None:
            arrays = _file_features(encoder, card.get("input", {}), Path(cloud), up)
        else:
            assert data is not None
            arrays = _data_features(encoder, data)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise CloudError("the features are not all finite; look at the clouds with geo3d data check NAME")
        with replacing(out / "features.npz") as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        metrics = {
            "features": str(out / "features.npz"),
            "arrays": {name: list(array.shape) for name, array in arrays.items()},
            "encoder": card["class"],
        }
        finish_run(out, metrics)
    return metrics


def _data_features(encoder: nn.Module, data: DataModule) -> dict[str, np.ndarray]:
    """Cloud features of each split, and the labels if the split has any."""
    arrays = {}
    for split in ("train", "test") if data.has("test") else ("train",):
        arrays[split] = extract(encoder, data.loader(split), DEVICE).numpy()
        if data.dataset(split).labels is not None:
            arrays[f"{split}_y"] = data.labels(split).numpy()
    return arrays


@torch.no_grad()
def _file_features(encoder: nn.Module, convention: dict[str, Any], path: Path, up: str) -> dict[str, np.ndarray]:
    """Features of one cloud, after it got the number of points and the scale that the encoder was trained with."""
    count = convention.get("num_points")
    cloud = read_cloud(path, num_points=count, generator=generator("embed", path.name))
    how = convention.get("normalize", "unit_sphere")
    batch = collate([prepare(z_up(cloud, up), str(path), count, how, generator("embed", path.name), None)])
    features = encoder(batch)
    return {"cloud": features.cloud.numpy(), "point": features.point.numpy(), "pos": batch.pos.numpy()}
