"""geo3d's own contenders: with its native library, and with torch alone."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from geo3d.errors import ConfigError
from geo3d.ops import native

Path = Callable[[], AbstractContextManager[None]]

PATHS = ("native", "torch")


def usable(asked: Sequence[str] = PATHS) -> list[str]:
    """Those of the paths asked for that can run here."""
    return [path for path in asked if path == "torch" or native.name() is not None]


def own_paths(asked: Sequence[str] = PATHS) -> dict[str, Path]:
    """Name of each of geo3d's contenders -> the context it runs in; the native one first, if there is a library.

    Raises:
        ConfigError: If only the native path is asked for and there is no library.
    """
    built = native.name()
    found: dict[str, Path] = {}
    if "native" in asked and built is not None:
        found[f"geo3d ({built})"] = nullcontext
    if "torch" in asked:
        found["geo3d (torch)"] = native.disabled
    if not found:
        raise ConfigError("path native: no native library is in use; geo3d doctor says why")
    return found
