import copy
import json

import pytest
import torch

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.compress.pipeline import rebuild
from geo3d.compress.prune import LANES, Sparsity, finalize, prune, restore
from geo3d.compress.shrink import multiplications
from geo3d.compress.structure import structure
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.errors import ConfigError
from geo3d.nn.graph import layers_of
from geo3d.nn.linear import Linear
from geo3d.nn.threshold import Threshold


def clouds(num_points=32, count=4, seed=0):
    pos = torch.randn(count * num_points, 3, generator=seeds.generator(seed, "clouds"))
    return make_batch(pos, num_points=num_points)


def made(**keywords):
    with seeds.seeded(0, "encoder"):
        encoder = DGCNN(**{"k": 4, "channels": (16, 24, 32), "embedding": 64} | keywords)
        for layer in encoder.layers:
            layer.norm.weight.data.uniform_(0.5, 1.5)
    for seed in range(3):
        encoder(clouds(seed=seed))
    return encoder.eval()


def levels():
    with seeds.seeded(0, "encoder"):
        return PointNet2(
            num_samples=(16, 4), num_neighbors=(8, 4), radii=(0.8, 1.6), channels=((16, 32), (32, 64), (64, 64))
        )


def cost(encoder, outputs=None, density=None):
    layers = layers_of(encoder.layer_graph())
    linears = {layer.name: encoder.get_submodule(layer.name) for layer in layers}
    return float(multiplications(layers, linears, outputs or {}, density or {}))


def train(encoder, steps, lr=2e-3, penalty=True):
    """The soft fraction after each step of training towards random features; thresholds have an optimiser group."""
    target = torch.randn(4, encoder.cloud_channels, generator=seeds.generator(0, "target"))
    own = [p for p in encoder.parameters() if hasattr(p, "lr_factor") and p.requires_grad]
    others = [p for p in encoder.parameters() if not hasattr(p, "lr_factor")]
    groups = [{"params": others}] + [{"params": [p], "lr": lr * p.lr_factor, "weight_decay": 0.0} for p in own]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    encoder.train()
    shares = []
    for _ in range(steps):
        loss = (encoder(clouds(16)).cloud - target).square().mean()
        if penalty:
            loss = loss + encoder.sparsity.penalty()
            shares.append(float(encoder.sparsity.fraction().detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return shares


@pytest.mark.parametrize("group", ["channel", "block", "weight"])
@pytest.mark.parametrize("kept", [0.6, 0.3])
@pytest.mark.parametrize("make", [made, levels])
def test_one_shot_keeps_the_promise(group, kept, make):
    encoder = make()
    small = prune(encoder, kept, group=group, one_shot=True)
    record = small.compression[-1]
    if group == "weight":
        linears = {layer.name: small.get_submodule(layer.name) for layer in layers_of(small.layer_graph())}
        density = {name: float((linear.matrix() != 0).double().mean()) for name, linear in linears.items()}
        left = cost(small, density=density) / cost(encoder)
        assert left > kept - 0.01
    else:
        left = cost(small) / cost(encoder)
        sizes = [len(small.get_submodule(layer.name).weight) for layer in layers_of(small.layer_graph())]
        assert all(size % LANES == 0 for size in sizes)
        assert not any(isinstance(module, Threshold | Sparsity) for module in small.modules())
    assert left <= kept + 1e-9 and left == pytest.approx(record["fraction"], abs=1e-5)
    assert small(clouds()).cloud.shape == (4, encoder.cloud_channels)  # heads on the cloud's features still fit
    assert record["finalized"] and record["step"] == "prune"
    json.dumps(small.compression)


def test_widths_that_are_no_multiple_of_what_kernels_work_on():
    with seeds.seeded(0, "encoder"):
        encoder = DGCNN(k=4, channels=(12, 20, 17), embedding=64)
    small = prune(encoder, 0.95, one_shot=True)
    assert all(new <= old for new, old in zip(small.channels, encoder.channels, strict=True))
    assert small.channels[1] in (8, 16, 20) and small.channels[2] in (8, 16, 17)
    assert prune(encoder, 1.0, one_shot=True).channels == (12, 20, 17)


def test_the_smallest_channels_go():
    encoder = made()
    small = prune(encoder, 0.5, criterion="weight", one_shot=True)
    name, left = "layers.0.linear", small.channels[0]
    strongest = encoder.get_submodule(name).weight.square().mean(1).topk(left).indices.sort().values
    assert left < 16
    torch.testing.assert_close(small.get_submodule(name).weight, encoder.get_submodule(name).weight[strongest])


def test_scaled_channels_are_compared_as_they_act_in_evaluation():
    encoder = made()
    norm, linear = encoder.layers[2].norm, encoder.layers[2].linear
    linear.weight.data[:5] *= 100  # undone by the norm once it has seen them
    norm.running_var[:5] *= 1e4
    norm.running_mean[:5] *= 100
    wanted = linear.weight.square().mean(1) * norm.weight**2 / (norm.running_var + norm.eps)
    mask = prune(encoder, 0.5).layers[2].linear.mask
    torch.testing.assert_close(mask.squares(linear.weight), wanted)
    plain = prune(encoder, 0.5, criterion="weight").layers[2].linear.mask
    torch.testing.assert_close(plain.squares(linear.weight), linear.weight.square().mean(1))
    fresh = DGCNN(k=4, channels=(16, 16), embedding=16)
    assert (prune(fresh, 0.5).layers[1].linear.mask.scale == 1).all()


@pytest.mark.parametrize("group, kept", [("channel", 0.5), ("weight", 0.4)])
def test_training_reaches_the_share(group, kept):
    encoder = prune(made(), kept, group=group, temperature=None if group == "channel" else 0.05)
    shares = train(encoder, 60, lr=0.012)
    assert shares[0] > 0.8 and abs(shares[-1] - kept) < 0.07
    taus = [float(mask.log_tau.detach()) for mask, _ in encoder.sparsity.thresholds().values()]
    before = copy.deepcopy(encoder)
    small = finalize(encoder)
    assert small is not encoder and small.compression[-1]["fraction"] <= kept
    assert taus == [float(mask.log_tau.detach()) for mask, _ in before.sparsity.thresholds().values()]
    train(small, 2, penalty=False)
    if group == "weight":
        linears = [module for module in small.modules() if isinstance(module, Linear)]
        density = sum(int((one.matrix() != 0).sum()) for one in linears) / sum(one.weight.numel() for one in linears)
        assert density <= kept  # stays so in training


@pytest.mark.parametrize("kept", [0.4, None])
@pytest.mark.parametrize("group", ["channel", "weight"])
def test_penalty_is_that_of_the_soft_share(group, kept):
    encoder = prune(made(), kept, group=group, strength=3.0)
    masks = {name: module.mask for name, module in encoder.named_modules() if isinstance(module, Linear)}
    gates = {n: m.gates(encoder.get_submodule(n).weight) for n, m in masks.items() if m is not None}
    if group == "channel":
        assert list(gates) == ["layers.0.linear", "layers.1.linear", "layers.2.linear"]
        a, b, c = (float(gate.detach().sum()) for gate in gates.values())
        left = 2 * (3 * a + a * b + b * c) + (a + b + c) * 64
    else:
        left = sum(float(gate.detach().sum()) for gate in gates.values())
    share = left / cost(made())
    wanted = 3 * share if kept is None else 3 * (share / kept - 1) ** 2
    penalty = encoder.sparsity.penalty()
    assert float(penalty.detach()) == pytest.approx(wanted, rel=1e-5)
    penalty.backward()
    touched = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert touched == {f"{name}.mask.log_tau" for name in gates}
    assert all(float(masks[name].log_tau.grad) < 0 for name in gates)  # downhill is up: fewer are kept


def test_without_a_target_the_learned_thresholds_decide():
    encoder = prune(made(), None, layers=["layers.1.linear"])
    linear = encoder.layers[1].linear
    z = linear.mask.squares(linear.weight.detach())
    linear.mask.log_tau.data.copy_(z.sort().values[10:12].mean().log())  # 13 above, which makes 16
    assert finalize(encoder).channels == (16, 16, 32)


def test_the_output_layer_may_lose_channels_when_asked():
    encoder = made()
    small = prune(encoder, 0.3, shrink_output=True, one_shot=True)
    assert small.embedding < 64 and small.cloud_channels == 2 * small.embedding
    assert small(clouds()).cloud.shape == (4, small.cloud_channels)


@pytest.mark.parametrize("group", ["channel", "block", "weight"])
@pytest.mark.parametrize("finalized", [False, True])
def test_records_rebuild_the_encoder(group, finalized):
    encoder = prune(made(), 0.5, group=group)
    train(encoder, 2)
    encoder = finalize(encoder) if finalized else encoder
    (record,) = json.loads(json.dumps(encoder.compression))
    other = restore(DGCNN(k=4, channels=encoder.channels, embedding=64), record)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other.eval()(clouds()).cloud, encoder.eval()(clouds()).cloud)
    needed = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert {name for name, p in other.named_parameters() if p.requires_grad} == needed
    assert hasattr(other, "sparsity") == (not finalized)
    if not finalized:
        other.compression = [record]
        assert finalize(other).compression == finalize(encoder).compression


@pytest.mark.parametrize("make", [made, levels])
@pytest.mark.parametrize("group", ["channel", "weight"])
@pytest.mark.parametrize("training", [False, True])
def test_encoders_multiply_by_what_the_gates_let_through(make, group, training):
    soft = prune(make(), 0.5, group=group).train(training)
    plain = make().train(training)
    for name, (mask, weight) in soft.sparsity.thresholds().items():
        gate = mask.gates(weight).detach()
        assert float(gate.min()) < 0.6 < 0.9 < float(gate.max())
        plain.get_submodule(name).weight.data.mul_(gate if group == "weight" else gate[:, None])
    torch.testing.assert_close(soft(clouds()).cloud, plain(clouds()).cloud, rtol=1e-4, atol=1e-5)
    soft(clouds()).cloud.square().sum().backward()
    assert all(float(mask.log_tau.grad.abs()) > 0 for mask, _ in soft.sparsity.thresholds().values())


def test_a_copy_counts_its_own_thresholds():
    encoder = prune(made(), 0.5)
    other = copy.deepcopy(encoder)
    other.sparsity.penalty().backward()
    assert other.layers[0].linear.mask.log_tau.grad is not None
    assert encoder.layers[0].linear.mask.log_tau.grad is None
    assert len(list(encoder.parameters())) == len(list(made().parameters())) + 3  # registered once


def test_the_given_encoder_stays_as_it_is():
    encoder = made()
    state = copy.deepcopy(encoder.state_dict())
    small = prune(encoder, 0.5, one_shot=True)
    assert finalize(encoder) is encoder and finalize(small) is small
    assert encoder.state_dict().keys() == state.keys() and not hasattr(encoder, "compression")
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_a_removed_channel_stands_where_its_norm_has_its_middle():
    encoder = made(dynamic=False)
    for layer in encoder.layers:
        layer.norm.running_mean.fill_(5.0)
        layer.norm.bias.data.fill_(0.25)
    small = prune(encoder, 0.8, layers=["layers.2.linear"], one_shot=True)
    keep = small.channels[2]
    linear = encoder.layers[2].linear
    mean = encoder.layers[2].norm
    z = linear.weight.square().mean(1) * mean.weight**2 / (mean.running_var + mean.eps)
    gone = z.topk(32 - keep, largest=False).indices
    folded = encoder.norm.running_mean - 0.25 * encoder.embed.weight[:, 40 + gone].sum(1)
    torch.testing.assert_close(small.norm.running_mean, folded)


def test_any_encoder_can_lose_weights():
    with seeds.seeded(0, "encoder"):
        encoder = PointNet(embedding=32, width=0.125).eval()
    small = prune(encoder, 0.2, group="weight", one_shot=True)
    linears = [module for module in small.modules() if isinstance(module, Linear)]
    left = sum(int((one.matrix() != 0).sum()) for one in linears) / sum(one.weight.numel() for one in linears)
    assert 0.19 < left <= 0.2
    with pytest.raises(ConfigError, match="channels of a PointNet cannot be taken out"):
        prune(encoder, 0.5)


def test_after_structuring_what_is_read_by_dense_layers_only_can_be_pruned():
    encoder = structure(made(), ranks={"layers.1.linear": 8}, min_channels=10**6)
    small = prune(encoder, 0.5, one_shot=True)
    assert small.channels[0] == 16 and small.channels[1] < 24 and small.channels[2] < 32
    assert [record["step"] for record in small.compression] == ["structure", "prune"]
    with pytest.raises(ConfigError, match="'layers.0.linear' cannot lose a channel; layers that can: layers.1.linear"):
        prune(encoder, 0.5, layers=["layers.0.linear"])
    whole = structure(made(), ranks={"embed": 32}, min_channels=10**6)
    with pytest.raises(ConfigError, match="no layer of this encoder can lose a channel"):
        prune(whole, 0.5)
    assert prune(whole, 0.5, group="weight", one_shot=True).compression[-1]["fraction"] <= 0.5
    waiting = structure(made(), ranks={"embed": 32}, min_channels=10**6, regularize=0.1)
    with pytest.raises(ConfigError, match="call compress.finalize before prune"):
        prune(waiting, 0.5)


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("group, finalized", [("channel", False), ("channel", True), ("weight", True)])
def test_structured_and_pruned_encoders_are_rebuilt_from_their_records(low_rank, group, finalized):
    encoder = structure(made(), ranks={"layers.1.linear": 8}, min_channels=10**6, low_rank=low_rank)
    encoder = prune(encoder, 0.7, group=group)
    encoder = (finalize(encoder) if finalized else encoder).eval()
    other = rebuild(DGCNN(k=4, channels=encoder.channels, embedding=64), json.loads(json.dumps(encoder.compression)))
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other.eval()(clouds()).cloud, encoder(clouds()).cloud)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"group": "rows"}, "prune.group: 'rows' is not channel, block or weight"),
        ({"criterion": "size"}, "prune.criterion: 'size' is not weight or scaled or null"),
        ({"block": 4}, "prune.block: 4 is not 8 or 16"),
        ({"kept": 0.0}, "prune.kept: 0.0 is not a float above 0 and up to 1 or null"),
        ({"kept": None, "one_shot": True}, "one_shot needs kept"),
        ({"layers": ["layers.0"]}, "'layers.0' cannot lose a channel; layers that can: layers.0.linear"),
        ({"kept": 0.01}, r"prune.kept=0.01 cannot be reached: .* there remains 0\.\d+"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        prune(made(), **options)


def test_pruning_twice_is_refused():
    with pytest.raises(ConfigError, match="already been through prune"):
        prune(prune(made(), 0.5, one_shot=True), 0.5)


def test_an_encoder_that_ignores_a_width_is_refused_before_anything_is_trained():
    class Deaf(DGCNN):
        def with_channels(self, sizes):
            return super().with_channels(sizes | {"embed": 32})

    encoder = Deaf(k=4, channels=(16, 16), embedding=32)
    with pytest.raises(ConfigError, match=r"Deaf.with_channels: asked for 33 channels of embed, it made 32; use every"):
        prune(encoder, group="channel")
