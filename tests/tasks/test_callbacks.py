"""What watches over a training."""

from types import SimpleNamespace

import pytest

from geo3d.errors import CollapseError
from geo3d.tasks.callbacks import CollapseWatch


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
