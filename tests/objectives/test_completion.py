import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import Completion
from geo3d.objectives.completion import chamfer
from geo3d.seeds import generator


def draws(*shape, key=0):
    return torch.randn(*shape, generator=generator("completion test", key), dtype=torch.float64)


def plain_chamfer(a, b):
    def nearest(x, others):
        return min(sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) ** 0.5 for y in others)

    a, b = a.tolist(), b.tolist()
    return sum(nearest(x, b) for x in a) / len(a) + sum(nearest(y, a) for y in b) / len(b)


def test_formula():
    a, b = draws(3, 7, 3), draws(3, 5, 3, key=1)
    expected = [plain_chamfer(x, y) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(chamfer(a, b), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    objective = Completion(dim=6, points=4, hidden=8).double()
    views, clouds = [draws(3, 6), draws(3, 6, key=1)], draws(3, 4, 3, key=2)
    drawn = [objective.draw(view).view(3, 4, 3) for view in views]
    means = [sum(plain_chamfer(x, y) for x, y in zip(d, clouds, strict=True)) / 3 for d in drawn]
    loss, terms = objective(views, None, clouds)
    assert loss.item() == pytest.approx(sum(means) / 2, rel=1e-12) and terms["chamfer"].item() == loss.item()


def test_gradient():
    a, b = draws(2, 4, 3).requires_grad_(), draws(2, 5, 3, key=1).requires_grad_()
    assert torch.autograd.gradcheck(chamfer, (a, b))


def test_what_embeddings_tell_is_drawn():
    """Two clouds, told apart by their embeddings: after some steps each is drawn where it is."""
    objective = Completion(dim=2, points=8, hidden=16)
    z, clouds = torch.eye(2), torch.stack([torch.full((8, 3), 1.0), torch.full((8, 3), -1.0)])
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    first = objective([z, z], None, clouds)[0].item()
    for _ in range(150):
        optimizer.zero_grad()
        objective([z, z], None, clouds)[0].backward()
        optimizer.step()
    assert objective([z, z], None, clouds)[0].item() < 0.1 * first
    swapped = objective([z.flip(0), z.flip(0)], None, clouds)[0].item()
    assert swapped > 5 * objective([z, z], None, clouds)[0].item()


def test_two_processes_are_one_with_both_batches():
    objective, views, clouds = (
        Completion(dim=6, points=4, hidden=8).double(),
        [draws(4, 6), draws(4, 6, key=1)],
        draws(4, 4, 3),
    )
    whole = objective(views, None, clouds)[0]
    halves = [objective([v[rank] for v in views], None, clouds[rank])[0] for rank in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-12, atol=0)


def test_it_needs_the_clouds_and_starts_alike():
    with pytest.raises(ConfigError, match="Completion needs clouds; give just that"):
        Completion(dim=6)([draws(2, 6), draws(2, 6)])
    one, other = Completion(dim=6), Completion(dim=6)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
