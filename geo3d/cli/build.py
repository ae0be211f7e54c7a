"""Builds the objects that a checked configuration names."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args, get_origin

from geo3d.checks import parameters
from geo3d.cli.check import locate
from geo3d.errors import ConfigError
from geo3d.seeds import seeded


def build(config: dict[str, Any]) -> dict[str, Any]:
    """The keywords for a job: an object for every ``_target_``, a DataModule for ``data``, other values unchanged.

    Each object is built under its own seed, ``(seed, name)``, so that a change of one option leaves the initial weights
    of the other objects alone.

    Raises:
        ConfigError: If a constructor refuses its arguments.
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
    """The object that a configuration value stands for; a value without a ``_target_`` stands for itself."""
    if isinstance(value, list):
        built = [build_value(each, Any) for each in value]
        return tuple(built) if wants_tuple(annotation) else built
    if not isinstance(value, dict) or "_target_" not in value:
        return value
    target = locate(value["_target_"])
    keywords = arguments(value, target)
    return partial(target, **keywords) if value.get("_partial_") else target(**keywords)


def arguments(config: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The keywords for one call, with every value built."""
    takes = parameters(function)
    hints = {name: parameter.annotation for name, parameter in takes.items()}
    return {
        name: build_value(value, hints.get(name, Any)) for name, value in config.items() if not name.startswith("_")
    }


def build_data(config: dict[str, Any], seed: int) -> Any:
    """The DataModule over the data set that ``config`` names; its seed is the run's unless ``config`` has its own."""
    from geo3d.tasks.datamodule import DataModule

    dataset_class = locate(config["_target_"])
    return DataModule(dataset_class, **({"seed": seed} | arguments(config, dataset_class)))


def wants_tuple(annotation: Any) -> bool:
    """Whether ``annotation`` asks for a tuple, so that a list of the configuration has to become one."""
    return get_origin(annotation) is tuple or any(map(wants_tuple, get_args(annotation)))
