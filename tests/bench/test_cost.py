"""Counts against an independent counter of torch's, against the published networks, and by hand."""

import pytest
import torch
from speed.published_dgcnn import PublishedDGCNN
from torch.utils.flop_counter import FlopCounterMode

from geo3d import compress
from geo3d.bench.cost import FLOAT, cost, score
from geo3d.bench.inputs import dense, surfaces
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.errors import ConfigError
from geo3d.nn.linear import linear
from geo3d.ops import native

N, K = 64, 6


def dgcnn(**keywords):
    return DGCNN(**({"k": K, "channels": (8, 16), "embedding": 32} | keywords)).eval()


def counted(call):
    """Multiplications of matrix products and convolutions, as torch sees them."""
    with torch.no_grad(), native.disabled(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "encoder",
    [dgcnn(), dgcnn(dynamic=False), PointNet(embedding=32, width=0.25)],
    ids=["dynamic", "static", "PointNet"],
)
def test_macs_are_those_that_torch_counts(encoder):
    batch = surfaces(1, N)
    assert cost(encoder.eval(), N).macs == counted(lambda: encoder(batch))


@pytest.mark.parametrize("scales", ["ssg", "msg"])
def test_macs_of_pointnet2_are_those_that_torch_counts(scales):
    encoder = PointNet2(scales=scales, num_samples=(16, 4), width=0.25).eval()
    batch = surfaces(1, N)
    # torch does not count products that are added in place: the offsets of the levels that have features
    level = encoder.levels[1]
    in_place = sum(
        3 * 4 * k * scale.linears[0].out_features for scale, k in zip(level.scales, level.num_neighbors, strict=True)
    )
    assert cost(encoder, N).macs == counted(lambda: encoder(batch)) + in_place


def test_edge_convolutions_take_a_kth_of_the_published_network():
    encoder = dgcnn()
    published = PublishedDGCNN(encoder).eval()
    x = dense(surfaces(1, N))
    tables = [torch.zeros(1, N, K, dtype=torch.long)] * 2  # given, so that no distances are counted
    embedding = N * 24 * 32
    edges = counted(lambda: published(x, tables)) - embedding
    assert cost(encoder, N).macs - embedding == edges // K


def test_what_is_no_product_is_counted_apart():
    dynamic, static = cost(dgcnn(), N), cost(dgcnn(dynamic=False), N)
    assert dynamic.distance_macs == N * N * (3 + 8) and static.distance_macs == N * N * 3
    assert dynamic.compares == N * K * (8 + 16) + N * 32
    assert dynamic.adds == 2 * N * (8 + 16) + N * 32 + N * 32  # norms over [a | b], that of the embedding, its mean
    assert dynamic.operations == 2 * dynamic.macs + 2 * dynamic.distance_macs + dynamic.adds + dynamic.compares
    assert dynamic.parameters == sum(p.numel() for p in dgcnn().parameters())
    assert dynamic.weight_bits == FLOAT * dynamic.parameters and dynamic.bytes == 4 * dynamic.parameters
    assert score(dynamic, dynamic) == 2


def test_zeros_are_not_parameters_and_not_multiplied_but_still_in_the_dense_product():
    encoder, plain = dgcnn(), cost(dgcnn(), N)
    with torch.no_grad():
        encoder.embed.weight[:, ::2] = 0
    found = cost(encoder, N)
    half = encoder.embed.weight.numel() // 2
    assert plain.parameters - found.parameters == half and found.macs == plain.macs
    assert plain.weight_bits - found.weight_bits == FLOAT * half - 2 * half  # a bit for each place
    assert plain.operations - found.operations == 2 * N * half


def test_rounded_layers_count_by_their_bits():
    bits = {"layers.0.linear": [8, 0], "layers.1.linear": [4, 4], "embed": [4, 4]}
    encoder = compress.quantize(dgcnn(), 8, 8, layers=bits, per_channel=False)
    compress.calibrate(encoder, [surfaces(2, N)])
    found = {work.name: work for work in cost(encoder.eval(), N).work}
    assert (found["embed"].multiply_bits, found["embed"].add_bits) == (4, 4 + 4 + 5)  # 24 terms fit into 5 more bits
    assert (found["layers.1"].multiply_bits, found["layers.1"].add_bits) == (4, 4 + 4 + 3)
    assert (found["layers.0"].multiply_bits, found["layers.0"].add_bits) == (FLOAT, FLOAT)  # coordinates stay
    assert found["layers.1.max"].compare_bits == encoder.layers[1].neighbor_quantizer.bits < FLOAT
    modules = dict(encoder.named_modules())
    stored = sum(modules[name].weight.numel() * each for name, (each, _) in bits.items())
    rest = sum(
        p.numel() for name, p in encoder.named_parameters() if not name.endswith(("linear.weight", "embed.weight"))
    )
    assert cost(encoder, N).weight_bits == stored + FLOAT * rest
    assert cost(encoder, N).macs == cost(dgcnn(), N).macs


def test_structured_layers_add_and_multiply_less():
    encoder = dgcnn(channels=(64, 64), embedding=128)
    for low_rank in (False, True):
        small = compress.finalize(compress.structure(encoder, 2.0, min_channels=64, low_rank=low_rank))
        found = {work.name: work for work in cost(small, N).work}
        layers = {name: module for name, module in small.named_modules() if getattr(module, "pool", None) is not None}
        assert layers
        for name, layer in layers.items():
            pool = found[name.removesuffix(".linear") + ".pool"]
            assert pool.macs == N * layer.pool.multiplies_per_row and pool.adds == N * layer.pool.adds_per_row
            assert found[name.removesuffix(".linear")].macs == N * layer.weight.numel()
        assert cost(small, N).macs < cost(encoder, N).macs
        assert counted(lambda small=small: small(surfaces(1, N))) == cost(small, N).macs


def test_an_adaptive_encoder_costs_what_its_setting_does():
    adaptive = compress.adapt(dgcnn(), widths=(0.5, 1), depths=(2,), ks=(4, K), points=(32, N)).eval()
    largest, smallest = adaptive.settings[0], adaptive.settings[-1]
    assert cost(adaptive, N, largest).macs == cost(dgcnn(), N).macs
    small = cost(adaptive, N, smallest)
    assert small.macs == cost(adaptive.subnet(smallest), 32).macs
    assert small.distance_macs == cost(adaptive.subnet(smallest), 32).distance_macs + 3 * N * 32  # points are chosen
    assert small.parameters == cost(adaptive, N, largest).parameters > cost(dgcnn(), N).parameters


def test_other_networks_are_refused():
    with pytest.raises(ConfigError, match="counting the arithmetic: Linear does not describe"):
        cost(linear(3, 4), N)
