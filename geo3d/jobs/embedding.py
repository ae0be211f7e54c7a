"""The job that writes features to a file."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from geo3d.checkpoint import load_encoder, read_card
from geo3d.cloud import collate
from geo3d.errors import ConfigError
from geo3d.io import read_cloud
from geo3d.io.files import replacing, write_json
from geo3d.ops.normalize import unit_sphere
from geo3d.seeds import generator
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.extract import extract
from geo3d.tasks.run import start_run


def embed(
    checkpoint: str | Path, data: DataModule | None = None, path: str | Path | None = None, *, out: str | Path
) -> dict[str, Any]:
    """Writes the cloud features of a data set (``train`` and ``test``) or of one file to ``out/features.npz``.

    Args:
        checkpoint: A saved encoder.
        data: Clouds of a data set, or
        path: one cloud file.
        out: Run folder.
    """
    if (data is None) == (path is None):
        raise ConfigError("embed takes either data=NAME data.root=PATH or one cloud file; give exactly one of them")
    encoder, card = load_encoder(checkpoint), read_card(checkpoint)
    arrays: dict[str, np.ndarray] = {}
    if path is not None:
        convention = card.get("input", {})
        cloud = read_cloud(path, num_points=convention.get("num_points"), generator=generator("embed", str(path)))
        count = convention.get("num_points") or cloud.pos.shape[0]
        chosen = torch.randperm(cloud.pos.shape[0], generator=generator("points", str(path)))[:count]
        cloud.pos = unit_sphere(cloud.pos[chosen]) if convention.get("normalize", True) else cloud.pos[chosen]
        batch = collate([type(cloud)(pos=cloud.pos)])
        with torch.no_grad():
            features = encoder(batch)
        arrays = {"cloud": features.cloud.numpy(), "point": features.point.numpy(), "pos": batch.pos.numpy()}
        manifest: dict[str, Any] = {"file": str(path)}
    else:
        assert data is not None
        manifest = data.manifest()
        for split in ("train", "test") if data.has("test") else ("train",):
            arrays[split] = extract(encoder, data.loader(split)).numpy()
            if data.dataset(split).labels is not None:
                arrays[f"{split}_y"] = data.labels(split).numpy()
    out = start_run(out, manifest)
    with replacing(out / "features.npz") as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    metrics = {"arrays": {name: list(array.shape) for name, array in arrays.items()}, "encoder": card["class"]}
    write_json(out / "metrics.json", metrics)
    return metrics
