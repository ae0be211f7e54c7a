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


def test_seeds_stay_what_they_were():
    """Published figures can only be reproduced if the seeds do not change."""
    assert seed_of(0, "views", 3) == 4176441632251728503 < 2**63


def test_what_was_drawn_before_does_not_matter_inside():
    drawn = []
    for before, key in ((1, 9), (2, 9), (2, 10)):
        torch.manual_seed(before)
        with seeded(key):
            drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
