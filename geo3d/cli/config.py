"""From words on the command line to one plain dictionary: groups, defaults and overrides, composed by Hydra."""

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
"""Options that say where and how much is done, not what comes out of it."""


def config_dir() -> Path:
    """The folder of configurations: the installed package's own, or the checkout's.

    Raises:
        ConfigError: If the installation has none.
    """
    package = Path(geo3d.__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "pretrain.yaml").is_file():
            return folder
    raise ConfigError(f"{package}: expected the folder configs in it or beside it; install geo3d again")


def jobs() -> list[str]:
    """Names of the commands that have a configuration of their own."""
    return sorted(path.stem for path in config_dir().glob("*.yaml"))


def choices(group: str) -> list[str]:
    """Names that may be given as ``group=NAME``; none when there is no such group."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def defaults(command: str) -> dict[str, str | None]:
    """The groups of a command and the name chosen in each when nothing is said."""
    entries = read(config_dir() / f"{command}.yaml").get("defaults", [])
    return {group: name for entry in entries if isinstance(entry, dict) for group, name in entry.items()}


def read(path: Path) -> dict[str, Any]:
    """The content of one configuration file."""
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def override(word: str, groups: dict[str, str | None]) -> str | None:
    """One word ``KEY=VALUE`` in Hydra's grammar; None if it changes nothing.

    A key that no file lists may still be given, for the check against the signatures knows more than the files.

    Raises:
        ConfigError: If the word is not of that form, its value cannot be understood, or it names a choice that does
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
    """The whole configuration of a command as plain dictionaries and lists, before any check against signatures.

    Args:
        command: Name of a configuration, for example ``pretrain``.
        words: ``KEY=VALUE`` each, as on the command line.

    Raises:
        ConfigError: If a word cannot be understood or a file cannot be read.
    """
    groups = defaults(command)
    overrides = [each for word in words if (each := override(word, groups)) is not None]
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
        said = " ".join(line.strip() for line in str(error).splitlines() if "hydra.cc" not in line)
        raise ConfigError(f"{command}: {said}") from error
    assert isinstance(composed, dict)
    return {str(key): each for key, each in composed.items()}


def record(command: str, config: dict[str, Any]) -> None:
    """Write the configuration into its run folder, ``out/config.yaml``.

    Raises:
        ConfigError: If the folder cannot be made, or holds what a run with other settings has made, which must be
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
                found = f"{key}={as_written(there)} there, {as_written(here)} here"
                raise ConfigError(f"out={out}: holds a run with other settings ({found}); give another out=DIR")
    with replacing(out / "config.yaml") as draft:
        draft.write_text(f"# geo3d {command}\n{yaml.safe_dump(config, sort_keys=False)}", encoding="utf-8")


def recorded(path: Path) -> dict[str, Any]:
    """The configuration that an earlier run wrote.

    Raises:
        ConfigError: If the file is damaged.
    """
    import yaml

    try:
        found = read(path)
        reason = "" if isinstance(found, dict) else "it is no mapping"
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = f"line {mark.line + 1} is no YAML" if mark else "it is no YAML"
    if reason:
        raise ConfigError(f"{path} is damaged ({reason}); delete it, or give another out=DIR")
    return found


def unsaid_values(command: str, config: dict[str, Any]) -> dict[str, Any]:
    """The value that the signatures give to each option, by dotted key, where it is a plain one."""
    takers = {"": [f"geo3d.jobs.{command}"]}
    for name, value in config.items():
        if isinstance(value, dict) and "_target_" in value:
            takers[f"{name}."] = [value["_target_"]] + ["geo3d.tasks.datamodule.DataModule"] * (name == "data")
    found = {}
    for prefix, targets in takers.items():
        for option in (each for target in targets for each in options(target)):
            with suppress(ValueError, SyntaxError):
                value = ast.literal_eval(option.default or "")
                found[f"{prefix}{option.name}"] = list(value) if isinstance(value, tuple) else value
    return found


def as_written(value: Any) -> str:
    """A value as on the command line.

    Example:
        >>> as_written(None), as_written(True), as_written([64, 128]), as_written("z")
        ('null', 'true', '[64,128]', 'z')
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_written, value))}]"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same settings with dotted keys.

    Example:
        >>> flat({"encoder": {"k": 20}, "seed": 0})
        {'encoder.k': 20, 'seed': 0}
    """
    rows: dict[str, Any] = {}
    for key, value in config.items():
        rows |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows
