"""geo3d's own contenders: with its native library, and with torch alone."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from geo3d.errors import ConfigError
from geo3d.ops import native

Path = Callable[[], AbstractContextManager[None]]

PATHS = ("native", "torch")


def usable(asked: Sequence[str] = PATHS) -> list[str]:
    """The requested paths that can run here."""
    return [path for path in asked if path == "torch" or native.name() is not None]


def own_paths(asked: Sequence[str] = PATHS) -> dict[str, Path]:
    """Name of each of geo3d's contenders -> the context in which it runs; the native one comes first, if there is one.

    Raises:
        ConfigError: If only the native path is requested and there is no library.
    """
    built = native.name()
    contexts: dict[str, Path] = {}
    if "native" in asked and built is not None:
        contexts[f"geo3d ({built})"] = nullcontext
    if "torch" in asked:
        contexts["geo3d (torch)"] = native.disabled
    if not contexts:
        raise ConfigError("path native: no native library is in use; geo3d doctor says why")
    return contexts
