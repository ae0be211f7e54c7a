"""Errors a user can mend: one line each, saying what was expected, what was found and what to do."""


class Geo3dError(Exception):
    """A mistake in what was given to geo3d; the command line prints it and exits with status 2."""


class CloudError(Geo3dError):
    """A point cloud, a file of clouds or a data set that cannot be used."""


class NotFiniteError(CloudError):
    """Coordinates or features that are NaN or infinite."""


class SplitError(CloudError):
    """A data set that has no such split."""


class ConfigError(Geo3dError):
    """An option that does not exist, or whose value does not fit."""


class CheckpointError(Geo3dError):
    """A checkpoint that is missing, damaged, or of another class than asked for."""


class CollapseError(Geo3dError):
    """A pretraining run whose embeddings have become the same for every cloud."""
