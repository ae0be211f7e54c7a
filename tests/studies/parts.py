"""Parts of generated objects with few labels: pretrained against from scratch."""

from collections.abc import Sequence
from pathlib import Path

from studies.runs import metrics, spread

SCORES = ("instance_miou", "class_miou")


def parts(
    out: Path,
    seeds: Sequence[int],
    words: Sequence[str],
    fractions: Sequence[float],
    steps: int,
    tuning: int,
    pretraining: Sequence[str],
) -> str:
    """A table: mIoU of both, and the paired difference with its standard error, for each fraction of the labels.

    Both see the same labelled clouds in the same order, in random poses; they differ in their first weights alone.

    Args:
        out: Folder of all runs.
        seeds: One pretraining run and its fine-tunings for each.
        words: Words for all commands: data and encoder.
        fractions: Fractions of the training labels.
        steps: Steps of pretraining.
        tuning: Steps of fine-tuning.
        pretraining: Words for pretraining alone: objective and invariance.
    """
    lines = ["| labels | score | from scratch | pretrained | difference |", "|---|---|---|---|---|"]
    for fraction in fractions:
        runs = [_pair(out, seed, words, fraction, steps, tuning, pretraining) for seed in seeds]
        for score in SCORES:
            scratch, pretrained = ([100 * pair[which][score] for pair in runs] for which in (0, 1))
            apart = [b - a for a, b in zip(scratch, pretrained, strict=True)]
            cells = f"{fraction:.0%}", score, spread(scratch), spread(pretrained), spread(apart)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _pair(
    out: Path,
    seed: int,
    words: Sequence[str],
    fraction: float,
    steps: int,
    tuning: int,
    pretraining: Sequence[str],
) -> tuple[dict[str, float], dict[str, float]]:
    """Test figures from scratch and pretrained."""
    run, own = out / f"pretrained-{seed}", f"seed={seed}"
    encoders = [word for word in words if word.startswith("encoder")]
    metrics("pretrain", run, *words, *pretraining, f"trainer.max_steps={steps}", own)
    common = ["task=segment", f"checkpoint={run}/encoder", *(word for word in words if word not in encoders),
              "data.rotation=so3", f"data.label_fraction={fraction}", f"trainer.max_steps={tuning}", own]  # fmt: skip
    both = [("scratch", ["from_scratch=true"]), ("tuned", [])]
    scratch, tuned = (
        metrics("finetune", out / f"{name}-{fraction}-{seed}", *common, *extra)["test"] for name, extra in both
    )
    return scratch, tuned
