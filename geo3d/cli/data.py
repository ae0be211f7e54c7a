"""``geo3d data list``, ``geo3d data check`` and ``geo3d data prepare``."""

from typing import Any

from geo3d.cli.config import choices, config_dir, read
from geo3d.cli.help import summary
from geo3d.errors import ConfigError, did_you_mean

USAGE = """usage: geo3d data list
       geo3d data check NAME [KEY=VALUE ...]
       geo3d data prepare NAME [KEY=VALUE ...] out=DIR

list    shows the data sets that data=NAME can name
check   reads every cloud of a data set (of the generated shapes the first 256) and reports what it finds, for example
        geo3d data check modelnet root=PATH up=y split=test
prepare writes every cloud of a data set into a store, from which training reads with little memory, for example
        geo3d data prepare scannet root=PATH out=DIR, then geo3d pretrain data=store data.root=DIR
        A run that was stopped goes on where it was. Beside the options of the data set it takes
          out=DIR                folder of the store
          workers=N              processes (default: one for each core); the files do not depend on it
          damaged=stop|skip      stop at a damaged cloud, or leave it out and say so (stop)
          split=train|test       only this split (default: all that there are)
          clouds_per_shard=N     clouds in one folder of arrays (default: about 64 MiB); a process holds these in memory
"""

PREPARE = ("workers", "damaged", "clouds_per_shard")
"""Options of ``build_store`` that the user may give, beside ``out``."""
SHOWN = 20
"""At most this many damaged clouds of a split are listed; ``store.json`` keeps more."""


def data(words: list[str]) -> None:
    """Run ``geo3d data`` with these arguments.

    Raises:
        ConfigError: If the arguments are none of ``list``, ``check NAME`` and ``prepare NAME`` with valid options.
        CloudError: If the data set cannot be used.
    """
    action, *rest = words or [""]
    if action == "list" and not rest:
        show([(name, summary(config_dir() / "data" / f"{name}.yaml")) for name in choices("data")])
    elif action == "check" and rest:
        check_data(rest[0], rest[1:])
    elif action == "prepare" and rest:
        prepare_data(rest[0], rest[1:])
    else:
        raise ConfigError(
            f"data {' '.join(words)}".strip()
            + ": expected data list, data check NAME root=PATH, or data prepare NAME root=PATH out=DIR"
        )


def known(action: str, name: str) -> dict[str, Any]:
    """The configuration of the data set ``name``.

    Raises:
        ConfigError: If there is none.
    """
    if name.startswith("data="):
        raise ConfigError(f"data {action} {name}: write geo3d data {action} {name.removeprefix('data=')}")
    if name not in choices("data"):
        raise ConfigError(f"data {action} {name}: no such data set; {did_you_mean(name, choices('data'))}")
    return read(config_dir() / "data" / f"{name}.yaml")


def check_data(name: str, words: list[str]) -> None:
    """Open the data set with these options, check it, and print what the check finds."""
    preset = known("check", name)
    from geo3d.checks import parameters
    from geo3d.cli.check import TARGET, locate, options
    from geo3d.data.check import check

    dataset_class, takes = locate(preset[TARGET], group="data"), parameters(locate(preset[TARGET], group="data"))
    keywords = options(words, takes, preset[TARGET], "root=PATH")
    rows: list[tuple[str, str]] = []
    try:
        rows.extend(check(dataset_class(**keywords)))
    finally:  # after an error, too, print the rows that came before it
        show(rows)


def prepare_data(name: str, words: list[str]) -> None:
    """Write the data set with these options as a store, and print what is in it."""
    preset = known("prepare", name)
    from geo3d.checks import parameters
    from geo3d.cli.check import TARGET, locate, options
    from geo3d.data.store import build_store
    from geo3d.show.progress import progress

    dataset_class = locate(preset[TARGET], group="data")
    own = {key: each for key, each in parameters(build_store).items() if key in PREPARE}
    own["out"] = parameters(build_store)["out"]
    keywords = options(words, parameters(dataset_class) | own, f"data prepare {name}", "out=DIR")
    if "split" in keywords:
        keywords["splits"] = [keywords.pop("split")]
    with progress("clouds") as watch:
        stored = build_store(dataset_class, watch=watch, **keywords)
    rows = []
    for split, each in stored["splits"].items():
        size = sum(shard["bytes"] for shard in each["shards"]) / 1e6
        rows.append(
            (split, f"{each['clouds']} clouds, {each['points']} points, {len(each['shards'])} shards, {size:.4g} MB")
        )
        if each["skipped"]:
            rows.append(("skipped", f"{each['skipped']} damaged cloud{'s' * (each['skipped'] > 1)} of {split}"))
        rows += [("skipped", message) for message in each["messages"][:SHOWN]]
    show(rows)


def show(rows: list[tuple[str, str]]) -> None:
    """Print two aligned columns."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    for name, text in rows:
        print(f"{name:<{width}}{text}")
