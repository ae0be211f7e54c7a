"""What a probe is fitted to and what it is scored on."""

import pytest
from support.blobs import Blobs

from geo3d.checkpoint import save_encoder
from geo3d.encoders import DGCNN
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
