"""Errors that a user can fix: one line each, with what was expected, what was found and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class Geo3dError(Exception):
    """A mistake in the input to geo3d; the command line prints it and exits with status 2."""


class CloudError(Geo3dError):
    """A point cloud, a file of clouds or a data set that cannot be used."""


class NotFiniteError(CloudError):
    """Coordinates or features that are NaN or infinite."""


class SplitError(CloudError):
    """A split that a data set does not have."""


class ConfigError(Geo3dError):
    """An option that does not exist, or whose value is not allowed."""


class CheckpointError(Geo3dError):
    """A checkpoint that is missing, damaged, or not of the requested class."""


class CollapseError(Geo3dError):
    """A pretraining run whose embeddings have collapsed: they are the same for every cloud."""


def did_you_mean(word: object, names: Iterable[str], otherwise: str = "there are") -> str:
    """The end of a message about an unknown word: the most similar name, or all names if none is similar.

    Example:
        >>> did_you_mean("max_epoch", ["max_epochs", "max_time"])
        "did you mean 'max_epochs'?"
        >>> did_you_mean("zzz", ["max_epochs", "max_time"])
        'there are max_epochs, max_time'
    """
    names = list(names)
    close = get_close_matches(str(word), names, 1)
    return f"did you mean '{close[0]}'?" if close else f"{otherwise} {', '.join(names) or 'none'}"
