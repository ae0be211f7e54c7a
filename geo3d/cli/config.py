"""Turns command-line arguments into one plain dictionary, by Hydra's groups, defaults and overrides."""

import ast
from contextlib import suppress
from pathlib import Path
from typing import Any

import geo3d
from geo3d.cli.source import options
from geo3d.cli.words import quoted, split, value_of
from geo3d.errors import ConfigError, did_you_mean

MISSING = "???"
LAST = Path("checkpoints", "last.ckpt")
WORTH_KEEPING = (LAST, Path("encoder"), Path("metrics.json"))
FREE = ("out", "only", "minutes")
"""Options that may differ when a run is continued, because results do not depend on them."""


def config_dir() -> Path:
    """The folder of configurations, in the installed package or in the checkout.

    Raises:
        ConfigError: If the installation has no such folder.
    """
    package = Path(geo3d.__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "pretrain.yaml").is_file():
            return folder
    raise ConfigError(f"{package}: expected a folder configs in it or beside it, found none; install geo3d again")


def jobs() -> list[str]:
    """Names of the commands that run a job; each has a configuration file."""
    return sorted(path.stem for path in config_dir().glob("*.yaml"))


def choices(group: str) -> list[str]:
    """Names that may be given as ``group=NAME``; an empty list if there is no such group."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def defaults(command: str) -> dict[str, str | None]:
    """Group -> default choice, for the groups of a command."""
    entries = read(config_dir() / f"{command}.yaml").get("defaults", [])
    return {group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items()}


def read(path: Path) -> dict[str, Any]:
    """The content of one configuration file."""
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def override(word: str, groups: dict[str, str | None]) -> str | None:
    """One argument ``KEY=VALUE`` as a Hydra override; None if it changes nothing.

    Keys that no configuration file lists are passed on too, because the signatures have more options than the files.

    Raises:
        ConfigError: If the argument is not of that form, its value cannot be understood, or it names a choice that does
            not exist.
    """
    key, text = split(word)
    if key not in groups:
        value_of(word)
        return f"++{key}={quoted(text)}"
    if text == "null":
        return None if groups[key] is None else f"~{key}"
    if text not in choices(key):
        raise ConfigError(f"{word}: no such {key}; {did_you_mean(text, choices(key))}")
    return f"{key}={text}"


def compose(command: str, words: list[str]) -> dict[str, Any]:
    """The configuration of a command as plain dictionaries and lists, not yet checked against signatures.

    Args:
        command: Name of a configuration, for example ``pretrain``.
        words: The command-line arguments, each ``KEY=VALUE``.

    Raises:
        ConfigError: If an argument cannot be understood or a file cannot be read.
    """
    groups = defaults(command)
    # Hydra takes an option that is named like a folder of configurations for a choice among them.
    named = [word for word in words if split(word)[0] not in groups and (config_dir() / split(word)[0]).is_dir()]
    overrides = [each for word in words if word not in named and (each := override(word, groups)) is not None]
    import yaml
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            composed = OmegaConf.to_container(hydra_compose(command, overrides), resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines() if "hydra.cc" not in line)
        raise ConfigError(f"{command}: {reason}") from error
    assert isinstance(composed, dict)
    return {str(key): each for key, each in composed.items()} | {split(word)[0]: value_of(word) for word in named}


def record(command: str, config: dict[str, Any]) -> None:
    """Write the configuration into its run folder, ``out/config.yaml``.

    Raises:
        ConfigError: If the folder cannot be created, or holds results of a run with other settings, which must be
            neither continued nor overwritten.
    """
    import yaml

    from geo3d.io.files import replacing

    out = Path(config["out"])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out}: no folder can be made there ({error.strerror}); give another out=DIR") from error
    if (out / "config.yaml").exists() and any((out / made).exists() for made in WORTH_KEEPING):
        before, now = flat(recorded(out / "config.yaml")), flat(config)
        unsaid = unsaid_values(command, config)
        for key in sorted(key for key in {*before, *now} if not key.startswith("trainer.") and key not in FREE):
            there, here = (settings.get(key, unsaid.get(key, "not given")) for settings in (before, now))
            if there != here:
                difference = f"{key}={as_written(there)} there, {as_written(here)} here"
                raise ConfigError(f"out={out}: holds a run with other settings ({difference}); give another out=DIR")
    with replacing(out / "config.yaml") as draft:
        draft.write_text(f"# geo3d {command}\n{yaml.safe_dump(config, sort_keys=False)}", encoding="utf-8")


def recorded(path: Path) -> dict[str, Any]:
    """The configuration that an earlier run wrote.

    Raises:
        ConfigError: If the file is damaged.
    """
    import yaml

    try:
        config = read(path)
        reason = "" if isinstance(config, dict) else "it is not a mapping"
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = f"line {mark.line + 1} is not YAML" if mark else "it is not YAML"
    if reason:
        raise ConfigError(f"{path} is damaged ({reason}); delete it, or give another out=DIR")
    return config


def unsaid_values(command: str, config: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> default value, for the options whose default in the signature is a plain value."""
    takers = {"": [f"geo3d.jobs.{command}"]}
    for name, value in config.items():
        if isinstance(value, dict) and "_target_" in value:
            takers[f"{name}."] = [value["_target_"]] + ["geo3d.tasks.datamodule.DataModule"] * (name == "data")
    values = {}
    for prefix, targets in takers.items():
        for option in (each for target in targets for each in options(target)):
            with suppress(ValueError, SyntaxError):
                value = ast.literal_eval(option.default or "")
                values[f"{prefix}{option.name}"] = list(value) if isinstance(value, tuple) else value
    return values


def as_written(value: Any) -> str:
    """The value as a user would write it on the command line.

    Example:
        >>> as_written(None), as_written(True), as_written([64, 128]), as_written("z")
        ('null', 'true', '[64,128]', 'z')
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_written, value))}]"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same configuration in one level, with dotted keys.

    Example:
        >>> flat({"encoder": {"k": 20}, "seed": 0})
        {'encoder.k': 20, 'seed': 0}
    """
    rows: dict[str, Any] = {}
    for key, value in config.items():
        rows |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows
