"""Runs pretraining without random views: python -m support.joined OUT DEVICES BATCH_SIZE."""

import sys

from geo3d.encoders import DGCNN
from geo3d.invariance import Compose
from geo3d.jobs import pretrain
from geo3d.objectives import InfoNCE
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from support.blobs import Blobs

if __name__ == "__main__":
    out, devices, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with seeded(0, "encoder"):
        encoder = DGCNN(k=4, channels=(8, 16), embedding=32)
    data = DataModule(Blobs, size=64, batch_size=batch_size, num_points=48, holdout=0.0)
    trainer = {"max_epochs": 6, "accelerator": "cpu", "devices": devices, "progress": False}
    trainer |= {"strategy": "ddp"} if devices > 1 else {}
    pretrain(encoder, InfoNCE(0.2), Compose([]), data, out=out, projector=(16, 8), lr=3e-3, trainer=trainer)
