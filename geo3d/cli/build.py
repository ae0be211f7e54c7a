"""Objects from a checked configuration."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args, get_origin

from geo3d.checks import parameters
from geo3d.cli.check import locate
from geo3d.errors import ConfigError
from geo3d.seeds import seeded


def build(config: dict[str, Any]) -> dict[str, Any]:
    """The keywords for a job: every ``_target_`` built, ``data`` put into a DataModule, all else as it is.

    Each object is built under a seed of its own, ``(seed, name)``, so that changing one changes no other's weights.

    Raises:
        ConfigError: If a constructor refuses what it is given.
    """
    seed = config.get("seed", 0)
    keywords = {}
    for name, value in config.items():
        try:
            with seeded(seed, name):
                if name == "data" and value is not None:
                    keywords[name] = build_data(value, seed)
                else:
                    keywords[name] = build_value(value, Any)
        except (ValueError, TypeError, OverflowError) as error:
            raise ConfigError(f"{name}: {' '.join(str(error).split())}") from error
    return keywords


def build_value(value: Any, annotation: Any) -> Any:
    """The object that a value of the configuration stands for."""
    if isinstance(value, list):
        built = [build_value(each, Any) for each in value]
        return tuple(built) if wants_tuple(annotation) else built
    if not isinstance(value, dict) or "_target_" not in value:
        return value
    target = locate(value["_target_"])
    keywords = arguments(value, target)
    return partial(target, **keywords) if value.get("_partial_") else target(**keywords)


def arguments(config: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The built keywords for one call."""
    takes = parameters(function)
    hints = {name: parameter.annotation for name, parameter in takes.items()}
    return {
        name: build_value(value, hints.get(name, Any)) for name, value in config.items() if not name.startswith("_")
    }


def build_data(config: dict[str, Any], seed: int) -> Any:
    """The DataModule over the data set that ``config`` names; its draws follow the run's seed unless told otherwise."""
    from geo3d.tasks.datamodule import DataModule

    dataset_class = locate(config["_target_"])
    return DataModule(dataset_class, **({"seed": seed} | arguments(config, dataset_class)))


def wants_tuple(annotation: Any) -> bool:
    """Whether a list of the configuration has to become a tuple to be what ``annotation`` asks for."""
    return get_origin(annotation) is tuple or any(map(wants_tuple, get_args(annotation)))
