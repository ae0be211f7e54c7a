"""Sub-networks against DGCNNs built by hand from the leading channels, and what training does to them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geo3d import checkpoint, compress, seeds
from geo3d.cloud import Features, common_size, with_
from geo3d.compress import added_loss
from geo3d.compress.adaptive.encoder import Adaptive, Setting, adapt, restore
from geo3d.compress.adaptive.slices import farthest_subset
from geo3d.compress.adaptive.statistics import head_for, recalibrate_norms
from geo3d.compress.adaptive.training import disagreement, imitation, logits_of, sample_settings
from geo3d.encoders import DGCNN, PointNet
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.nn.norm import BatchNorm
from geo3d.nn.quantizer import Quantizer
from geo3d.ops import native
from geo3d.ops.edge.conv import center_and_neighbor_weights
from geo3d.testing import tiny_batch

CHANNELS, EMBEDDING = (16, 16, 24), 32
CHOICES: dict[str, Any] = {"widths": (0.5, 1), "depths": (2, 3), "ks": (4, 6), "points": (16, 24)}
SMALLEST = Setting(0.5, 2, 4, 16)


def encoder(seed: int = 0, **keywords: Any) -> DGCNN:
    """A DGCNN with random weights, norm weights of both signs, and statistics far from the initial ones."""
    model = DGCNN(**({"k": 6, "channels": CHANNELS, "embedding": EMBEDDING} | keywords))
    draw = seeds.generator(seed, "encoder")
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
            elif value.is_floating_point():
                value.copy_(
                    torch.randn(value.shape, generator=draw) / (value.shape[1] ** 0.5 if value.dim() > 1 else 1)
                )
    return model


def by_hand(full: DGCNN, depth: int, channels: list[int], embedding: int, k: int) -> DGCNN:
    """The leading part of the full encoder, picked weight by weight."""
    small = DGCNN(k=k, channels=channels, embedding=embedding)
    state, inner = full.state_dict(), 3
    for i in range(depth):
        rows, before = range(channels[i]), full.in_channels if i == 0 else full.channels[i - 1]
        columns = [*range(inner), *range(before, before + inner)]
        small.layers[i].linear.weight.data = state[f"layers.{i}.linear.weight"][rows][:, columns]
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(small.layers[i].norm, name).data = state[f"layers.{i}.norm.{name}"][rows]
        inner = channels[i]
    starts = [sum(full.channels[:i]) for i in range(depth)]
    columns = [start + c for start, count in zip(starts, channels, strict=True) for c in range(count)]
    small.embed.weight.data = state["embed.weight"][range(embedding)][:, columns]
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(small.norm, name).data = state[f"norm.{name}"][range(embedding)]
    return small


def padded(features: Features, channels: list[int], embedding: int) -> Features:
    point = torch.zeros(len(features.point), sum(CHANNELS))
    for i, part in enumerate(features.point.split(channels, 1)):
        start = sum(CHANNELS[:i])
        point[:, start : start + part.shape[1]] = part
    cloud = torch.zeros(len(features.cloud), 2 * EMBEDDING)
    cloud[:, :embedding] = features.cloud[:, :embedding]
    cloud[:, EMBEDDING : EMBEDDING + embedding] = features.cloud[:, embedding:]
    return Features(point, cloud)


def close(found: Features, expected: Features, tolerance: float = 1e-6) -> None:
    for a, b in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


SHAPES = {(1.0, 3): ([16, 16, 24], 32), (1.0, 2): ([16, 16], 32), (0.5, 3): ([8, 8, 16], 16), (0.5, 2): ([8, 8], 16)}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("sizes", [[16, 16], [16, 9]])
def test_a_slice_is_the_small_encoder(sizes: list[int], training: bool) -> None:
    full = encoder()
    adaptive = adapt(full, **CHOICES).train(training)
    batch = tiny_batch(num_points=sizes)
    for (width, depth), (channels, embedding) in SHAPES.items():
        small = by_hand(full, depth, channels, embedding, k=4).train(training)
        close(adaptive.encode(Setting(width, depth, 4, 16), batch), padded(small(batch), channels, embedding))


def test_evaluation_without_gradient_too() -> None:
    """Without gradients the compiled kernels take other paths."""
    adaptive, batch = adapt(encoder(), **CHOICES).eval(), tiny_batch(num_points=16)
    for native_too in (True, False):
        with torch.no_grad():
            expected = padded(by_hand(adaptive.inner, 2, [8, 8], 16, k=4).eval()(batch), [8, 8], 16)
            if native_too:
                close(adaptive.use(SMALLEST)(batch), expected, 1e-5)
            else:
                with native.disabled():
                    close(adaptive.use(SMALLEST)(batch), expected, 1e-5)


def test_gradients_reach_the_leading_part_alone_and_are_those_of_the_small_encoder() -> None:
    full, batch = encoder(), tiny_batch(num_points=16)
    adaptive = adapt(full, **CHOICES).train()
    small = by_hand(full, 2, [8, 8], 16, k=4).train()
    pick = torch.randn(2 * 16, generator=seeds.generator(1))
    (small(batch).cloud @ pick).sum().backward()
    cloud = adaptive.encode(SMALLEST, batch).cloud
    (cloud.view(-1, 2, 32)[:, :, :16].flatten(1) @ pick).sum().backward()
    inner = adaptive.inner
    for i, columns in ((0, [0, 1, 2, 3, 4, 5]), (1, [*range(8), *range(16, 24)])):
        grad = inner.layers[i].linear.weight.grad
        torch.testing.assert_close(grad[:8][:, columns], small.layers[i].linear.weight.grad)
        assert grad.count_nonzero() == grad[:8][:, columns].count_nonzero() > 0
    grad, columns = inner.embed.weight.grad, [*range(8), *range(16, 24)]
    torch.testing.assert_close(grad[:16][:, columns], small.embed.weight.grad)
    assert grad.count_nonzero() == grad[:16][:, columns].count_nonzero() > 0
    torch.testing.assert_close(inner.norm.bias.grad[:16], small.norm.bias.grad)
    assert not inner.norm.bias.grad[16:].any() and inner.layers[2].linear.weight.grad is None


def test_statistics_follow_in_the_setting_that_runs_alone() -> None:
    adaptive = adapt(encoder(), **CHOICES).train()
    before = {name: value.clone() for name, value in adaptive.named_buffers()}
    adaptive.encode(SMALLEST, tiny_batch(num_points=16))
    changed = {name for name, value in adaptive.named_buffers() if not torch.equal(value, before[name])}
    last = len(adaptive.settings) - 2
    assert changed == {f"statistics.{last}.{name}" for name in ("mean", "var", "batches")}
    assert adaptive.statistics[last].batches.tolist() == [1, 1, 1]
    adaptive(tiny_batch(num_points=24))  # the largest setting's are those of the full encoder
    changed |= {name for name, value in adaptive.named_buffers() if not torch.equal(value, before[name])}
    assert len(changed) == 3 + 4 * 3 and all("inner" in name or str(last) in name for name in changed)


def test_features_of_narrower_settings_are_nested() -> None:
    adaptive = adapt(encoder(), **CHOICES).eval()
    point, cloud, _ = adaptive.encode(SMALLEST, tiny_batch(num_points=16))
    assert point.shape[1] == adaptive.point_channels == 56 and cloud.shape[1] == adaptive.cloud_channels == 64
    held = [*range(8), *range(16, 24)]
    assert point[:, held].any(0).all() and point.any(0).sum() == 16
    held = [*range(16), *range(32, 48)]
    assert cloud[:, held].any(0).all() and cloud.any(0).sum() == 32


@pytest.mark.parametrize("sizes", [[30, 30], [30, 11, 24]])
def test_fewer_points_are_the_beginning_of_more(sizes: list[int]) -> None:
    batch = tiny_batch(num_points=sizes)
    thin = farthest_subset(batch, [24, 8, 16, 64])
    assert thin[64] is batch
    for n in (8, 16, 24):
        assert thin[n].ptr.diff().tolist() == [min(n, size) for size in sizes]
        assert common_size(thin[n]) == (n if len(set(sizes)) == 1 or n == 8 else None)
        for i, size in enumerate(sizes):
            own, more = (b.point_id[b.ptr[i] : b.ptr[i + 1]] for b in (thin[n], thin[24]))
            assert torch.equal(own, more[: min(n, size)]) and len(own.unique()) == len(own)
            assert bool((batch.ptr[i] <= own).all()) and bool((own < batch.ptr[i + 1]).all())
        torch.testing.assert_close(thin[n].normal, batch.normal[thin[n].point_id])
    full = adapt(encoder(), **CHOICES).eval().use(Setting(1.0, 3, 6, 16))
    close(full(batch), full.encode(full.setting, thin[16]))


def test_the_sandwich_holds_the_largest_and_the_smallest() -> None:
    adaptive, batch = adapt(encoder(), **CHOICES).train(), tiny_batch(num_points=30)
    found = adaptive.subnet_training(batch, seeds.generator(0), count=5)
    settings = [setting for setting, _ in found]
    assert (settings[0], settings[-1]) == (Setting(1.0, 3, 6, 24), SMALLEST) and len(set(settings)) == 5
    assert [len(features.point) for _, features in found] == [3 * setting.num_points for setting in settings]
    seen = {s for seed in range(60) for s in sample_settings(adaptive.settings, 4, seeds.generator(seed))}
    assert seen == set(adaptive.settings)
    again = [sample_settings(adaptive.settings, 4, seeds.generator(7)) for _ in range(2)]
    assert again[0] == again[1]
    assert [sample_settings([1, 2, 3], count, seeds.generator(0)) for count in (2, 3, 9)] == [
        [1, 3],
        [1, 2, 3],
        [1, 2, 3],
    ]


def test_imitation_against_its_formula() -> None:
    draw = seeds.generator(3)
    cloud, target = (torch.randn(5, 12, generator=draw, dtype=torch.float64) for _ in range(2))
    target[:, 1] = 2.0  # a constant channel
    deviation = target.float().std(0, correction=0)[[0, 1, 2, 3, 6, 7, 8, 9]]
    floor = 0.1 * deviation.mean()
    expected = ((cloud - target)[:, [0, 1, 2, 3, 6, 7, 8, 9]] / deviation.maximum(floor)) ** 2
    torch.testing.assert_close(imitation(cloud, target, 4), expected.mean().float())
    one = imitation(cloud[:1], target[:1], 4)
    assert bool(one.isfinite())  # the std of a single cloud is zero


def test_disagreement_is_the_divergence() -> None:
    logits, target = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 0.0, -1.0]])
    p, q = target.softmax(1), logits.softmax(1)
    torch.testing.assert_close(disagreement(logits, target), (p * (p / q).log()).sum())
    assert float(disagreement(target, target)) == 0


def trained(adaptive: Adaptive, head: nn.Module | None, steps: int) -> tuple[float, float]:
    """The distillation loss of all sub-networks before and after this many training steps."""
    batch, every = tiny_batch(8, 24), len(adaptive.settings)
    adaptive.train()
    optimizer = torch.optim.Adam(adaptive.parameters(), 0.01)
    with torch.no_grad():
        before = adaptive.extra_loss(batch, adaptive(batch).cloud, seeds.generator(0), head, count=every).item()
    for step in range(steps):
        optimizer.zero_grad()
        largest = adaptive(batch).cloud
        adaptive.extra_loss(batch, largest, seeds.generator(0, step), head, count=6).backward()
        optimizer.step()
    with torch.no_grad():
        return before, adaptive.extra_loss(batch, adaptive(batch).cloud, seeds.generator(0), head, count=every).item()


def test_distillation_brings_the_sub_networks_closer() -> None:
    before, after = trained(adapt(encoder(), **CHOICES), None, steps=25)
    assert after < 0.6 * before


def test_distillation_through_a_head_keeps_its_statistics() -> None:
    adaptive = adapt(encoder(), **CHOICES)
    with seeds.seeded("head"):
        head = Classifier(adaptive.cloud_channels, 4, hidden=(16,)).train()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    first, last = trained(adaptive, head, steps=15)
    assert last < 0.75 * first
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert all(p.grad is not None for p in head.parameters())  # the head learns to read the sub-networks
    assert head.layers[3].training
    cloud = torch.randn(6, adaptive.cloud_channels, generator=seeds.generator(0))
    assert torch.equal(logits_of(head, cloud), logits_of(head, cloud))  # without dropout


def test_the_largest_setting_moves_its_statistics_once_a_step_and_the_others_at_most_once() -> None:
    adaptive, batch = adapt(encoder(), **CHOICES).train(), tiny_batch(num_points=30)
    added_loss(adaptive, batch, adaptive(batch).cloud, seeds.generator(2))
    assert {int(norm.num_batches_tracked) for norm in adaptive.inner.modules() if isinstance(norm, BatchNorm)} == {1}
    assert {int(count) for each in adaptive.statistics for count in each.batches} == {0, 1}


def test_at_stands_alone() -> None:
    adaptive, batch = adapt(encoder(), **CHOICES).eval(), tiny_batch(num_points=30)
    trained(adaptive, None, 3)  # statistics that differ between the settings
    adaptive.eval()
    for setting in adaptive.settings:
        alone = adaptive.subnet(setting)
        assert type(alone) is DGCNN and alone.k == setting.k and not alone.training
        thin = farthest_subset(batch, [setting.num_points])[setting.num_points]
        close(adaptive.pad_features(setting, alone(thin)), adaptive.use(setting)(batch))
        assert alone.compression == [] and all(p.is_contiguous() and p.is_leaf for p in alone.parameters())
        rebuilt = DGCNN(alone.k, alone.channels, alone.embedding)
        rebuilt.load_state_dict(alone.state_dict())
        close(rebuilt.eval()(thin), alone(thin))
    shared = {p.data_ptr() for p in adaptive.parameters()} & {p.data_ptr() for p in alone.parameters()}
    assert not shared and adaptive.inner.k == 6


def test_record_and_weights_are_enough_to_rebuild() -> None:
    adaptive, batch = adapt(encoder(), **CHOICES), tiny_batch(num_points=30)
    trained(adaptive, None, 3)
    (record,) = adaptive.compression
    assert record == {"step": "adapt", "widths": [0.5, 1], "depths": [2, 3], "ks": [4, 6], "points": [16, 24]}
    other = restore(encoder(seed=5), record)
    other.load_state_dict(adaptive.state_dict())
    assert other.settings == adaptive.settings and other.compression == adaptive.compression
    for setting in adaptive.settings:
        close(other.eval().use(setting)(batch), adaptive.eval().use(setting)(batch), 0.0)


def test_the_encoder_that_is_given_stays_as_it_is() -> None:
    plain, batch = encoder().eval(), tiny_batch(num_points=24)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    adaptive = adapt(plain, **CHOICES)
    close(adaptive.eval()(batch), plain(batch), 0.0)  # the largest setting is the encoder itself
    trained(adaptive, None, 2)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    assert compress.records(plain) == []


def test_double_precision_and_copies() -> None:
    from copy import deepcopy

    adaptive = deepcopy(adapt(encoder(), **CHOICES)).double().eval()
    batch = tiny_batch(num_points=16, dtype=torch.float64)
    assert adaptive.use(SMALLEST)(batch).cloud.dtype == torch.float64
    single = deepcopy(adaptive).float()(with_(batch, pos=batch.pos.float()))
    torch.testing.assert_close(adaptive(batch).cloud.float(), single.cloud, rtol=1e-3, atol=1e-4)


def test_statistics_estimated_anew_are_plain_averages() -> None:
    adaptive = adapt(encoder(), **CHOICES)
    loader = [tiny_batch(4, 30, seed=seed) for seed in range(3)]
    assert recalibrate_norms(adaptive, loader) is adaptive and not adaptive.training
    for setting in (adaptive.settings[0], SMALLEST):
        alone = adaptive.subnet(setting).train()
        norms = [module for module in alone.modules() if isinstance(module, BatchNorm)]
        found = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        with torch.no_grad():
            for batch in loader:
                alone(farthest_subset(batch, [setting.num_points])[setting.num_points])
        for norm, (mean, var) in zip(norms, found, strict=True):
            torch.testing.assert_close(norm.running_mean, mean)
            torch.testing.assert_close(norm.running_var, var)
    assert all(norm.momentum == 0.1 for norm in adaptive.modules() if isinstance(norm, BatchNorm))


def test_statistics_estimated_anew_forget_those_of_training() -> None:
    loader = [tiny_batch(4, 30, seed=seed) for seed in range(3)]
    fresh, trained = (adapt(encoder(), **CHOICES) for _ in range(2))
    trained.train()
    for seed in range(5, 9):  # other clouds, four times as large, so that statistics kept from them would show
        batch = tiny_batch(4, 30, seed=seed)
        large = with_(batch, pos=4 * batch.pos)
        trained.extra_loss(large, trained(large).cloud, seeds.generator(seed), count=len(trained.settings))
    for setting in (trained.settings[0], SMALLEST):
        assert any(
            not torch.equal(a, b)
            for a, b in zip(trained.subnet(setting).buffers(), fresh.subnet(setting).buffers(), strict=True)
        )
    recalibrate_norms(fresh, loader)
    recalibrate_norms(trained, loader)
    for name, value in fresh.state_dict().items():
        assert torch.equal(trained.state_dict()[name], value), name


def test_statistics_leave_out_a_last_batch_of_one_cloud_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    adaptive, seen = adapt(encoder(), **CHOICES), []
    monkeypatch.setattr(adaptive, "encode", lambda _, batch: seen.append(batch.num_graphs))
    recalibrate_norms(adaptive, [tiny_batch(clouds, 30) for clouds in (4, 2, 1)])
    assert seen == [4] * len(adaptive.settings) + [2] * len(adaptive.settings)


def test_a_head_for_a_setting() -> None:
    adaptive = adapt(encoder(), **CHOICES).train()
    head = Classifier(adaptive.cloud_channels, 3, hidden=(8,))
    loader = [tiny_batch(4, 30, seed=seed) for seed in range(3)]
    own = head_for(head, adaptive, SMALLEST, loader)
    assert adaptive.training and not own.training and own is not head
    with torch.no_grad():
        cloud = torch.cat([adaptive.eval().use(SMALLEST)(batch).cloud for batch in loader])
        rows = cloud @ head.layers[0].weight.t()
    torch.testing.assert_close(own.layers[1].running_mean, rows.mean(0))
    torch.testing.assert_close(own.layers[1].running_var, rows.var(0))
    assert torch.equal(head.layers[1].running_mean, torch.zeros(8)) and head.layers[1].momentum == 0.1


def quantized(**keywords: Any) -> nn.Module:
    full = compress.quantize(encoder(), 4, 4, **keywords).train()
    full(tiny_batch(4, 24))
    return full


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_quantised_encoder_has_steps_of_its_own_for_each_shape(per_channel: bool) -> None:
    adaptive, batch = adapt(quantized(per_channel=per_channel), **CHOICES).eval(), tiny_batch(num_points=16)
    alone, inner = adaptive.subnet(SMALLEST), adaptive.inner
    small, full = alone.layers[1].linear.quantizer, inner.layers[1].linear.quantizer
    if per_channel:
        torch.testing.assert_close(small.log_step, full.log_step.view(2, 16)[:, :8].flatten())
        torch.testing.assert_close(
            alone.layers[1].neighbor_quantizer.shift, inner.layers[1].neighbor_quantizer.shift[:8]
        )
    else:
        torch.testing.assert_close(small.log_step, full.log_step)
    close(adaptive.use(SMALLEST)(batch), padded(alone(batch), [8, 8], 16))
    adaptive.train()
    adaptive.extra_loss(batch, adaptive(batch).cloud, seeds.generator(0), count=99).backward()
    grads = {name: p.grad for name, p in adaptive.named_parameters() if "quantizer" in name}
    grads = {name: g for name, g in grads.items() if not name.startswith("inner") or ".linear.quantizer." in name}
    assert len(grads) > 20 and grads.pop("inner.layers.1.linear.quantizer.log_step").count_nonzero() > 0
    assert all(grad is not None for grad in grads.values())
    assert all(p.lr_factor == 1.0 for name, p in adaptive.named_parameters() if "quantizer" in name)
    assert alone.layers[1].linear.quantizer.log_step.lr_factor == 1.0
    (record,) = alone.compression
    assert set(record["bits"]) == {"layers.0.linear", "layers.1.linear", "embed"}
    rebuilt = compress.rebuild(DGCNN(4, alone.channels, alone.embedding), alone.compression)
    rebuilt.load_state_dict(alone.state_dict())
    close(rebuilt.eval()(batch), alone(batch))


def test_codes_of_a_sub_network_are_slices_of_the_stored_ones(tmp_path: Path) -> None:
    adaptive, batch = adapt(quantized(), **CHOICES).eval(), tiny_batch(num_points=16)
    codes = [
        layer.linear.quantizer.codes(center_and_neighbor_weights(layer.linear.weight, layer.norm.weight)[0])
        for layer in (adaptive.inner.layers[1], adaptive.subnet(SMALLEST).layers[1])
    ]
    assert torch.equal(codes[0].view(2, 16, 16)[:, :8, :8], codes[1].view(2, 8, 8))
    checkpoint.save_encoder(adaptive, tmp_path)
    loaded = checkpoint.load_encoder(tmp_path)
    for setting in adaptive.settings:
        close(loaded.use(setting)(batch), adaptive.use(setting)(batch), 1e-5)


def test_a_quantised_encoder_is_restored_with_its_steps() -> None:
    adaptive, batch = adapt(quantized(), **CHOICES), tiny_batch(num_points=16)
    other = compress.rebuild(encoder(seed=9), adaptive.compression)
    assert isinstance(other, Adaptive) and [r["step"] for r in other.compression] == ["quantize", "adapt"]
    other.load_state_dict(adaptive.state_dict())
    for setting in adaptive.settings:
        close(other.eval().use(setting)(batch), adaptive.eval().use(setting)(batch), 0.0)


def test_steps_that_were_never_set_are_set_by_training_or_with_the_statistics() -> None:
    adaptive = adapt(compress.quantize(encoder(), 8, 8), **CHOICES)
    recalibrate_norms(adaptive, [tiny_batch(4, 30)])
    quantizers = [module for module in adaptive.modules() if isinstance(module, Quantizer)]
    assert len(quantizers) > 8 and all(bool(quantizer.initialized) for quantizer in quantizers)
    assert bool(adaptive.use(SMALLEST)(tiny_batch(num_points=16)).cloud.isfinite().all())


def test_masks_act_on_the_slices() -> None:
    full = encoder()
    pruned = encoder()
    keep = torch.rand(16, 32, generator=seeds.generator(4)) > 0.5

    class Mask(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * keep

    pruned.layers[1].linear.mask = Mask()
    full.layers[1].linear.weight.data *= keep
    batch = tiny_batch(num_points=16)
    found, expected = (adapt(each, **CHOICES).eval().use(SMALLEST) for each in (pruned, full))
    close(found(batch), expected(batch))
    assert found.subnet(SMALLEST).layers[1].linear.mask is None
    close(found.pad_features(SMALLEST, found.subnet(SMALLEST)(batch)), expected(batch))


def test_a_structured_encoder_keeps_its_channels() -> None:
    full = encoder(channels=(16, 16, 24), embedding=32)
    full.layers[1].linear.pool = nn.Linear(16, 8, bias=False)  # any pool: a matrix makes 8 sums of the 16 channels
    full.layers[1].linear.weight = nn.Parameter(torch.randn(16, 16, generator=seeds.generator(0)))
    with pytest.raises(ConfigError, match="structured encoder cannot be made narrower"):
        adapt(full, **CHOICES)
    with pytest.raises(ConfigError, match="structured"):
        adapt(full, depths=(2, 3))
    adaptive = adapt(full, ks=(4, 6), points=(16, 24)).eval()
    assert [str(s) for s in adaptive.settings] == ["w1-d3-k6-n24", "w1-d3-k6-n16", "w1-d3-k4-n24", "w1-d3-k4-n16"]
    batch = tiny_batch(num_points=30)
    full.k = 4
    close(adaptive.use(adaptive.settings[-1])(batch), full.eval()(farthest_subset(batch, [16])[16]))
    assert adaptive.subnet(adaptive.settings[-1]).layers[1].linear.pool is not None


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"widths": (0.5,)}, "widths must be fractions above 0 and up to 1, with 1"),
        ({"widths": (0.0, 1)}, "adapt.widths: .* is not a list of float above 0 and up to 1"),
        ({"depths": (2,)}, r"depths must be from 1 to 3, .* with 3 among them; found \[2\]"),
        ({"depths": (3, 4)}, "depths"),
        ({"ks": (0, 4)}, r"adapt.ks: \(0, 4\) is not a list of int from 1"),
        ({"points": ()}, r"adapt.points: \(\) is not a list .* of length 1 to 8"),
    ],
)
def test_choices_that_do_not_fit(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adapt(encoder(), **choices)


def test_what_cannot_be_adapted() -> None:
    with pytest.raises(ConfigError, match="needs a DGCNN.*PointNet"):
        adapt(PointNet())
    adaptive = adapt(encoder(), **CHOICES)
    with pytest.raises(ConfigError, match="still being pruned"):
        adapt(compress.prune(encoder()))
    with pytest.raises(ConfigError, match="already been through adapt"):
        adapt(adaptive)
    with pytest.raises(ConfigError, match="no setting w0.3-d2-k4-n16"):
        adaptive.use(Setting(0.3, 2, 4, 16))
    assert len(adapt(encoder()).settings) == 3 * 2 * 2 * 2  # by default
