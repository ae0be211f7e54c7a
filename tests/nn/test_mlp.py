import torch
from torch import nn

from geo3d.nn.linear import Linear, linear
from geo3d.nn.mlp import mlp
from geo3d.nn.norm import BatchNorm
from geo3d.seeds import generator


def test_layers():
    assert [type(layer) for layer in mlp([3, 4, 5])] == [Linear, BatchNorm, nn.ReLU] * 2
    net = mlp([3, 4, 5], last=False, activation=nn.Tanh)
    assert [type(layer) for layer in net] == [Linear, BatchNorm, nn.Tanh, Linear]
    assert net[0].bias is None and net[-1].bias is not None
    assert all(layer.bias is None for layer in mlp([3, 4, 5]) if isinstance(layer, nn.Linear))


def test_same_network_for_every_row():
    net = mlp([3, 4, 2], last=False).eval()
    x = torch.randn(6, 3, generator=generator("mlp"))
    torch.testing.assert_close(net(x), torch.cat([net(row[None]) for row in x]))
    first, norm, _, second = net
    y = torch.relu((x @ first.weight.T) / (1 + norm.eps) ** 0.5)  # running statistics 0 and 1, scale 1, shift 0
    torch.testing.assert_close(net(x), y @ second.weight.T + second.bias)


def test_linear_has_no_bias_unless_asked_for():
    assert linear(3, 4).bias is None and linear(3, 4, bias=True).bias.shape == (4,)
    assert linear(3, 4).weight.shape == (4, 3)
