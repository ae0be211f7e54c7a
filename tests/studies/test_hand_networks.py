"""The published networks for hand poses: sizes, neighbours, and values against the row-by-row form."""

import pytest
import torch

from geo3d.nn.set_abstraction import PooledMLP
from geo3d.seeds import generator, seeded
from studies import hand_networks
from studies.hand_networks import AFTER, BEFORE, JOINTS, ORDER, SKELETON, HandFoldingNet, HandPointNet, K, layout, near
from studies.hand_networks import toward_sensor as normals


def some_clouds(count=2, points=600):
    draw = generator("hand networks")
    pos = torch.randn(count, points, 3, generator=draw) * torch.tensor([0.3, 0.2, 0.1])
    return torch.cat([pos, normals(pos, torch.tensor([[0.0, 0.0, 5.0]] * count))], 2)


def made(kind):
    with seeded(0, "hand networks"):
        joints = torch.randn(64, JOINTS, 3, generator=generator("joints"))
        return HandPointNet(joints) if kind == "HandPointNet" else HandFoldingNet()


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("kind", "number"), [("HandPointNet", 2_406_954), ("HandFoldingNet", 1_282_505)])
def test_networks_have_the_published_size(kind, number):
    assert parameters(made(kind)) == number


def test_fingers_hang_together():
    assert BEFORE == [17, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19]
    assert AFTER == [13, 2, 3, 4, 4, 6, 7, 8, 8, 10, 11, 12, 12, 14, 15, 16, 16, 18, 19, 20, 20]


@pytest.mark.parametrize("kind", ["HandPointNet", "HandFoldingNet"])
@pytest.mark.parametrize("training", [False, True])
def test_compiled_and_plain_forms_agree(kind, training, monkeypatch):
    network, clouds = made(kind).train(training), some_clouds(8)
    truth = torch.randn(8, JOINTS, 3, generator=generator("truth"))
    results, neighbors = [], []
    for plain in (False, True):
        with monkeypatch.context() as patch:
            if plain:  # with the neighbours of the first run: of two that are equally far, rounding decides
                patch.setattr(PooledMLP, "runs_compiled", lambda *_: False)
                patch.setattr(hand_networks, "near", lambda *_: neighbors.pop(0))
            else:
                patch.setattr(hand_networks, "near", lambda *given: neighbors.append(near(*given)) or neighbors[-1])
            network.zero_grad()
            loss = network.loss(clouds, truth)
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
            results.append((loss.detach(), gradient))
    (loss, gradient), (plain_loss, plain_gradient) = results
    torch.testing.assert_close(loss, plain_loss, rtol=1e-4, atol=0)
    assert float(torch.nn.functional.cosine_similarity(gradient, plain_gradient, dim=0)) > 0.999
    assert float((gradient.norm() / plain_gradient.norm() - 1).abs()) < 0.01


def test_neighbours_outside_of_the_ball_are_replaced():
    pos = torch.randn(200, 3, generator=generator("near"))
    centers, other = pos[:3], torch.tensor([7, 8, 9])
    neighbors = near(pos, layout(1, 200), centers, layout(1, 3), 0.5, other)
    distance = (pos[None] - centers[:, None]).square().sum(2)
    for row in range(3):
        inside = (distance[row] <= 0.5).nonzero()[:, 0]
        nearest = distance[row].argsort()[:K]
        expected = set(nearest.tolist()) & set(inside.tolist())
        assert expected <= set(neighbors[row].tolist()) <= expected | {int(other[row])}
        assert neighbors.shape == (3, K)


def test_normals_look_at_the_sensor():
    draw = generator("sphere")
    pos = torch.nn.functional.normalize(torch.randn(1, 900, 3, generator=draw), dim=2)
    inward = normals(pos, torch.zeros(1, 3))
    assert float((inward * -pos).sum(2).min()) > 0.9
    torch.testing.assert_close(inward.norm(dim=2), torch.ones(1, 900))


def test_a_hand_of_the_training_set_is_among_the_components():
    joints = torch.randn(43, JOINTS, 3, generator=generator("joints"))  # differences from the mean span 42 dimensions
    network = HandPointNet(joints).eval()
    truth = (joints.flatten(1) - network.mean) @ network.basis.mT
    torch.testing.assert_close((network.mean + truth @ network.basis).unflatten(1, (JOINTS, 3)), joints)


def test_joints_come_in_the_order_of_geo3d():
    network, clouds = made("HandFoldingNet").eval(), some_clouds()
    for module in (network.first, *(fold.step[-1] for fold in network.folds)):
        torch.nn.init.zeros_(module.weight)
        torch.nn.init.zeros_(module.bias)
    torch.nn.init.eye_(network.first.weight)
    joints = network.joints(clouds)
    with torch.no_grad():
        plane = network.unfolded  # each joint's place on the plane makes its features
        code = network.levels(clouds)[2]
        x = torch.cat([SKELETON.mT[ORDER].expand(2, JOINTS, 2), code[:, None].expand(-1, JOINTS, -1)], 2)
        expected = plane(x.flatten(0, 1))[:, :3].view(2, JOINTS, 3)
    torch.testing.assert_close(joints, expected)
    assert ORDER[1:5] == [17, 18, 19, 20] and ORDER[5] == 1
