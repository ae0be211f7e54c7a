"""Random generators seeded by the purpose of the draw, so that no generator state has to be stored."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

Key = int | str


def seed_of(*key: Key) -> int:
    """A 63-bit seed that depends on every entry of ``key`` and on their order.

    Example:
        >>> seed_of(0, "views", 3) == seed_of(0, "views", 3)
        True
        >>> seed_of(0, 1) == seed_of(1, 0)
        False
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: Key, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for the draw named by ``key``, for example ``(seed, "views", epoch, step)``."""
    return torch.Generator(device).manual_seed(seed_of(*key))


def numpy_generator(*key: Key) -> np.random.Generator:
    """A NumPy generator for the draw named by ``key``."""
    return np.random.Generator(np.random.PCG64(seed_of(*key)))


@contextmanager
def seeded(*key: Key) -> Iterator[None]:
    """Seed torch's global generator by ``key`` inside the block, and restore its state afterwards.

    This is for code that cannot take a generator: the initialisation of torch's layers, and dropout.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(*key))
        yield
