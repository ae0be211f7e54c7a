import torch

from geo3d.data.sampler import KeyedShuffle


def shuffle(epoch, seed=0):
    sampler = KeyedShuffle(torch.arange(10, 18), batch_size=4, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_orders_are_those_of_earlier_versions():
    """A run that another version began must go on with the same clouds."""
    assert shuffle(0) == [11, 12, 14, 13, 10, 17, 15, 16]
    assert shuffle(1) == [12, 16, 13, 14, 15, 11, 17, 10]


def test_every_cloud_comes_once_in_an_order_of_seed_and_epoch():
    orders = [shuffle(epoch, seed) for epoch in (0, 1) for seed in (0, 1)]
    assert all(sorted(order) == list(range(10, 18)) for order in orders)
    assert len(set(map(tuple, orders))) == 4
