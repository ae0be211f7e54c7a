import torch
from support.blobs import Blobs

from geo3d.encoders import DGCNN
from geo3d.ops import native
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.extract import extract, recalibrate
from geo3d.testing import tiny_batch


def test_recalibrated_statistics_are_the_mean_over_batches():
    data = DataModule(Blobs, num_points=16)
    encoder = DGCNN(k=4, channels=(8,), embedding=8)
    momentum = encoder.norm.momentum
    rows = []
    encoder.norm.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    batches = list(data.loader("train", batch_size=8))
    with native.disabled():  # compiled, the norm's rows are never to be seen
        recalibrate(encoder, batches)
    assert not encoder.training and encoder.norm.momentum == momentum
    means = torch.stack([each.mean(0) for each in rows])
    assert len(rows) == 3 and torch.allclose(encoder.norm.running_mean, means.mean(0), atol=1e-6)


def test_a_last_batch_of_one_cloud_gives_no_statistics():
    data = DataModule(Blobs, num_points=16, size=17)
    encoder, other = DGCNN(k=4, channels=(8,), embedding=8), DGCNN(k=4, channels=(8,), embedding=8)
    other.load_state_dict(encoder.state_dict())
    recalibrate(encoder, data.loader("train", batch_size=8))
    recalibrate(other, list(data.loader("train", batch_size=8))[:2])
    assert torch.equal(encoder.norm.running_mean, other.norm.running_mean)


def test_extract_keeps_order_and_mode():
    data = DataModule(Blobs, num_points=16)
    encoder = DGCNN(k=4, channels=(8,), embedding=8).train()
    features = extract(encoder, data.loader("test", batch_size=7))
    assert encoder.training and features.shape == (24, 16)
    alone = extract(encoder, data.loader("test", torch.tensor([5]), batch_size=1))
    assert torch.allclose(features[5], alone[0], atol=1e-5)


def test_only_a_last_batch_of_one_cloud_is_left_out():
    encoder = DGCNN(k=4, channels=(8,), embedding=8)
    recalibrate(encoder, [tiny_batch(4, 20), tiny_batch(2, 20), tiny_batch(1, 20)])
    assert encoder.norm.num_batches_tracked == 2
    recalibrate(encoder, [tiny_batch(1, 20), tiny_batch(1, 20)])
    assert encoder.norm.num_batches_tracked == 1
