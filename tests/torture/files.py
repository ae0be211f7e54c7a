"""Mutated files of every format: geo3d must read the cloud that a strict parser finds, or raise an error in one line.

The parsers in ``oracles.py`` tell which coordinates a mutated file holds, and which triangles if it is a mesh. geo3d
may refuse any file except a sound one; what it reads must be what the file holds. Colours, normals and labels need only
come without an exception. HDF5 has no second parser, so h5py itself is the oracle. Folders of data sets are damaged
too: every cloud that geo3d then delivers must be one of the sound folder, with the same class.
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import oracles
from campaign import Case, Limits, Verdict, fault
from kills import preload
from layouts import layout_cases
from mutations import MUTATIONS
from samples import POS, Sample, samples

TITLE = "mutated files"
LIMITS = Limits(seconds=5, megabytes=1024)
CHUNK = 25


def cases(large: bool, seed: int, scratch: Path) -> Iterator[Case]:
    """For every sample the sound file and several mutations of each kind; then damaged folders."""
    preload()
    for name, sample in samples():
        yield Case(f"{name}/sound", lambda n=name, s=sample: sound(scratch, n, s))
        for mutation in MUTATIONS:
            for i in range(16 if large else 2):
                key = f"{name}/{mutation.__name__} {i}"
                yield Case(key, lambda k=key, s=sample, m=mutation: mutated(scratch, k, s, m, seed))
    yield from layout_cases(60 if large else 8, seed, scratch)


def sound(scratch: Path, name: str, sample: Sample) -> Verdict:
    """Check that the sound file is read, as its oracle reads it."""
    readings = oracle(sample.oracle)(sample.content)
    if not readings or not all(np.allclose(reading.pos, POS, atol=1e-6) for reading in readings):
        return fault("the oracle does not read it")
    verdict = judged(scratch, f"{name}-sound", sample, sample.content)
    refused = verdict.kind.startswith("refused") and not sample.optional
    return fault("sound file refused", verdict.note) if refused else verdict


def mutated(scratch: Path, key: str, sample: Sample, mutation: Callable[[bytes, Random], bytes], seed: int) -> Verdict:
    """Verdict on one mutation of a file."""
    content = mutation(sample.content, Random(f"{seed}/{key}"))
    return judged(scratch, key.replace("/", "-").replace(" ", "-"), sample, content)


def oracle(name: str) -> Callable[[bytes], list[oracles.Reading]]:
    """The strict parser of that name."""
    return getattr(oracles, name)


def judged(scratch: Path, key: str, sample: Sample, content: bytes) -> Verdict:
    """Verdict on what geo3d reads from the bytes, compared with what the oracle reads."""
    from geo3d.errors import CloudError
    from geo3d.io.read import read_cloud, read_mesh
    from geo3d.seeds import generator

    path = scratch / f"{key}.{sample.suffix}"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = read_cloud(path)
            faces = read_mesh(path)[1].tolist() if sample.oracle in ("ply", "off", "obj") and meshed(path) else None
            read_cloud(path, 5, generator(0))
        except CloudError as error:
            if "\n" in str(error) or len(str(error)) > 1500 or path.name not in str(error):
                return fault("more than a line, or no name", f"{len(str(error))} characters: {str(error)[:150]}")
            said = str(error)
            readings = oracle(sample.oracle)(content)
            return Verdict("refused, could be read" if readings else "refused", note=said)
        except Exception as error:
            return fault(type(error).__name__, f"{str(error)[:150]} (the file begins {content[:60]!r})")
        finally:
            path.unlink(missing_ok=True)
    readings = oracle(sample.oracle)(content)
    if not readings and np.array_equal(data.pos.numpy(), POS.astype(np.float32)) and not faces:
        return Verdict("the sound cloud all the same")  # the oracle does not know everything that the format allows
    if not readings:
        return fault("read, but not valid", f"{len(data.pos)} points; the file begins {content[:80]!r}")
    if not any(same(data, reading) for reading in readings):
        return fault("other points", f"{data.pos[:2].tolist()} for {readings[0].pos[:2].tolist()}")
    if faces is not None and not any(faces == list(map(list, reading.faces or [])) for reading in readings):
        return fault("other faces", f"{faces[:3]} for {(readings[0].faces or [])[:3]}")
    return Verdict("equal")


def meshed(path: Path) -> bool:
    """Whether geo3d finds faces in the file."""
    from geo3d.io.read import read_arrays

    return len(read_arrays(path).get("faces", ())) > 0


def same(data: Any, reading: oracles.Reading) -> bool:
    """Whether a cloud has the coordinates of a reading: bit for bit, or to 1e-4 of its extent if it was shifted."""
    if tuple(data.pos.shape) != reading.pos.shape:
        return False
    pos = data.pos.numpy()
    if data.get("frame") is None:
        return np.array_equal(pos, reading.pos.astype(np.float32))
    linear, shift = data.frame.numpy()[:3, :3], data.frame.numpy()[:3, 3]
    extent = float(np.ptp(reading.pos, axis=0).max())
    return bool(np.abs(pos @ linear.T + shift - reading.pos).max() <= 1e-4 * extent)
