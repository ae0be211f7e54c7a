import copy
import io

import pytest
import torch

from geo3d import seeds
from geo3d.nn.threshold import LR_FACTOR, Threshold, squares, temperature

KINDS = [None, 1, 8, 5]


def weights(out=20, inputs=6, dtype=torch.float64, seed=0):
    rows = torch.linspace(0.2, 1.5, out, dtype=dtype)[:, None]  # so that groups differ
    return torch.randn(out, inputs, generator=seeds.generator(seed, "weights"), dtype=dtype) * rows


def started(weight, rows, factor=0.5, fraction=0.4):
    mask = Threshold(tuple(weight.shape), rows, factor).to(weight.dtype)
    mask.start(weight, fraction)
    return mask


def plain_gates(weight, tau, factor, rows):
    """(out, in) S, group by group in Python."""
    out = len(weight)
    groups = (
        [[i] for i in range(out)]
        if rows == 1
        else [list(range(i, min(i + (rows or 1), out))) for i in range(0, out, rows or 1)]
    )
    if rows is None:
        var = weight.abs().flatten().tolist()
        mean = sum(var) / len(var)
        T = factor * sum((v - mean) ** 2 for v in var) / len(var)
        return torch.sigmoid((weight**2 - tau) / T)
    z = [(weight[g] ** 2).mean() for g in groups]
    roots = torch.stack(z).sqrt()
    T = factor * ((roots - roots.mean()) ** 2).mean()
    S = torch.empty_like(weight)
    for g, value in zip(groups, z, strict=True):
        S[g] = torch.sigmoid((value - tau) / T)
    return S


@pytest.mark.parametrize("rows", KINDS)
def test_forward_and_count_follow_the_equations(rows):
    weight = weights()
    mask = started(weight, rows)
    S = plain_gates(weight, mask.tau.detach(), 0.5, rows)
    torch.testing.assert_close(mask(weight), weight * S, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(mask.l0(weight), S.sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("rows", KINDS)
def test_gradients_are_the_published_ones(rows):
    weight = weights().requires_grad_()
    mask = started(weight, rows)
    tau = float(mask.tau.detach())
    ask = torch.randn(weight.shape, generator=seeds.generator(1), dtype=weight.dtype) * 1e-3  # nothing is clipped
    with torch.no_grad():
        T = temperature(mask.squares(weight), mask.factor)
        S = plain_gates(weight, tau, 0.5, rows)
        wanted = -(ask * weight * S * (1 - S) / T).sum()
    (mask(weight) * ask).sum().backward()
    torch.testing.assert_close(weight.grad, ask * S, rtol=1e-12, atol=1e-15)  # equation 14: S and no more
    torch.testing.assert_close(mask.log_tau.grad, tau * wanted, rtol=1e-10, atol=0)  # d tau = tau d log tau


@pytest.mark.parametrize("rows", KINDS)
def test_gradient_of_the_count_reaches_the_threshold_only(rows):
    weight = weights().requires_grad_()
    mask = started(weight, rows)
    (mask.l0(weight) * 1e-4).backward()
    with torch.no_grad():
        S = plain_gates(weight, mask.tau, 0.5, rows)
        wanted = -1e-4 * (S * (1 - S)).sum() / temperature(mask.squares(weight), mask.factor) * mask.tau
    assert weight.grad is None
    torch.testing.assert_close(mask.log_tau.grad, wanted, rtol=1e-10, atol=0)


def test_the_true_gradient_would_differ():
    weight = weights().requires_grad_()
    tau = squares(weight.detach(), None).median()
    T = temperature(weight.detach() ** 2, 0.5)
    S = torch.sigmoid((weight**2 - tau) / T)
    (weight * S).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(weight.grad, S + 2 * weight**2 * S * (1 - S) / T, rtol=1e-10, atol=1e-12)
        assert (weight.grad - S).abs().max() > 0.1


def test_each_use_of_a_threshold_has_its_gradient_clipped():
    weight = weights()
    mask = started(weight, None)
    (mask(weight) * weight.sign()).sum().mul(-1e6).backward()
    assert float(mask.log_tau.grad) == 1.0
    (mask(weight) * weight.sign()).sum().mul(1e6).backward()
    assert float(mask.log_tau.grad) == 0.0


def test_groups_that_are_alike_have_a_millionth_of_their_mean_for_a_temperature():
    assert float(temperature(torch.full((4,), 0.09), 0.5)) == pytest.approx(0.09e-6, rel=1e-4)


def test_temperature_is_t0_times_the_variance_and_never_zero():
    weight = weights()
    torch.testing.assert_close(temperature(weight**2, 1e-3), 1e-3 * weight.abs().var(correction=0))
    means = (weight**2).mean(1)
    torch.testing.assert_close(temperature(squares(weight, 1), 2.0), 2 * means.sqrt().var(correction=0))
    assert float(temperature(torch.ones(4), 1.0)) > 0
    assert float(temperature(torch.zeros(4), 1.0)) > 0
    assert torch.isfinite(Threshold((4, 3), 8)(torch.zeros(4, 3))).all()


def test_groups_are_runs_of_rows_and_the_last_may_be_short():
    weight = weights(out=20)
    z = squares(weight, 8)
    wanted = torch.stack([(weight[a:b] ** 2).mean() for a, b in ((0, 8), (8, 16), (16, 20))])
    torch.testing.assert_close(z, wanted)
    mask = Threshold((20, 6), 8)
    assert mask.kept.shape == (3,) and mask.per_row(torch.tensor([1, 2, 3]), 20).tolist() == [1] * 8 + [2] * 8 + [3] * 4


def test_scale_takes_part_in_the_comparison_only():
    weight = weights()
    mask = started(weight, 1)
    scale = torch.linspace(0.5, 3, 20, dtype=torch.float64)
    mask.scale.copy_(scale)
    S = plain_gates(weight * scale[:, None], mask.tau.detach(), 0.5, 1)
    torch.testing.assert_close(mask(weight), weight * S, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rows, fraction", [(None, 0.1), (1, 0.25)])
def test_start_puts_the_threshold_where_the_share_lies_below(rows, fraction):
    weight = weights()
    mask = started(weight, rows, fraction=fraction)
    below = (mask.squares(weight) <= mask.tau).double().mean()  # the logarithm may round it either way
    assert abs(float(below) - fraction) <= 1 / mask.kept.numel() + 1e-9


def test_hard_gates_are_those_above_the_threshold_until_frozen():
    weight = weights()
    mask = started(weight, 1)
    assert torch.equal(mask.hard(weight), (weight**2).mean(1) > mask.tau)
    kept = torch.arange(20) % 3 == 0
    mask.freeze(kept)
    assert torch.equal(mask.hard(weight), kept)
    moving = weight.clone().requires_grad_()
    out = mask(moving)
    out.sum().backward()
    assert torch.equal(out.detach(), weight * kept[:, None])
    assert torch.equal(moving.grad, kept[:, None].double().expand_as(weight))
    assert mask.log_tau.grad is None and float(mask.l0(weight)) == kept.sum() * 6


def test_transition_is_the_share_that_the_threshold_learns_from():
    weight = weights()
    mask = started(weight, None)
    T = temperature(weight**2, mask.factor)
    assert mask.transition(weight) == pytest.approx(float(((weight**2 - mask.tau).abs() / T < 4).float().mean()))
    mask.log_tau.data.fill_(10.0)
    assert mask.transition(weight) == 0


@pytest.mark.parametrize("rows", KINDS)
def test_state_goes_round(rows):
    weight = weights()
    mask = started(weight, rows)
    mask.scale.uniform_(0.5, 1.5, generator=seeds.generator(3))
    mask.freeze(mask.hard(weight))
    other = Threshold((20, 6), rows, 0.5).double()
    other.load_state_dict(mask.state_dict())
    assert torch.equal(other(weight), mask(weight)) and bool(other.frozen)


def test_copies_keep_their_optimiser_group():
    mask = Threshold((4, 3), 1)
    blob = io.BytesIO()
    torch.save(mask, blob)
    blob.seek(0)
    for other in (mask, copy.deepcopy(mask), torch.load(blob, weights_only=False)):
        assert other.log_tau.lr_factor == LR_FACTOR
    other = copy.deepcopy(mask)
    (other(torch.ones(4, 3)) * 1e9).sum().backward()
    assert abs(float(other.log_tau.grad)) <= 1  # clipped in a copy, too
