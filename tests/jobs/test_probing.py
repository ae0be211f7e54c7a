"""What a probe is fitted to and what it is scored on."""

from pathlib import Path

import pytest
from support.blobs import Blobs

from geo3d.checkpoint import save_encoder
from geo3d.data import MOSD
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import CloudError
from geo3d.jobs import probe
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule


class Renamed(Blobs):
    """In the test split every shape has the name of the next one, so that what is learned is wrong there."""

    def __init__(self, split="train", size=45, **keywords):
        super().__init__(split, size=size if split == "train" else 21, **keywords)
        if split == "test":
            self.labels = (self.labels + 1) % 3


@pytest.mark.parametrize("protocol", ["strict", "strl"])
def test_every_figure_is_scored_on_the_test_split(protocol, tmp_path):
    with seeded(0):
        save_encoder(DGCNN(k=4, channels=(16, 16), embedding=32), tmp_path / "encoder")
    data = DataModule(Renamed, num_points=48, batch_size=8)
    metrics = probe(tmp_path / "encoder", data, out=tmp_path / "run", seeds=1, shots=5, draws=3, protocol=protocol)
    for name in ("floor", "result"):  # on the training split each figure is near 1
        (record,) = metrics["details"][name]
        assert (record["train"], record["test"]) == (45, 21)
        assert {*metrics["figures"]} == {"all labels", "kNN", "5 labels a class"}
        for figure, row in metrics["figures"].items():
            assert row[name]["mean"] < 0.2, figure


def test_features_of_points_are_probed_where_clouds_have_no_classes(tmp_path):
    with seeded(0):
        encoder = PointNet2(num_samples=(16, 4), radii=(0.1, 0.3), num_neighbors=(8, 8), channels=((8, 8), (8, 16)))
        save_encoder(encoder, tmp_path / "encoder", metrics={"clouds": 6})
    root = str(Path(__file__).parents[2] / "datasets" / "mosd" / "sample")
    data = DataModule(MOSD, root=root, num_points=64, batch_size=2, normalize="none")
    trainer = {"accelerator": "cpu", "progress": False}
    metrics = probe(tmp_path / "encoder", data, out=tmp_path / "run", seeds=2, ceiling=1, trainer=trainer)
    assert metrics["target"] == "point" and metrics["points"] == "all"
    assert {"linear mIoU", "linear accuracy"} <= {*metrics["figures"]}
    for row in metrics["figures"].values():
        assert row["floor"]["count"] == row["result"]["count"] == 2 and row["ceiling"]["count"] == 1
        assert all(0 <= value <= 1 for name in ("floor", "result") for value in row[name]["values"])
    floor, result = (metrics["figures"]["linear mIoU"][name]["values"] for name in ("floor", "result"))
    assert floor != result and (tmp_path / "run" / "probe.png").exists()
    with pytest.raises(CloudError, match="needs the target point_y"):
        probe(tmp_path / "encoder", DataModule(Blobs, num_points=48), out=tmp_path / "other", target="point")
