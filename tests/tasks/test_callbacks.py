"""What watches over a training."""

from types import SimpleNamespace

import pytest
import torch

from geo3d.errors import CollapseError
from geo3d.tasks.callbacks import Checkpoint, CollapseWatch, Throughput


def after(watch: CollapseWatch, *steps: tuple[float, float]) -> None:
    for i, (std, rank) in enumerate(steps):
        last = {"std": std, "rank": rank}
        watch.on_train_batch_end(SimpleNamespace(global_step=i), SimpleNamespace(last=last), None, None, i)


HEALTHY, SAME, FLAT = (0.5, 4.0), (0.01, 4.0), (0.5, 1.2)


def test_only_steps_in_a_row_end_a_run():
    watch = CollapseWatch(min_std=0.02, min_rank=1.5, patience=3)
    after(watch, SAME, FLAT, HEALTHY, FLAT, SAME, HEALTHY)
    assert watch.strikes == 0
    after(watch, SAME, FLAT)
    with pytest.raises(CollapseError, match=r"step 0: the embeddings have collapsed .* for 3 steps"):
        after(watch, SAME)


def test_a_checkpoint_notes_that_training_began(tmp_path):
    checkpoint = Checkpoint(tmp_path / "last.ckpt")
    assert not checkpoint.begun
    checkpoint.on_train_start(None, None)
    assert checkpoint.begun


@pytest.mark.parametrize(("epochs", "shown"), [(6, "epoch 1/6"), (1, "epoch 1/1"), (-1, "epoch 1"), (None, "epoch 1")])
def test_an_epoch_is_a_line(epochs, shown, capsys):
    metrics = {"loss": torch.tensor(0.5), "epoch_seconds": torch.tensor(2.0)}
    trainer = SimpleNamespace(
        is_global_zero=True, callback_metrics=metrics, max_epochs=epochs, current_epoch=0, global_step=7
    )
    Throughput(lines=True).on_train_epoch_end(trainer, None)
    assert capsys.readouterr().err == f"{shown}  step 7  loss 0.5\n"
    Throughput(lines=False).on_train_epoch_end(trainer, None)
    assert not capsys.readouterr().err
