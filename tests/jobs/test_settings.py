"""What the settings of an adaptive encoder are worth, counted by hand."""

import pytest
import torch
from support.blobs import Blobs

from geo3d.compress import adapt
from geo3d.compress.adaptive.statistics import head_for
from geo3d.encoders import DGCNN
from geo3d.heads import Classifier
from geo3d.jobs import settings
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_accuracy_of_each_setting_is_that_of_its_own_clouds(split, monkeypatch):
    monkeypatch.setattr(settings, "CLOUDS", 12)
    data = DataModule(Blobs, num_points=48, batch_size=8, size=36)
    with seeded(0):
        adaptive = adapt(DGCNN(k=4, channels=(8, 8), embedding=16), widths=(0.5, 1), depths=(2,), ks=(4,), points=(48,))
        head = Classifier(adaptive.cloud_channels, 3, hidden=(8,)).eval()
    accuracies = settings.score_settings(adaptive.eval(), head, data, split)
    few = data.stratified(12 / 36, "settings")
    assert len(few) == 12 and list(accuracies) == [str(setting) for setting in adaptive.settings]
    for setting in adaptive.settings:
        own = head_for(head, adaptive, setting, data.loader("train", few))
        right = total = 0
        for batch in data.loader("train", few) if split == "train" else data.loader("test"):
            with torch.no_grad():
                right += int((own(adaptive.encode(setting, batch).cloud).argmax(1) == batch.y).sum())
            total += len(batch.y)
        assert total == (12 if split == "train" else 36) and accuracies[str(setting)] == pytest.approx(right / total)
