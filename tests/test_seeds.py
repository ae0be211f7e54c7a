import torch

from geo3d.seeds import generator, numpy_generator, seed_of, seeded


def test_keys_give_different_but_repeatable_draws():
    keys = [(0,), (1,), (0, 0), ("0",), (0, "views"), ("views", 0)]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert torch.equal(torch.rand(3, generator=generator(4, "a")), torch.rand(3, generator=generator(4, "a")))
    assert (numpy_generator(4, "a").random(3) == numpy_generator(4, "a").random(3)).all()


def test_seeded_leaves_the_global_generator_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(9):
        inside = torch.rand(2)
    with seeded(9):
        assert torch.equal(torch.rand(2), inside)
    assert torch.equal(torch.rand(2), expected)
