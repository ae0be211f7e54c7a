import pytest
import torch
import torch.nn.functional as F
from torch import nn

from geo3d.errors import ConfigError
from geo3d.heads import Classifier, Predictor, Projector
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.seeds import generator, seeded


def count(module):
    return sum(p.numel() for p in module.parameters())


def kinds(module):
    return [type(layer) for layer in module.layers]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_projector(num_layers):
    head = Projector(10, hidden=8, out_channels=4, num_layers=num_layers)
    assert kinds(head) == [Linear, BatchNorm, nn.ReLU] * (num_layers - 1) + [Linear]
    assert head(torch.ones(3, 10)).shape == (3, 4) and head.out_channels == 4
    assert head.layers[-1].bias is not None
    with pytest.raises(ConfigError, match="Projector.num_layers: 0 is not an int from 1"):
        Projector(10, num_layers=0)


def test_predictor():
    head = Predictor(6, hidden=9)
    assert kinds(head) == [Linear, BatchNorm, nn.ReLU, Linear]
    assert head(torch.ones(3, 6)).shape == (3, 6)
    default = Predictor()
    assert (default.channels, default.hidden, Projector(10).out_channels) == (128, 512, 128)


def test_dgcnn_head():
    head = Classifier(2048, 40)
    assert count(head) == 2048 * 512 + 2 * 512 + 512 * 256 + 256 + 2 * 256 + 256 * 40 + 40
    assert kinds(head) == [Linear, BatchNorm, nn.LeakyReLU, nn.Dropout] * 2 + [Linear]
    assert [layer.p for layer in head.layers if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    small = Classifier(6, 3, hidden=(5, 4)).eval()
    first, second, last = (layer for layer in small.layers if isinstance(layer, Linear))
    assert first.bias is None and second.bias is not None and last.bias is not None
    x = torch.randn(4, 6, generator=generator("dgcnn"))
    unit = (1 + 1e-5) ** 0.5  # what an untrained norm divides by
    y = F.leaky_relu(F.linear(x, first.weight) / unit, 0.2)
    y = F.leaky_relu(F.linear(y, second.weight, second.bias) / unit, 0.2)
    torch.testing.assert_close(small(x), F.linear(y, last.weight, last.bias))


@pytest.mark.parametrize("dropout", [0.4, (0.4, 0.5)])
def test_pointnet2_head(dropout):
    head = Classifier(1024, 40, bias=True, dropout=dropout, negative_slope=0)
    assert count(head) == 1024 * 512 + 512 + 2 * 512 + 512 * 256 + 256 + 2 * 256 + 256 * 40 + 40
    assert kinds(head) == [Linear, BatchNorm, nn.LeakyReLU, nn.Dropout] * 2 + [Linear]
    assert torch.equal(head.layers[2](torch.tensor([-2.0, 3.0])), torch.tensor([0.0, 3.0]))
    assert tuple(layer.p for layer in head.layers if isinstance(layer, nn.Dropout)) == head.dropout


def test_pointnet_head():
    head = Classifier(1024, 40, bias=True, dropout=(0, 0.4), negative_slope=0, dropout_first=True)
    layer = [Linear, BatchNorm, nn.LeakyReLU]
    assert kinds(head) == [*layer, Linear, nn.Dropout, BatchNorm, nn.LeakyReLU, Linear]
    assert count(head) == 1024 * 512 + 512 + 2 * 512 + 512 * 256 + 256 + 2 * 256 + 256 * 40 + 40


def test_other_depths():
    assert kinds(Classifier(4, 2, hidden=())) == [Linear]
    assert [layer.bias is None for layer in Classifier(4, 2, hidden=(3,)).layers if isinstance(layer, Linear)] == [
        True,
        False,
    ]
    with pytest.raises(ConfigError, match="dropout has 2 values for 3 hidden layers"):
        Classifier(4, 2, hidden=(3, 3, 3), dropout=(0.1, 0.2))
    with pytest.raises(ConfigError, match="bias has 1 values for 2 hidden layers"):
        Classifier(4, 2, bias=[True])


def test_heads_learn():
    """A few steps of each head lower the error on data it can fit."""
    x = torch.randn(12, 6, generator=generator("x"))
    y = torch.arange(12) % 3
    for head in (Projector(6, 16, 3), Predictor(6, 16), Classifier(6, 3, hidden=(16,), dropout=0.2)):
        losses = []
        for step in range(30):
            with seeded("heads", step):
                loss = F.cross_entropy(head(x)[:, :3], y)
            head.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in head.parameters():
                    p -= 0.3 * p.grad
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]
