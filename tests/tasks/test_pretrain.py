"""Pretraining: continuing exactly, collapse, averages, schedule."""

import csv
import json
import math
from functools import partial

import pytest
import torch
from support.blobs import Blobs

from geo3d import objectives
from geo3d.checkpoint import load_encoder, open_checkpoint
from geo3d.compress import adapt
from geo3d.decoders import FeaturePropagation, GlobalConcat, Upcast
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import CheckpointError, CollapseError, ConfigError
from geo3d.invariance import SO3, Compose, Jitter, Translation
from geo3d.invariance.views import Views
from geo3d.jobs import pretrain
from geo3d.seeds import seeded
from geo3d.tasks import pretrain as pretraining
from geo3d.tasks.average import average_of, update_average
from geo3d.tasks.callbacks import CollapseWatch
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.given import compared_rows
from geo3d.tasks.pretrain import Pretrain
from geo3d.testing import tiny_batch

OBJECTIVES = {
    "InfoNCE": lambda: objectives.InfoNCE(0.2),
    "MoCo": lambda: objectives.MoCo(dim=8, queue_size=20, temperature=0.2),
    "BYOL": lambda: objectives.BYOL(),
    "VICReg": lambda: objectives.VICReg(),
    "BarlowTwins": lambda: objectives.BarlowTwins(),
    "PointInfoNCE": lambda: objectives.PointInfoNCE(pairs=40, temperature=0.2),
    "PartitionedInfoNCE": lambda: objectives.PartitionedInfoNCE(pairs=40, temperature=0.2, radius=0.3),
    "Completion": lambda: objectives.Completion(dim=8, points=12, hidden=16),
    "PointPrototypes": lambda: objectives.PointPrototypes(dim=8, prototypes=6, pairs=40),
    "EquivariantInfoNCE": lambda: objectives.EquivariantInfoNCE(0.2, follows=("SO3",)),
    "MaskedSceneContrast": lambda: objectives.MaskedSceneContrast(dim=8, pairs=40, cell=0.2),
}


def run(out, name="InfoNCE", epochs=4, **keywords):
    with seeded(0, "encoder"):
        inputs = ("masked",) if name == "MaskedSceneContrast" else ()
        encoder = DGCNN(k=4, channels=(8, 8), embedding=16, inputs=inputs)
    data = DataModule(Blobs, batch_size=8, num_points=16, holdout=0.2)
    trainer = {"max_epochs": epochs, "progress": False, "accelerator": "cpu"} | keywords.pop("trainer", {})
    return pretrain(
        encoder,
        OBJECTIVES[name](),
        Compose([Jitter(0.01, 0.05), SO3()]),
        data,
        out=out,
        trainer=trainer,
        **({"projector": (16, 8)} | keywords),
    )


class Killed(BaseException):
    """Stands for SIGKILL: nothing of geo3d or Lightning catches it."""


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_killed_run_continues_to_the_same_bits(name, tmp_path, monkeypatch):
    straight = run(tmp_path / "straight", name, average=0.9, monitor_every=2)
    count = 0
    watch = CollapseWatch.on_train_batch_end

    def kill_in_third_epoch(self, *arguments):
        nonlocal count
        count += 1
        watch(self, *arguments)
        if count == 6:  # 2 batches an epoch: in the middle of the third
            raise Killed

    monkeypatch.setattr(CollapseWatch, "on_train_batch_end", kill_in_third_epoch)
    with pytest.raises(Killed):
        run(tmp_path / "killed", name, average=0.9, monitor_every=2)
    monkeypatch.setattr(CollapseWatch, "on_train_batch_end", watch)
    continued = run(tmp_path / "killed", name, average=0.9, monitor_every=2)

    a, b = (load_encoder(tmp_path / folder).state_dict() for folder in ("straight", "killed"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    timed = {"seconds", "clouds_per_s", "epoch_seconds"}
    assert {k: v for k, v in straight.items() if k not in timed} == {
        k: v for k, v in continued.items() if k not in timed
    }
    tables = [list(csv.DictReader((tmp_path / f / "metrics.csv").open())) for f in ("straight", "killed")]
    for row in tables[0] + tables[1]:
        for key in timed & row.keys():
            row.pop(key)
    assert tables[0] == tables[1] and len(tables[0]) == 4


def test_the_run_folder_holds_what_was_run(tmp_path):
    metrics = run(tmp_path / "run", epochs=2)
    out = tmp_path / "run"
    assert json.loads((out / "metrics.json").read_text()) == metrics
    for name in ("versions.json", "manifest.json", "metrics.csv", "training.png", "checkpoints/last.ckpt"):
        assert (out / name).stat().st_size > 0, name
    assert {"loss", "std", "rank", "knn", "clouds_per_s"} <= metrics.keys()
    assert not [path for path in out.rglob("*") if path.name.endswith(".part")]


def test_other_data_in_the_same_folder_is_refused(tmp_path):
    run(tmp_path / "run", epochs=1)
    with pytest.raises(ConfigError, match="holds a run on other data"), seeded(0):
        pretrain(
            DGCNN(k=4, channels=(8,), embedding=8),
            objectives.InfoNCE(),
            SO3(),
            DataModule(Blobs, size=12),
            out=tmp_path / "run",
            trainer={"max_epochs": 1},
        )


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    run(tmp_path / "run", epochs=1)
    with pytest.raises(ConfigError, match="with other settings"):
        run(tmp_path / "run", "VICReg", epochs=1)
    with pytest.raises(ConfigError, match="with other settings"):
        run(tmp_path / "run", epochs=1, lr=0.5)


def test_collapse_ends_the_run_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(CollapseWatch.__init__, "__defaults__", (2.0, 1.5, 3))  # nothing is spread that evenly
    with pytest.raises(CollapseError, match="collapsed.*try a lower lr"):
        run(tmp_path / "run")


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    def far_too_large(optimizer, factor):
        for group in optimizer.param_groups:
            group["lr"] = 1e30

    monkeypatch.setattr("geo3d.tasks.pretrain.set_learning_rates", far_too_large)
    with pytest.raises(CollapseError, match="loss is nan|features, and so the loss, are not finite"):
        run(tmp_path / "run", trainer={"gradient_clip_val": 0.0})


def test_every_step_draws_views_of_its_own(tmp_path, monkeypatch):
    drawn = []
    make = Views.__call__

    def recorded(self, batch, *key):
        views = make(self, batch, *key)
        drawn.extend(view.element[1] for view in views)  # the rotations
        return views

    monkeypatch.setattr(Views, "__call__", recorded)
    run(tmp_path / "run", epochs=4)
    rotations = torch.cat([element.flatten(1) for element in drawn])
    assert len(drawn) == 2 * 2 * 4 and len(rotations) == 8 * len(drawn)  # views, batches an epoch, epochs; clouds
    assert torch.pdist(rotations).min() > 1e-3  # no cloud of any step is turned as another
    assert rotations.mean(0).abs().max() < 6 * (1 / 3 / len(rotations)) ** 0.5


def test_views_are_keyed_by_step_and_process(monkeypatch):
    keys = set()

    class AskedError(Exception):
        pass

    def views(batch, *key):
        keys.add(key)
        raise AskedError

    with seeded(0):
        task = Pretrain(DGCNN(k=4, channels=(8,), embedding=8), objectives.InfoNCE(), Views(SO3()), projector=(8, 8))
    monkeypatch.setattr(task, "views", views)
    for step, rank in ((0, 0), (1, 0), (0, 1), (1, 1)):
        monkeypatch.setattr(Pretrain, "global_step", step)
        monkeypatch.setattr(Pretrain, "global_rank", rank)
        with pytest.raises(AskedError):
            task.training_step(None, 0)
    assert len(keys) == 4


def test_the_teachers_momentum_rises_to_one_along_a_cosine(tmp_path, monkeypatch):
    momenta = []

    def recorded(average, module, momentum):
        momenta.append(momentum)
        update_average(average, module, momentum)

    monkeypatch.setattr(pretraining, "update_average", recorded)
    run(tmp_path / "run", "BYOL", epochs=4, ema=0.9)
    shares = [(step + 1) / 8 for step in range(8)]
    assert momenta == pytest.approx([1 - 0.1 * math.cos(math.pi * share / 2) ** 2 for share in shares])
    assert momenta[-1] == 1 and momenta == sorted(momenta)


def test_what_is_published_has_the_statistics_of_the_trained_encoder(tmp_path, monkeypatch):
    tasks = []
    publish = Pretrain.published
    monkeypatch.setattr(Pretrain, "published", lambda self: tasks.append(self) or publish(self))
    run(tmp_path / "run", average=0.9)
    published = load_encoder(tmp_path / "run")
    trained = dict(tasks[-1].encoder.named_buffers())
    fresh = dict(DGCNN(k=4, channels=(8, 8), embedding=16).named_buffers())
    for name, value in published.named_buffers():
        assert torch.equal(value, trained[name]) and not torch.equal(value, fresh[name]), name
    weights = zip(published.parameters(), tasks[-1].encoder.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in weights)  # those are averages


def test_max_time_ends_the_run_and_marks_it(tmp_path):
    metrics = run(tmp_path / "run", trainer={"max_epochs": None, "max_time": "00:00:00:02"})
    assert metrics["epochs"] >= 1 and metrics["reproducible"] is False


def test_bf16_trains(tmp_path):
    metrics = run(tmp_path / "run", epochs=1, trainer={"precision": "bf16-mixed"})
    assert metrics["loss"] > 0


def test_a_run_without_an_end_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="max_epochs"):
        run(tmp_path / "run", trainer={"max_epochs": None})


def test_averages_follow_their_formula():
    online = torch.nn.Linear(2, 2)
    average = average_of(online)
    start = average.weight.clone()
    with torch.no_grad():
        online.weight.add_(1.0)
    update_average(average, online, 0.75)
    assert torch.allclose(average.weight, 0.75 * start + 0.25 * online.weight)
    assert not any(p.requires_grad for p in average.parameters())


@pytest.mark.parametrize(
    "keywords",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"warmup": 2.0},
        {"ema": 5.0},
        {"average": -0.1},
        {"trainer": {"max_epochs": -1}},
        {"trainer": {"threads": 0}},
        {"trainer": {"accelerator": "tpuu"}},
        {"trainer": {"gradient_clip_val": -1.0}},
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(keywords, tmp_path):
    name = next(iter(keywords.get("trainer", keywords)))
    with pytest.raises(ConfigError, match=name):
        run(tmp_path / "run", **keywords)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_failed_first_try_does_not_stand_in_the_way(tmp_path):
    with pytest.raises(ConfigError, match="objective.dim=8, but .* 12"):
        run(tmp_path / "run", "MoCo", projector=(16, 12))
    with pytest.raises(ConfigError, match="max_epochs"):
        run(tmp_path / "run", "MoCo", trainer={"max_epochs": None})
    run(tmp_path / "run", "InfoNCE", epochs=1)


def test_damaged_run_folders_are_named(tmp_path):
    run(tmp_path / "run", epochs=1)
    with pytest.warns(UserWarning, match="holds a finished run"):
        run(tmp_path / "run", epochs=1)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="last.ckpt: damaged"):
        run(tmp_path / "run", epochs=1)
    (tmp_path / "run" / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match="manifest.json: damaged"):
        run(tmp_path / "run", epochs=1)


class Follower(objectives.InfoNCE):
    """Forgets jitter and follows rotations."""

    invariant_to = ("Jitter",)
    equivariant_to = ("SO3",)


@pytest.mark.parametrize(
    ("invariance", "says"),
    [
        (Compose([Jitter(0.01, 0.05), SO3()]), None),
        (Compose([Jitter(0.01, 0.05), Compose([SO3()])]), None),
        (Jitter(0.01, 0.05), "Follower needs views that differ by SO3; the invariance draws Jitter"),
        (SO3(), "Follower needs views that differ by Jitter; the invariance draws SO3"),
        (Compose([]), "needs views that differ by Jitter, SO3; the invariance draws nothing"),
        (
            Compose([Jitter(0.01, 0.05), SO3(), Translation(0.1)]),
            "Follower is not invariant or equivariant to Translation",
        ),
    ],
)
def test_objectives_are_held_to_what_they_declare(invariance, says):
    encoder = DGCNN(k=4, channels=(8,), embedding=16)
    if says is None:
        Pretrain(encoder, Follower(), Views(invariance))
        return
    with pytest.raises(ConfigError, match=says):
        Pretrain(encoder, Follower(), Views(invariance))


@pytest.mark.parametrize("decoder", [None, Upcast, GlobalConcat, partial(FeaturePropagation, channels=((8,), (8,)))])
def test_points_are_taught_through_any_decoder(decoder, tmp_path):
    with seeded(0, "encoder"):
        encoder = PointNet2(num_samples=(8,), radii=(0.5,), num_neighbors=(6,), channels=((8, 8), (8, 16)))
    data = DataModule(Blobs, batch_size=8, num_points=16, holdout=0.0)
    trainer = {"max_epochs": 6, "progress": False, "accelerator": "cpu"}
    objective = objectives.PointInfoNCE(pairs=64, temperature=0.2)
    metrics = pretrain(
        encoder, objective, Jitter(0.01, 0.05), data, out=tmp_path, decoder=decoder, projector=(16, 8), trainer=trainer
    )
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "metrics.csv").open())]
    assert losses[-1] < losses[0] - 0.1 and math.isfinite(metrics["positive_similarity"])


def points_of(encoder, out, **options):
    data = DataModule(Blobs, batch_size=8, num_points=16, holdout=0.0)
    trainer = {"max_steps": 2, "progress": False, "accelerator": "cpu"}
    objective = objectives.PointInfoNCE(pairs=64)
    pretrain(encoder, objective, Jitter(0.01, 0.05), data, out=out, projector=(16, 8), trainer=trainer, **options)
    found = open_checkpoint(out)
    batch = tiny_batch(num_points=16)
    assert len(found.decoder(found.encoder(batch))) == len(batch.pos)
    return found


def test_compression_and_decoders(tmp_path):
    with pytest.raises(ConfigError, match="recipe.prune: takes channels out of the encoder at the end"):
        points_of(DGCNN(k=4, channels=(8,), embedding=16), tmp_path / "a", recipe={"prune": {"kept": 0.5}})
    assert not (tmp_path / "a").exists()
    points_of(
        DGCNN(k=4, channels=(8,), embedding=16), tmp_path / "b", recipe={"prune": {"kept": 0.5, "group": "weight"}}
    )
    keep_all = {"widths": [1], "depths": [1], "ks": [4], "points": [32]}
    points_of(DGCNN(k=4, channels=(8,), embedding=16), tmp_path / "c", recipe={"adapt": keep_all})


def test_the_published_decoder_is_averaged_like_the_encoder():
    encoder = PointNet2(num_samples=(8,), radii=(0.5,), num_neighbors=(6,), channels=((8, 8), (8, 16)))
    decoder = partial(FeaturePropagation, channels=((8,), (8,)))
    objective = objectives.PointInfoNCE(pairs=4)
    task = Pretrain(encoder, objective, Views(SO3()), average=0.9, decoder=decoder)
    before = [p.clone() for p in task.decoder.parameters()]
    with torch.no_grad():
        for parameter in (*task.decoder.parameters(), *task.encoder.parameters()):
            parameter.add_(1)
    task._move_averages(0.75)
    published, rows = task.published()
    assert published is task.averaged and rows is task.averaged_decoder
    assert all(torch.allclose(p, b + 0.25) for p, b in zip(rows.parameters(), before, strict=True))


def test_declarations_that_mean_nothing_are_named():
    encoder, views = DGCNN(k=4, channels=(8,), embedding=16), Views(SO3())
    unknown = type("Turned", (objectives.InfoNCE,), {"invariant_to": ("SO4",)})
    with pytest.raises(ConfigError, match="Turned declares SO4, which geo3d.invariance does not have; did you"):
        Pretrain(encoder, unknown(), views)
    with pytest.raises(ConfigError, match="Pointed compares points and needs an attribute pairs"):
        Pretrain(encoder, type("Pointed", (objectives.InfoNCE,), {"on": "point"})(), views)


def test_a_decoder_for_clouds_or_for_missing_points_is_refused():
    encoder = DGCNN(k=4, channels=(8,), embedding=16)
    with pytest.raises(ConfigError, match="decoder: InfoNCE compares clouds"):
        Pretrain(encoder, objectives.InfoNCE(), Views(SO3()), decoder=Upcast)
    adaptive = adapt(encoder, widths=(1,), depths=(1,), ks=(4,), points=(8,))
    batch = tiny_batch(num_points=16)
    thin = adaptive(batch)
    with pytest.raises(ConfigError, match="the encoder leaves points out"):
        compared_rows(thin, Upcast(8), torch.arange(4), len(batch.pos))
    with pytest.raises(ConfigError, match="PointInfoNCE compares points of two views; found 3"):
        Pretrain(encoder, objectives.PointInfoNCE(pairs=4), Views(SO3(), num_views=3))
    with pytest.raises(ConfigError, match=r"the encoder must be told which ones; give encoder.inputs=\[masked\] or"):
        Pretrain(encoder, objectives.MaskedSceneContrast(), Views(SO3()))
