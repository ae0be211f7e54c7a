"""Mutated files of every format: exactly the cloud that a strict parser finds in them, or an error in one line.

What a mutated file says is told by the parsers of ``oracles.py``: its coordinates, and the triangles of a mesh. geo3d
may refuse whatever it likes, but a sound file; what it delivers must be what the file says. Of colours, normals and
labels only that they come without an exception is checked. HDF5 has no second parser: there h5py itself is the judge.
Layouts of folders are damaged too: every cloud that is delivered must be one of the sound folder, of the same class.
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
    """For every sample the sound file, and so many mutations of each kind."""
    preload()
    for name, sample in samples():
        yield Case(f"{name}/sound", lambda n=name, s=sample: sound(scratch, n, s))
        for mutation in MUTATIONS:
            for i in range(16 if large else 2):
                key = f"{name}/{mutation.__name__} {i}"
                yield Case(key, lambda k=key, s=sample, m=mutation: mutated(scratch, k, s, m, seed))
    yield from layout_cases(60 if large else 8, seed, scratch)


def sound(scratch: Path, name: str, sample: Sample) -> Verdict:
    """The file as it is must be read, as its oracle reads it."""
    readings = oracle(sample.oracle)(sample.content)
    if not readings or not all(np.allclose(reading.pos, POS, atol=1e-6) for reading in readings):
        return fault("the oracle does not read it")
    verdict = judged(scratch, f"{name}-sound", sample, sample.content)
    refused = verdict.kind.startswith("refused") and not sample.optional
    return fault("sound file refused", verdict.note) if refused else verdict


def mutated(scratch: Path, key: str, sample: Sample, mutation: Callable[[bytes, Random], bytes], seed: int) -> Verdict:
    """One mutation of a file."""
    content = mutation(sample.content, Random(f"{seed}/{key}"))
    return judged(scratch, key.replace("/", "-").replace(" ", "-"), sample, content)


def oracle(name: str) -> Callable[[bytes], list[oracles.Reading]]:
    """The strict parser of that name."""
    return getattr(oracles, name)


def judged(scratch: Path, key: str, sample: Sample, content: bytes) -> Verdict:
    """What geo3d makes of those bytes, against what they say."""
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
        return Verdict("the sound cloud all the same")  # the strict parser knows less than the format allows
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
    """Whether a cloud has the coordinates of a reading: to the bit, or around an origin to 1e-4 of its extent."""
    if tuple(data.pos.shape) != reading.pos.shape:
        return False
    found = data.pos.numpy()
    if data.get("frame") is None:
        return np.array_equal(found, reading.pos.astype(np.float32))
    linear, shift = data.frame.numpy()[:3, :3], data.frame.numpy()[:3, 3]
    extent = float(np.ptp(reading.pos, axis=0).max())
    return bool(np.abs(found @ linear.T + shift - reading.pos).max() <= 1e-4 * extent)
