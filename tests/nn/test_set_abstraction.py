import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from geo3d import seeds
from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.nn.norm import BatchNorm
from geo3d.nn.normalized import normalized_leaky_relu
from geo3d.nn.set_abstraction import PooledMLP, SetAbstraction, _MaxWithMoments
from geo3d.ops import native
from geo3d.ops.search.ball import ball_query

PTR = torch.tensor([0, 4, 5, 12])


def rows(count=12, channels=3, dtype=torch.float64, seed=0):
    return torch.randn(count, channels, generator=seeds.generator(seed, "rows"), dtype=dtype)


def plain(mlp, x, ptr):
    """All layers on all rows with torch's own modules, then the maximum."""
    for i, (layer, norm) in enumerate(zip(mlp.linears, mlp.norms, strict=True)):
        x = nn.BatchNorm1d.forward(norm, layer(x))
        if mlp.activated or i < len(mlp.linears) - 1:
            x = F.relu(x)
    return torch.stack([x[a:b].max(0).values for a, b in zip(ptr[:-1], ptr[1:], strict=True)])


def pair(channels, activated=True):
    made = []
    for _ in range(2):
        with seeds.seeded(0, "mlp"):
            mlp = PooledMLP(channels, activated).double()
            for norm in mlp.norms:
                norm.weight.data.uniform_(-1.0, 1.0)
                norm.running_mean.normal_()
        made.append(mlp)
    return made


@pytest.mark.parametrize("channels", [[3, 5], [3, 6, 4, 5]])
@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("ptr, size", [(PTR, None), (torch.tensor([0, 3, 6, 9, 12]), 3)])
def test_pooled_mlp_is_norm_and_activation_before_the_maximum(channels, activated, train, ptr, size):
    ours, theirs = pair(channels, activated)
    x, y = rows().requires_grad_(), rows().requires_grad_()
    found, wanted = ours.train(train)(x, Layout(ptr, size)), plain(theirs.train(train), y, ptr)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    ask = rows(*found.shape, seed=1)
    (found * ask).sum().backward()
    (wanted * ask).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-11)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-11, msg=name)
    for (name, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12, msg=name)


def test_gradient_of_a_scale_of_zero():
    ours, theirs = pair([3, 4], activated=False)
    for mlp in (ours, theirs):
        mlp.norms[0].weight.data.zero_()
    ours(rows(), Layout(PTR)).sum().backward()
    plain(theirs, rows(), torch.tensor([0, 12])).sum().backward()  # any winner gives a gradient
    assert bool((ours.norms[0].weight.grad != 0).all())


@pytest.mark.parametrize("ptr, size", [(PTR, None), (torch.tensor([0, 4, 8, 12]), 4)])
def test_gradients_of_maxima_and_moments(ptr, size):
    assert torch.autograd.gradcheck(lambda x: _MaxWithMoments.apply(x, ptr, size), rows().requires_grad_())


def test_gradients_of_the_normalisation():
    norm = BatchNorm(3).double()
    inputs = rows().requires_grad_(), norm.weight, norm.bias
    assert torch.autograd.gradcheck(lambda x, *_: normalized_leaky_relu(norm, x), inputs)


def test_many_rows_that_hardly_vary_keep_their_digits():
    x = (1.0 + 0.01 * rows(100_000, 4)).float()
    norm = BatchNorm(4)
    wanted = F.relu(F.batch_norm(x.double(), None, None, training=True))
    assert float((normalized_leaky_relu(norm, x) - wanted).detach().abs().max()) < 1e-4
    torch.testing.assert_close(norm.running_mean, 0.1 * x.double().mean(0).float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("channels", [0, 4])
@pytest.mark.parametrize("ptr, sizes", [([0, 20, 40], (20, 5)), ([0, 7, 40], (None, None))])
def test_set_abstraction_is_the_network_on_every_edge(channels, ptr, sizes):
    with seeds.seeded(0, "sa"):
        level = SetAbstraction(channels, [0.8, 1.5], [6, 9], [[5, 4], [7, 5, 3]]).double()
    with seeds.seeded(0, "sa"):
        other = SetAbstraction(channels, [0.8, 1.5], [6, 9], [[5, 4], [7, 5, 3]]).double()
    pos, features = rows(40), rows(40, channels, seed=1)
    x, y = features.clone().requires_grad_(), features.clone().requires_grad_()
    ptr = torch.tensor(ptr)
    center_ptr = torch.tensor([0, 5, 10])
    centers = torch.cat([pos[a : a + 5] for a in ptr[:-1]])
    found = level(pos, x if channels else None, Layout(ptr, sizes[0]), centers, Layout(center_ptr, sizes[1]))
    wanted = []
    for radius, k, scale in zip(other.radii, other.num_neighbors, other.scales, strict=True):
        neighbors = ball_query(pos, Layout(ptr), centers, Layout(center_ptr), radius, k)
        edges = torch.cat([pos[neighbors] - centers[:, None], y[neighbors]], 2).flatten(0, 1)
        wanted.append(plain(scale, edges, torch.arange(0, len(edges) + 1, k)))
    torch.testing.assert_close(found, torch.cat(wanted, 1), rtol=0, atol=1e-11)
    ask = rows(*found.shape, seed=2)
    (found * ask).sum().backward()
    (torch.cat(wanted, 1) * ask).sum().backward()
    pairs = [(p.grad, q.grad) for p, q in zip(level.parameters(), other.parameters(), strict=True)]
    for p, q in [*pairs, (x.grad, y.grad)] if channels else pairs:
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)


@pytest.fixture(params=[*native.builds(), None], ids=str)
def build(request):
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


def level_and_inputs(channels=4, ptr=(0, 20, 40), sizes=(20, 5)):
    with seeds.seeded(0, "sa"):
        level = SetAbstraction(channels, [0.8, 1.5], [6, 9], [[5, 4], [7, 5, 3]])
        for name, p in level.named_parameters():
            if "norms" in name:
                p.data.normal_()
    pos, features, ptr = rows(40).float(), rows(40, channels, seed=1).float(), torch.tensor(ptr)
    centers = torch.cat([pos[a : a + 5] for a in ptr[:-1]])
    return level, (pos, features, Layout(ptr, sizes[0]), centers, Layout(torch.tensor([0, 5, 10]), sizes[1]))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("ptr, sizes", [((0, 20, 40), (20, 5)), ((0, 7, 40), (None, None))])
def test_builds_and_torch_agree(build, train, ptr, sizes):
    level, inputs = level_and_inputs(ptr=ptr, sizes=sizes)
    double = copy.deepcopy(level).double().train(train)
    level.train(train)
    wide = [t.double() if isinstance(t, torch.Tensor) else t for t in inputs]
    inputs[1].requires_grad_()
    wide[1].requires_grad_()
    for _ in range(2):  # the running statistics move twice
        found, wanted = level(*inputs), double(*wide)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    ask = rows(*found.shape, seed=2)
    (found * ask).sum().backward()
    (wanted * ask).sum().backward()
    for (name, p), q in zip(level.named_parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(p.grad.double(), q.grad, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(inputs[1].grad.double(), wide[1].grad, rtol=1e-4, atol=1e-4)
    for (name, p), q in zip(level.named_buffers(), double.named_buffers(), strict=True):
        torch.testing.assert_close(p.double(), q[1].double(), rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_positions_have_a_gradient_too(build):
    level, (pos, features, layout, centers, center_layout) = level_and_inputs()
    grads = []
    for kind in (torch.float32, torch.float64):
        p = pos.clone().to(kind).detach().requires_grad_()
        level.to(kind)(p, features.to(kind), layout, centers.to(kind), center_layout).square().sum().backward()
        grads.append(p.grad.double())
    assert bool(grads[0].any())
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3)


def test_a_frozen_norm_keeps_its_statistics(build):
    level, inputs = level_and_inputs()
    level.scales[0].norms[0].eval()
    before = {name: value.clone() for name, value in level.named_buffers()}
    level(*inputs).sum().backward()
    moved = {name for name, value in level.named_buffers() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith("scales.0.norms.0.") for name in moved)


@pytest.mark.parametrize("train", [True, False])
def test_autocast_keeps_single_precision_where_kernels_are_compiled(build, train):
    level, inputs = level_and_inputs()
    level.train(train)
    exact = level(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = level(*inputs)
        halved = level(inputs[0], inputs[1].bfloat16(), *inputs[2:])
    assert exact.dtype == mixed.dtype == torch.float32
    assert torch.equal(mixed, exact) == (build is not None)
    assert float((halved - exact).detach().norm() / exact.detach().norm()) < 0.05


def test_large_groups_and_few_rows(build):
    ours, theirs = pair([3, 6, 5])
    x = rows(2000)
    for ptr in ([0, 1, 2000], [0, 2000], [*range(0, 2001, 2)]):
        ptr = torch.tensor(ptr)
        found = ours.float()(x.float(), Layout(ptr))
        torch.testing.assert_close(found.double(), plain(theirs, x, ptr), rtol=0, atol=2e-5)


def test_bad_options():
    with pytest.raises(ConfigError, match="one entry for each scale; found 1, 2 and 1"):
        SetAbstraction(0, [0.1], [4, 4], [[8]])
    with pytest.raises(ConfigError, match="at least one layer"):
        PooledMLP([3])
    with pytest.raises(CloudError, match="single row"):
        PooledMLP([3, 4, 5])(torch.zeros(1, 3), Layout(torch.tensor([0, 1]), 1))
    with pytest.raises(CloudError, match="single row"):
        PooledMLP([3, 4])(torch.zeros(1, 3), Layout(torch.tensor([0, 1]), 1))


def one_of_two(rank, store, out):
    """A process with half of the groups; leaves its outputs and gradients in a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mlp = pair([3, 6, 5])[0]
    mine = slice(0, 5) if rank == 0 else slice(5, 12)
    ptr = PTR[:3] if rank == 0 else PTR[2:] - PTR[2]
    found = mlp(rows()[mine], Layout(ptr))
    (found**2).sum().backward()
    torch.save([found.detach(), [p.grad for p in mlp.parameters()], mlp.state_dict()], f"{out}{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_share_their_statistics(tmp_path):
    torch.multiprocessing.spawn(one_of_two, (tmp_path / "store", tmp_path / "out"), nprocs=2)
    parts = [torch.load(f"{tmp_path / 'out'}{rank}") for rank in (0, 1)]
    mlp = pair([3, 6, 5])[0]
    found = mlp(rows(), Layout(PTR))
    (found**2).sum().backward()
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), found.detach(), rtol=0, atol=1e-12)
    for i, p in enumerate(mlp.parameters()):
        torch.testing.assert_close(parts[0][1][i] + parts[1][1][i], p.grad, rtol=0, atol=1e-11)
    for name, value in mlp.state_dict().items():
        for part in parts:
            torch.testing.assert_close(part[2][name], value, rtol=0, atol=1e-12, msg=name)
