"""How the rivals are trained and scored: what they see, how fast they learn, and that they go on where they were."""

import pytest
import torch

from geo3d.cloud import collate
from geo3d.ops.search.farthest import farthest_points
from geo3d.tasks.datamodule import DataModule
from studies import rivals
from studies.hand_networks import layout
from studies.rivals import DECAY, LENGTH, POINTS, HandsWithNormals, errors_of, trained


def data(size=64):
    return DataModule(HandsWithNormals, size=size, test_size=2, num_points=POINTS, normalize="oriented_box",
                      batch_size=32, num_workers=0).of("supervised", "joints")  # fmt: skip


def test_normals_look_at_the_camera():
    cloud = HandsWithNormals(size=2)[0]
    assert cloud.normal.shape == cloud.pos.shape and float((cloud.normal * -cloud.pos).sum(1).min()) >= 0


def test_networks_see_clouds_of_one_size():
    hands = HandsWithNormals(size=2)
    batch = collate([_of_size(hands[0], 700), _of_size(hands[1], POINTS)])
    folding, first = (rivals._clouds(kind, batch) for kind in ("HandFoldingNet", "HandPointNet"))
    assert folding.shape == first.shape == (2, POINTS, 6)
    whole = torch.cat([batch.pos / LENGTH, batch.normal], 1)
    torch.testing.assert_close(folding[0, :700].sort(0).values, whole[:700].sort(0).values)
    assert not torch.equal(folding[0, :700, :3] * LENGTH, batch.pos[:700])  # the centres are the first ones
    torch.testing.assert_close(folding[0, 700:], folding[0, : POINTS - 700])
    torch.testing.assert_close(folding[1].sort(0).values, whole[700:].sort(0).values)
    picked = farthest_points(folding[..., :3].reshape(-1, 3), layout(2, POINTS), 512)
    torch.testing.assert_close(first[:, :512].flatten(0, 1), folding.flatten(0, 1)[picked])
    same = [rows.flatten(0, 1).sort(0).values for rows in (first, folding)]
    torch.testing.assert_close(*same)


def _of_size(cloud, size):
    for name in ("pos", "normal", "point_y"):
        cloud[name] = cloud[name][:size]
    cloud.joints = cloud.joints.view(1, 21, 3)
    return cloud


def test_a_network_that_knows_the_joints_makes_no_error(monkeypatch):
    seen = []
    monkeypatch.setattr(rivals, "_clouds", lambda kind, batch: seen.append(batch) or batch)

    class Knowing:
        def eval(self):
            return self

        def joints(self, batch):
            return batch.joints / LENGTH + torch.tensor([0.01, 0.0, 0.0])

    errors = errors_of(Knowing(), "HandFoldingNet", 2)
    sizes = [1000 * 0.01 * LENGTH * torch.linalg.det(b.frame[:, :3, :3]).abs() ** (1 / 3) for b in seen]
    assert list(errors.values()) == pytest.approx([float(size.mean()) for size in sizes], rel=1e-4)


def test_a_training_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "SAVED", 1)
    monkeypatch.setattr(rivals, "BATCH", 2)
    module, rates = data(4), []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda adam: rates.append(adam.param_groups[0]["lr"]) or step(adam))
    whole, _ = trained(tmp_path / "whole.pt", "HandFoldingNet", module, 4, 0)
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4]) and DECAY["HandFoldingNet"] == 0.75
    forward = rivals._seen

    def stopped(kind, views, batch, seed, number):
        if number == 2:
            raise KeyboardInterrupt
        return forward(kind, views, batch, seed, number)

    with monkeypatch.context() as patch:
        patch.setattr(rivals, "_seen", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "part.pt", "HandFoldingNet", module, 4, 0)
    rates.clear()
    again, took = trained(tmp_path / "part.pt", "HandFoldingNet", module, 4, 0)
    assert len(rates) == 2 and took > 0
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_time_of_a_step_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "TIMED", 1)
    monkeypatch.setattr(rivals, "BATCH", 2)
    file = tmp_path / "step.json"
    count = rivals._affordable(file, "HandFoldingNet", data(4), 100.0, 0)
    assert count == rivals._affordable(file, "HandFoldingNet", data(4), 100.0, 0) > 1
    file.write_text("0.5")
    assert rivals._affordable(file, "HandFoldingNet", data(4), 100.0, 0) == 200


def test_the_first_epoch_counts_like_the_others(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,epoch_seconds\n1,90\n2,20\n3,22\n4,21\n")
    assert rivals.seconds_of(tmp_path) == 4 * 21.5


def test_batches_hold_every_cloud_once_a_pass(monkeypatch):
    monkeypatch.setattr(rivals, "BATCH", 2)
    batches = rivals._batches(data(6), 0)
    passes = [[next(batches).joints for _ in range(3)] for _ in range(2)]
    for joints in passes:
        assert len(torch.cat(joints).flatten(1).unique(dim=0)) == 6
    assert not torch.equal(passes[0][0], passes[1][0])
    later = next(rivals._batches(data(6), 0, 4)).joints
    torch.testing.assert_close(later, passes[1][1])
    assert not torch.equal(next(rivals._batches(data(6), 1)).joints, passes[0][0])
