"""Names say what an encoder is."""

import pytest

from geo3d import compress
from geo3d.bench.inputs import surfaces
from geo3d.bench.label import label
from geo3d.encoders import DGCNN, PointNet, PointNet2

HALF = {"channels": (32, 32, 64, 128), "embedding": 512}


def rounded(encoder, *bits):
    return compress.calibrate(compress.quantize(encoder, *bits), [surfaces(1, 32)])


@pytest.mark.parametrize(
    ("encoder", "card", "name"),
    [
        (DGCNN(), {}, "DGCNN, float"),
        (DGCNN(), {"recipe": {"encoder": {}}}, "DGCNN, float, trained on"),
        (DGCNN(dynamic=False, k=12, **HALF), {}, "DGCNN, half width, one graph, k = 12, float"),
        (DGCNN(channels=(64, 64), embedding=1024), {}, "DGCNN, 2 layers, float"),
        (DGCNN(channels=(8, 64), embedding=32), {}, "DGCNN, channels 8-64, embedding 32, float"),
        (PointNet(width=0.5), {}, "PointNet, half width, float"),
        (PointNet2(scales="msg"), {}, "PointNet++ MSG, float"),
        (rounded(DGCNN(**HALF), 4, 8), {}, "DGCNN, half width, W4A8"),
        (
            rounded(compress.prune(DGCNN(dynamic=False), 0.5, shrink_output=True, one_shot=True), 4, 8),
            {},
            "DGCNN, one graph, half pruned, W4A8",
        ),
        (compress.prune(DGCNN(), 0.46, one_shot=True), {}, "DGCNN, 46 % kept"),
        (compress.prune(DGCNN(), 0.1, group="weight", one_shot=True), {}, "DGCNN, 10 % of the weights kept"),
        (compress.structure(DGCNN(), 4.0), {"recipe": {"structure": {"reduction": 4.0}}}, "DGCNN, structured 4x"),
        (compress.structure(DGCNN(), 4.0, low_rank=True), {}, "DGCNN, SVD"),
    ],
)
def test_names_say_what_it_is(encoder, card, name):
    assert label(encoder, card) == name


def test_settings_of_an_adaptive_encoder_are_named_by_what_runs():
    encoder = compress.adapt(DGCNN(), widths=(0.5, 1), depths=(2, 4), ks=(10, 20), points=(256, 512))
    assert label(encoder, {}, encoder.settings[0]) == "DGCNN, 512 points, adaptive"
    assert label(encoder, {}, encoder.settings[-1]) == "DGCNN, half width, 2 layers, k = 10, 256 points, adaptive"
