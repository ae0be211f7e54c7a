"""A tiny labelled data set for tests of tasks and jobs: random points in boxes of three proportions."""

import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.seeds import generator


class Blobs(Dataset):
    classes = ["cube", "plate", "rod"]

    def __init__(self, split: str = "train", size: int = 24, points: int = 48, ragged: bool = False) -> None:
        self.split, self.size, self.points, self.ragged = split, size, points, ragged
        self.labels = torch.arange(size) % 3

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Data:
        draw = generator("blobs", self.split, index)
        extent = torch.tensor([[1.0, 1, 1], [1, 1, 0.1], [1, 0.1, 0.1]])[index % 3]
        count = self.points - (index % 5 if self.ragged else 0)
        return Data(pos=(torch.rand(count, 3, generator=draw) - 0.5) * extent, y=self.labels[index : index + 1])

    def manifest(self) -> dict:
        return {"name": "blobs", "split": self.split, "size": self.size}
