"""Which parts of a network for points are told the category of a cloud."""

import pytest
import torch

from geo3d.cloud import layout_of, with_
from geo3d.decoders import FeaturePropagation, Upcast
from geo3d.decoders.build import decoder_for
from geo3d.encoders import PointNet2
from geo3d.errors import CloudError
from geo3d.heads import PointClassifier
from geo3d.network import PointNetwork, PointRows, point_logits
from geo3d.seeds import seeded
from geo3d.testing import tiny_batch


def parts(**keywords):
    with seeded(0):
        encoder = PointNet2(num_samples=(12, 6), width=0.1, absolute=True)
        return encoder.eval(), decoder_for(encoder, FeaturePropagation, **keywords).eval()


def test_a_decoder_with_categories_is_told_that_of_each_cloud():
    encoder, decoder = parts(categories=3)
    told = with_(tiny_batch(num_points=[30, 20]), y=torch.tensor([2, 0]))
    batch = told.clone()
    del batch.y
    rows = PointRows(encoder, decoder)(told)
    assert torch.equal(rows, decoder(encoder(batch), told.y))
    assert not torch.allclose(rows, decoder(encoder(batch), told.y.flip(0)))
    with pytest.raises(CloudError, match="the decoder has 3 categories; give the clouds y"):
        PointRows(encoder, decoder)(batch)


@pytest.mark.parametrize(("of_decoder", "of_head"), [(0, 0), (3, 0), (0, 3), (3, 3)])
def test_logits_depend_on_the_category_where_a_part_has_categories(of_decoder, of_head):
    encoder, decoder = parts(categories=of_decoder)
    with seeded(1):
        head = PointClassifier(decoder.out_channels, 4, hidden=(8,), dropout=0.0, categories=of_head).eval()
    batch = with_(tiny_batch(num_points=[30, 20]), y=torch.tensor([2, 0]))
    logits = PointNetwork(encoder, decoder, head)(batch)
    assert torch.equal(logits, point_logits(decoder, head, encoder(batch), batch.y, layout_of(batch)))
    other = PointNetwork(encoder, decoder, head)(with_(batch, y=torch.tensor([2, 1])))
    assert torch.equal(other[:30], logits[:30])
    assert torch.allclose(other[30:], logits[30:]) != bool(of_decoder or of_head)


def test_other_decoders_need_no_category():
    encoder, _ = parts()
    batch = tiny_batch(num_points=[30, 20])
    decoder = decoder_for(encoder, Upcast)
    assert torch.equal(PointRows(encoder, decoder)(with_(batch, y=torch.tensor([9, 9]))), decoder(encoder(batch)))
