"""Makes the tables of ``configs/experiment/README.md`` anew: ``python -m studies WHAT [KEY=VALUE ...] [-- WORD ...]``.

parts     parts of generated objects with few labels, pretrained against from scratch
objects   real table-top scans (``root=PATH``): what each dense objective makes of the features of points
rooms     published S3DIS networks (``networks=[FILE,...]``) on generated rooms
poses     joints of generated hands from few labels, by the kind of pretraining
rivals    published networks for hand poses beside geo3d's (``checkpoint=DIR``: a pretrained encoder)
pareto    networks for hand poses (``networks=[DIR,...] names=[...]``): error against time, one hand at a time
sequences moving hands (``network=DIR``): the joints of each frame on its own, and after the filter
stream    a camera of 60 pictures a second before moving hands (``network=DIR``)
hands     joints of generated hands beside those of NYU's test frames (``truth=FILE``)

Run it in the folder tests. Runs of geo3d that are finished are not made again, and an interrupted one is continued.
Words after ``--`` go to every command of geo3d that the study runs, for example ``trainer=cpu data.num_points=1024``.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from geo3d.checks import Length, Range, parameters
from geo3d.cli.check import options
from geo3d.errors import ConfigError, Geo3dError, did_you_mean
from studies.hand_poses import hand_poses
from studies.hand_times import pareto, sequences, stream
from studies.objects import OBJECTIVES, objects
from studies.parts import parts
from studies.poses import Study, poses
from studies.rivals import rivals
from studies.rooms import rooms

NETWORK = ("encoder=pointnet2_scene", "data.num_points=4096", "data.batch_size=8")
SMALL = ("encoder=pointnet2", "encoder.num_samples=[128,32]", "encoder.num_neighbors=[32,32]", "encoder.width=0.5",
         "invariance=hand_box")  # fmt: skip
TUNED = ("lr=0.003",)
"""Chosen with test hands of no held-out kind, 200 labels, from scratch; 0.001, the default, was worse."""
PASSED = {"poses": ("trainer", "encoder", "invariance", "objective", "data.batch_size=", "data.num_points="),
          "rivals": ("trainer",)}  # fmt: skip
"""Beginnings of words that reach all that a study does; the other studies of hands take none."""
OF_HANDS = ("data=hands", "data.normalize=oriented_box", "data.num_points=1024", "data.batch_size=32")
Steps = Annotated[int, Range(1, 1_000_000)]


def of_parts(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    fractions: Sequence[Annotated[float, Range(0, 1, above=True)]] = (0.01, 0.05, 1.0),
    steps: Steps = 1000,
    tuning: Steps = 500,
    pretraining: Sequence[str] = ("objective=point_info_nce", "objective.temperature=0.1", "invariance=scene_so3"),
    out: str = "runs/parts",
) -> Callable[[Sequence[str]], str]:
    """The study of parts, see ``studies.parts``."""
    return lambda words: parts(
        Path(out).absolute(), seeds, ("data=shapes", *NETWORK, *words), fractions, steps, tuning, pretraining
    )


def of_objects(
    *,
    root: str,
    seeds: Sequence[int] = (0, 1, 2),
    steps: Steps = 1000,
    chosen: Sequence[str] = (*OBJECTIVES, "point_info_nce:rooms", "point_info_nce:both"),
    out: str = "runs/objects",
) -> Callable[[Sequence[str]], str]:
    """The study of real scans, see ``studies.objects``."""
    of_scans = ("invariance=scene_so3", "data.normalize=center")
    return lambda words: objects(
        Path(out).absolute(), seeds, str(Path(root).absolute()), (*NETWORK, *of_scans, *words), steps, chosen
    )


def of_rooms(*, networks: Sequence[str], size: Annotated[int, Range(1, 1000)] = 8) -> Callable[[Sequence[str]], str]:
    """The study of published networks, see ``studies.rooms``."""
    return lambda words: rooms(networks, size)


def of_poses(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    labels: Sequence[Annotated[int, Range(2, 1_000_000)]] = (200, 2000, 20000),
    steps: Steps = 1500,
    tuning: Steps = 1500,
    unlabelled: Annotated[int, Range(2, 10_000_000)] = 20_000,
    tests: Annotated[int, Range(2, 1_000_000)] = 1000,
    out: str = "runs/poses",
) -> Callable[[Sequence[str]], str]:
    """The study of hand poses, see ``studies.poses``."""

    def table(words: Sequence[str]) -> str:
        of_encoder = [word for word in words if word.startswith(("encoder", "invariance", "objective"))]
        shared = (*OF_HANDS, *(word for word in words if word not in of_encoder))
        study = Study(Path(out).absolute(), shared, (*SMALL, *of_encoder), TUNED, steps, tuning, unlabelled, tests)
        return poses(study, seeds, labels)

    return table


def of_rivals(
    *,
    checkpoint: str,
    labels: Annotated[int, Range(64, 1_000_000)] = 2000,
    steps: Steps = 1500,
    tests: Annotated[int, Range(2, 1_000_000)] = 1000,
    out: str = "runs/rivals",
) -> Callable[[Sequence[str]], str]:
    """The study of published networks, see ``studies.rivals``."""
    encoder = Path(checkpoint).absolute()
    return lambda words: rivals(Path(out).absolute(), encoder, (*OF_HANDS, *TUNED, *words), labels, steps, tests)


def of_pareto(
    *,
    networks: Annotated[Sequence[str], Length(1, 100)],
    names: Annotated[Sequence[str], Length(1, 100)],
    tests: Annotated[int, Range(1, 100_000)] = 500,
    picture: str = "runs/pareto.png",
) -> Callable[[Sequence[str]], str]:
    """The study of error against time, see ``studies.hand_times``."""
    if len(networks) != len(names):
        raise ConfigError(f"names: expected one for each of the {len(networks)} networks, found {len(names)}")
    return lambda words: pareto(names, [Path(network) for network in networks], tests, Path(picture))


def of_sequences(*, network: str, clips: Annotated[int, Range(1, 100_000)] = 20) -> Callable[[Sequence[str]], str]:
    """The study of moving hands, see ``studies.hand_times``."""
    return lambda words: sequences(Path(network), clips)


def of_stream(
    *,
    network: str,
    seconds: Annotated[float, Range(0.1, 600)] = 60.0,
    budget: Annotated[float, Range(0, 1e6, above=True)] = 5.0,
) -> Callable[[Sequence[str]], str]:
    """The study of a steady camera, see ``studies.hand_times``."""
    return lambda words: stream(Path(network), seconds, budget)


def of_hands(
    *, truth: str, number: Annotated[int, Range(2, 100_000)] = 2000, picture: str = "runs/hands.png"
) -> Callable[[Sequence[str]], str]:
    """The study of poses, see ``studies.hand_poses``."""
    return lambda words: hand_poses(Path(truth), Path(picture), number)


STUDIES: dict[str, Any] = {
    "parts": of_parts, "objects": of_objects, "rooms": of_rooms, "poses": of_poses, "rivals": of_rivals,
    "pareto": of_pareto, "sequences": of_sequences, "stream": of_stream, "hands": of_hands,
}  # fmt: skip


def refused(name: str, words: Sequence[str]) -> None:
    """Refuse words that would not reach all that a study does.

    Raises:
        ConfigError: If there is one.
    """
    if name in ("parts", "objects"):
        return
    allowed = PASSED.get(name, ())
    for word in words:
        if not word.startswith(allowed):
            known = f"after -- it takes words beginning with {', '.join(allowed)}" if allowed else "it runs no command"
            raise ConfigError(f"{word}: studies {name} has no use for it; {known}")


def main(words: list[str]) -> None:
    """Run one study and print its table.

    Raises:
        ConfigError: If a word is unknown, or a run fails.
    """
    name, *rest = words or ["--help"]
    if name in ("--help", "-h"):
        print(__doc__)
        return
    if name not in STUDIES:
        raise ConfigError(f"{name}: no such study; {did_you_mean(name, list(STUDIES))}")
    own, further = (rest[: rest.index("--")], rest[rest.index("--") + 1 :]) if "--" in rest else (rest, [])
    study = STUDIES[name]
    refused(name, further)
    print(study(**options(own, parameters(study), f"studies {name}", "out=runs/study"))(further))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Geo3dError as error:
        raise SystemExit(f"studies: {error}") from None
