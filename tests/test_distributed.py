"""Two real gloo processes against one with the joined batch: collectives, BatchNorm, and all objectives under DDP."""

import copy
from functools import partial
from inspect import signature

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from geo3d import objectives
from geo3d.distributed import gather, sum_over_processes, world_size
from geo3d.geometry.rotation import rotation_about_axis
from geo3d.heads import Predictor, Projector
from geo3d.nn.norm import BatchNorm
from geo3d.objectives.objective import Hidden, Motions, Places
from geo3d.seeds import generator, seeded

WORLD, B, D, STEPS = 2, 4, 6, 3
NAMES = [*objectives.__all__, "MaskedSceneContrast colorless"]
draw = partial(torch.randn, dtype=torch.float64)


class Step(nn.Module):
    """Encoder, teacher, heads and objective in one forward, as a training step has them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        kind, *left = name.split()
        made, self.colorless = getattr(objectives, kind), left == ["colorless"]
        small = {"dim": D, "queue_size": 20, "prototypes": 5, "points": 4, "hidden": 8, "inner": 0.5, "outer": 1.5,
                 "similar": 0.8}  # fmt: skip
        self.objective = made(**{key: small[key] for key in signature(made).parameters if key in small})
        with seeded("step", name):
            self.online = nn.Sequential(nn.Linear(5, 8), BatchNorm(8), nn.Tanh(), Projector(8, 8, D))
            self.predictor = Predictor(D, 8) if self.objective.predictor else nn.Identity()
        self.teacher = copy.deepcopy(self.online).requires_grad_(False) if self.objective.teacher else None

    def forward(self, clouds):
        views = [self.predictor(self.online(x)) for x in clouds]
        targets = None if self.teacher is None else [self.teacher(x + 0.1) for x in clouds]
        return self.objective(views, targets, self.given(clouds))[0]

    def given(self, clouds):
        """What the objective needs; the rows of one process are those of one cloud."""
        x = clouds[0]
        if self.objective.needs == "hidden":  # the two processes hide different numbers of points
            hidden = [(view[:, 4] > 0.3).to(x) for view in clouds]
            return Hidden(hidden, None if self.colorless else [view[:, :3] for view in clouds])
        if self.objective.needs == "motions":
            return Motions([moved(view) for view in clouds], x[:, :3, None].expand(-1, -1, 3))
        if self.objective.needs == "places":
            return Places(x[:, :3], torch.arange(len(x)) // B)
        return x[:, None, :3].expand(-1, self.objective.points, 3) if self.objective.needs == "clouds" else None


def moved(x):
    """(B, 4, 4) a motion for each row of (B, 5)."""
    motion = torch.eye(4, dtype=x.dtype).repeat(len(x), 1, 1)
    motion[:, :3, :3] = (1 + x[:, 4].square())[:, None, None] * rotation_about_axis(x[:, 3])
    motion[:, :3, 3] = x[:, :3]
    return motion


def train(name, rank=None):
    """Losses, gradients of every step and the final state, on all rows or on those of one process."""
    step = Step(name).double()
    model = step if rank is None else DistributedDataParallel(step)
    losses, grads = [], []
    for i in range(STEPS):
        clouds = draw(2, WORLD * B, 5, generator=generator("clouds", i))
        loss = model(clouds if rank is None else clouds[:, rank * B : (rank + 1) * B])
        step.zero_grad()
        loss.backward()
        losses.append(loss.detach())
        grads.append({key: p.grad.clone() for key, p in step.named_parameters() if p.grad is not None})
        with torch.no_grad():
            for p in step.parameters():
                p -= 0.1 * (0 if p.grad is None else p.grad)
    return torch.stack(losses), grads, step.state_dict()


def normalise(norm, x):
    """Result, gradients and running statistics of ``norm`` for the loss sum(y^3)."""
    x = x.clone().requires_grad_()
    y = norm(x)
    (y.double() ** 3).sum().backward()
    return {"y": y.detach(), "x_grad": x.grad, "weight_grad": norm.weight.grad, **norm.state_dict()}


def collectives(rank):
    """Results and gradients of the collective operations in one process."""
    x = draw(3, 2, generator=generator("x", rank)).T.requires_grad_()  # not contiguous
    weight = draw(WORLD * 2, 3, generator=generator("weight", rank))
    total, rows = sum_over_processes(x), gather(x)
    (sum_grad,) = torch.autograd.grad((total * weight[:2]).sum(), x)
    (gather_grad,) = torch.autograd.grad((rows * weight).sum(), x)
    labels = gather(torch.tensor([rank, 10 + rank]))
    return {"total": total, "rows": rows, "sum_grad": sum_grad, "gather_grad": gather_grad, "labels": labels}


def worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    x = draw(8, 3, generator=generator("norm"))
    own = x[:3] if rank == 0 else x[3:]  # different numbers of rows
    many = torch.ones(300, 1, dtype=torch.bfloat16)
    evaluated = BatchNorm(3).double().eval()
    results = {
        "world": world_size(),
        "collectives": {key: value.detach() for key, value in collectives(rank).items()},
        "norm": normalise(BatchNorm(3).double(), own),
        "alone": normalise(BatchNorm(3, sync=False).double(), own),
        "evaluated": normalise(evaluated, own),
        "bfloat16": normalise(BatchNorm(1), torch.cat([many, many * (3 + 4 * rank)])),
        "train": {name: train(name, rank) for name in NAMES},
    }
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The results of each of the two processes."""
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(worker, (str(folder),), WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_one_process_gets_its_input_back():
    x = torch.ones(2)
    assert world_size() == 1 and gather(x) is x and sum_over_processes(x) is x


def test_collectives(found):
    parts = [draw(3, 2, generator=generator("x", rank)).T for rank in range(WORLD)]
    weights = [draw(WORLD * 2, 3, generator=generator("weight", rank)) for rank in range(WORLD)]
    for rank in range(WORLD):
        got = found[rank]["collectives"]
        assert found[rank]["world"] == WORLD
        close(got["total"], sum(parts))
        close(got["rows"], torch.cat(parts))
        close(got["sum_grad"], sum(w[:2] for w in weights))
        close(got["gather_grad"], sum(weights)[2 * rank : 2 * rank + 2])
        assert got["labels"].tolist() == [0, 10, 1, 11]


def test_norm_of_two_processes_is_that_of_the_joined_rows(found):
    whole = normalise(nn.BatchNorm1d(3).double(), draw(8, 3, generator=generator("norm")))
    one, two = (f["norm"] for f in found)
    for key in ("y", "x_grad"):
        close(torch.cat([one[key], two[key]]), whole[key])
    close(one["weight_grad"] + two["weight_grad"], whole["weight_grad"])
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        close(one[key], whole[key])
        close(two[key], whole[key])


def test_norm_that_does_not_share(found):
    x = draw(8, 3, generator=generator("norm"))
    for rank, own in enumerate((x[:3], x[3:])):
        for key, training in (("alone", True), ("evaluated", False)):
            expected = normalise(nn.BatchNorm1d(3).double().train(training), own)
            for name, value in expected.items():
                close(found[rank][key][name], value)


def test_norm_counts_rows_that_bfloat16_cannot(found):
    """1200 rows: 600 ones, 300 threes, 300 sevens, so mean 3 and variance 6."""
    for rank in range(WORLD):
        got = found[rank]["bfloat16"]
        assert got["y"].dtype == torch.bfloat16
        torch.testing.assert_close(got["running_mean"], torch.tensor([0.3]))
        torch.testing.assert_close(got["running_var"], torch.tensor([0.9 + 0.1 * 6 * 1200 / 1199]))
        expected = (torch.tensor([1.0, 3 + 4 * rank]) - 3) / (6 + 1e-5) ** 0.5
        torch.testing.assert_close(got["y"][[0, -1], 0], expected.to(torch.bfloat16))


@pytest.mark.parametrize("name", NAMES)
def test_objective_of_two_processes_is_that_of_the_joined_batch(name, found):
    losses, grads, state = train(name)
    (losses0, grads0, state0), (losses1, grads1, state1) = (f["train"][name] for f in found)
    close((losses0 + losses1) / 2, losses)
    assert bool(losses.isfinite().all())
    for step in range(STEPS):
        assert grads[step].keys() == grads0[step].keys() and len(grads[step]) > 5
        for key, grad in grads[step].items():
            close(grads0[step][key], grad)
            close(grads1[step][key], grad)
    assert any(grad.abs().max() > 1e-3 for grad in grads[-1].values())
    for key, value in state.items():  # parameters, running statistics, queue and its pointer
        close(state0[key], value)
        close(state1[key], value)
