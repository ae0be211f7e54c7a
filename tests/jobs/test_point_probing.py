"""The floor of a probe of points, and the decoder that makes their rows."""

import torch

from geo3d.checkpoint import open_checkpoint, save_encoder
from geo3d.decoders import FeaturePropagation, Upcast
from geo3d.decoders.build import decoder_for
from geo3d.encoders import PointNet2
from geo3d.jobs.common import fresh_encoder
from geo3d.jobs.point_probing import fresh_rows, point_rows
from geo3d.seeds import seeded
from geo3d.testing import tiny_batch


def saved(folder, decoder=None):
    with seeded(5):
        encoder = PointNet2(num_samples=(12, 6), width=0.1)
        rows = None if decoder is None else decoder_for(encoder, decoder, channels=((8, 8), (8, 6), (5,)))
        save_encoder(encoder, folder, decoder=rows)
    return open_checkpoint(folder)


def test_the_floor_has_untrained_weights_in_encoder_and_decoder(tmp_path):
    opened = saved(tmp_path, FeaturePropagation)
    one, again, other = (fresh_rows(opened, fresh_encoder(opened.card, seed), seed) for seed in (0, 0, 1))
    trained = point_rows(opened)
    assert trained.decoder is opened.decoder and type(one.decoder) is FeaturePropagation
    names = [name for name, value in trained.named_parameters() if value.dim() == 2]
    assert any(name.startswith("decoder") for name in names) and any(name.startswith("encoder") for name in names)
    for name in names:
        a, b, c, d = (dict(rows.named_parameters())[name] for rows in (one, again, other, trained))
        assert torch.equal(a, b) and not torch.equal(a, c) and not torch.equal(a, d)


def test_without_a_decoder_the_rows_are_those_of_all_levels(tmp_path):
    opened = saved(tmp_path)
    rows = point_rows(opened)
    batch = tiny_batch(num_points=30)
    assert isinstance(rows.decoder, Upcast)
    torch.testing.assert_close(rows(batch), decoder_for(opened.encoder, Upcast)(opened.encoder(batch)))
