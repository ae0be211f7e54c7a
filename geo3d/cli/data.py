"""``geo3d data list`` and ``geo3d data check``."""

from geo3d.cli.config import choices, config_dir, read
from geo3d.cli.help import summary
from geo3d.errors import ConfigError, did_you_mean

USAGE = """usage: geo3d data list
       geo3d data check NAME [KEY=VALUE ...]

list    shows the data sets that data=NAME can name
check   reads every cloud of a data set (of the generated shapes the first 256) and reports what it finds, for example
        geo3d data check modelnet root=PATH up=y split=test"""


def data(words: list[str]) -> None:
    """Run ``geo3d data`` with these arguments.

    Raises:
        ConfigError: If the arguments are neither ``list`` nor ``check NAME`` with valid options.
        CloudError: If the data set cannot be used.
    """
    action, *rest = words or [""]
    if action == "list" and not rest:
        show([(name, summary(config_dir() / "data" / f"{name}.yaml")) for name in choices("data")])
    elif action == "check" and rest:
        check_data(rest[0], rest[1:])
    else:
        raise ConfigError(f"data {' '.join(words)}".strip() + ": expected data list, or data check NAME root=PATH")


def check_data(name: str, words: list[str]) -> None:
    """Open the data set with these options, check it, and print what the check finds."""
    if name.startswith("data="):
        raise ConfigError(f"data check {name}: write geo3d data check {name.removeprefix('data=')}")
    if name not in choices("data"):
        raise ConfigError(f"data check {name}: no such data set; {did_you_mean(name, choices('data'))}")
    from geo3d.checks import parameters
    from geo3d.cli.check import TARGET, locate, options
    from geo3d.data.check import check

    preset = read(config_dir() / "data" / f"{name}.yaml")
    dataset_class, takes = locate(preset[TARGET], group="data"), parameters(locate(preset[TARGET], group="data"))
    keywords = options(words, takes, preset[TARGET], "root=PATH")
    rows: list[tuple[str, str]] = []
    try:
        rows.extend(check(dataset_class(**keywords)))
    finally:  # after an error, too, print the rows that came before it
        show(rows)


def show(rows: list[tuple[str, str]]) -> None:
    """Print two aligned columns."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    for name, text in rows:
        print(f"{name:<{width}}{text}")
