"""Wrappers: the card nests what they wrap, compressed or not; other classes of a known name are not saved."""

import pytest
import torch

from geo3d import compress, encoders
from geo3d.checkpoint import build_encoder, load_encoder, read_card, save_encoder
from geo3d.encoders import DGCNN
from geo3d.errors import CheckpointError, ConfigError
from geo3d.heads import Classifier
from geo3d.nn.keywords import keywords_of
from geo3d.testing import tiny_batch


def small():
    return DGCNN(k=4, channels=(8, 8), embedding=16)


class Doubled(torch.nn.Module):
    """A wrapper that geo3d has never seen: the features of another encoder times a number."""

    def __init__(self, inner, factor=2.0):
        super().__init__()
        self.inner, self.factor, self.in_channels = inner, factor, inner.in_channels
        self.point_channels, self.cloud_channels = inner.point_channels, inner.cloud_channels

    def forward(self, data):
        features = self.inner(data)
        return features._replace(cloud=self.factor * features.cloud)


def test_the_card_of_a_wrapper_nests_what_it_wraps(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="cannot save a .*Doubled: not one of geo3d.encoders"):
        save_encoder(Doubled(small()), tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(encoders, "Doubled", Doubled, raising=False)
    monkeypatch.setattr(encoders, "__all__", [*encoders.__all__, "Doubled"])
    encoder = Doubled(Doubled(small(), 3.0), 5.0).eval()
    save_encoder(encoder, tmp_path)
    card = read_card(tmp_path)
    assert card["class"] == card["inner"]["class"] == "Doubled" and card["inner"]["inner"]["class"] == "DGCNN"
    assert card["keywords"] == {"factor": 5.0} and card["inner"]["inner"]["keywords"]["channels"] == [8, 8]
    again, batch = load_encoder(tmp_path), tiny_batch()
    assert type(again) is Doubled and (again.factor, again.inner.factor) == (5.0, 3.0)
    assert torch.equal(again(batch).cloud, encoder(batch).cloud)


@pytest.mark.parametrize("how", ["quantised", "structured", "pruned", "adaptive", "twice"])
def test_a_compressed_encoder_inside_a_wrapper_comes_back(how, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "Doubled", Doubled, raising=False)
    monkeypatch.setattr(encoders, "__all__", [*encoders.__all__, "Doubled"])
    batch = tiny_batch(num_points=32)
    steps = {
        "quantised": lambda inner: compress.calibrate(compress.quantize(inner, 4, 4), [batch]),
        "structured": lambda inner: compress.structure(inner, reduction=2, min_channels=8),
        "pruned": lambda inner: compress.prune(inner, group="weight", kept=0.5, one_shot=True),
        "adaptive": lambda inner: compress.adapt(inner, widths=(1.0, 0.5), depths=(2,), ks=(4,), points=(32,)),
        "twice": lambda inner: Doubled(compress.calibrate(compress.quantize(inner, 8, 8), [batch]), 3.0),
    }
    encoder = Doubled(steps[how](DGCNN(k=4, channels=(16, 16), embedding=32)), 5.0).eval()
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    assert type(again.inner) is type(encoder.inner)
    with torch.no_grad():
        torch.testing.assert_close(again(batch).cloud, encoder(batch).cloud, rtol=1e-6, atol=1e-6)
    fresh = build_encoder(read_card(tmp_path))
    assert not any(compress.records(module) for module in fresh.modules())


def test_another_class_of_a_known_name_is_not_saved(tmp_path):
    impostor = type("DGCNN", (DGCNN,), {})(k=4, channels=(8, 8), embedding=16)
    with pytest.raises(CheckpointError, match=r"cannot save a .*\.DGCNN: not one of geo3d.encoders"):
        save_encoder(impostor, tmp_path)
    head = type("Classifier", (Classifier,), {})(32, 3)
    with pytest.raises(CheckpointError, match=r"cannot save a .*\.Classifier: not one of geo3d.heads"):
        save_encoder(small(), tmp_path, head=head)
    assert not list(tmp_path.iterdir())


class Wide(torch.nn.Module):
    """An encoder with a number called ``inner``, or a module where it should keep a number."""

    def __init__(self, inner=16, kept=True):
        super().__init__()
        self.inner = inner if kept else torch.nn.Identity()
        self.kept = kept if kept else torch.nn.Identity()


def test_keywords_are_kept_as_they_were_given():
    assert keywords_of(Wide()) == {"inner": 16, "kept": True}
    with pytest.raises(ConfigError, match="Wide: does not keep its keyword kept"):
        keywords_of(Wide(kept=False))


@pytest.mark.parametrize("inner", [None, [], {"keywords": {}}, {"class": "DGCNN"}, {"class": "DGCNN", "keywords": 3}])
def test_a_wrapper_whose_inner_card_is_damaged_is_one_line(inner):
    with pytest.raises(CheckpointError, match="an encoder's card needs a class and its keywords"):
        build_encoder({"class": "DGCNN", "keywords": {}, "inner": inner})
