"""The compiled kernels: which build of them runs, and calls into it.

The libraries have a plain C interface and are not linked to torch, so that one build serves every release of torch and
Python. There is one library for each instruction set; geo3d uses the best that the processor can run. Without a
library every operator runs its torch reference, and one warning says so.

``GEO3D_NATIVE`` overrides the choice: ``off``, or the name of a build (``portable``, ``avx2``, ``avx512``).
``GEO3D_NATIVE_FOLDER`` names a folder whose libraries are used whatever sources they were built from, for work on the
kernels.
"""

import ctypes
import os
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geo3d.errors import CloudError, ConfigError, NotFiniteError
from geo3d.ops.native.kernels import KERNELS

BUILDS = ("portable", "avx2", "avx512")
OUT_OF_MEMORY, BAD_INDEX, NOT_FINITE, BAD_OFFSETS = 1, 2, 3, 4  # as in src/api.h
FAULTS = {
    BAD_INDEX: "must hold indices of rows; one is out of range",
    NOT_FINITE: "holds NaN or infinite values; remove them first",
    BAD_OFFSETS: "has offsets that do not rise from 0 to the number of rows; clouds must not be empty",
}
_switched_off = 0
_instead: ctypes.CDLL | None = None


def folders() -> list[Path]:
    """Folders that may hold the libraries: this one, or where an editable installation puts them."""
    if "GEO3D_NATIVE_FOLDER" in os.environ:
        return [Path(os.environ["GEO3D_NATIVE_FOLDER"])]
    installed = {sysconfig.get_path(name) for name in ("platlib", "purelib")}
    return [Path(__file__).parent, *(Path(path) / "geo3d" / "ops" / "native" for path in sorted(installed))]


def fingerprint() -> str | None:
    """The fingerprint that a library built from these sources carries; None if the sources are not installed."""
    sources = sorted(sha256(path.read_bytes()).hexdigest() for path in (Path(__file__).parent / "src").glob("*.[ch]*"))
    return sha256(";".join(sources).encode()).hexdigest()[:16] if sources else None


def _suffix() -> str:
    return {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def _open(build: str) -> ctypes.CDLL:
    """The library of a build.

    Raises:
        OSError: If no library can be used; the message says why.
    """
    paths = [path for folder in folders() if (path := folder / f"libgeo3d_{build}{_suffix()}").is_file()]
    if not paths:
        raise OSError("no compiled kernels are installed; with a C++ compiler, pip install geo3d makes them")
    expected = None if "GEO3D_NATIVE_FOLDER" in os.environ else fingerprint()
    for path in paths:
        library = ctypes.CDLL(str(path))
        library.geo3d_fingerprint.restype = library.geo3d_name.restype = ctypes.c_char_p
        if expected in (None, library.geo3d_fingerprint().decode()):
            return library
    raise OSError(f"{paths[0]} was built from other sources; install geo3d again")


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The library to use, or None, and the reason."""
    wanted = os.environ.get("GEO3D_NATIVE", "")
    if wanted == "off":
        return None, "switched off by GEO3D_NATIVE=off"
    if wanted and wanted not in BUILDS:
        raise ConfigError(f"GEO3D_NATIVE must be off or one of {', '.join(BUILDS)}; found {wanted}")
    try:
        best = _open("portable").geo3d_level()
        if wanted and BUILDS.index(wanted) > best:
            raise ConfigError(f"GEO3D_NATIVE={wanted}: this processor runs {', '.join(BUILDS[: best + 1])} only")
        build = wanted or BUILDS[best]
        library = _prepared(build)
    except OSError as error:
        warnings.warn(f"geo3d runs on its slower torch path: {error}", stacklevel=2)
        return None, str(error)
    why = "chosen by GEO3D_NATIVE" if wanted else "the best that this processor runs"
    return library, f"{why}; threads of {'torch' if _openmp_region() else 'its own'}"


def _openmp_region() -> int:
    """The address of ``GOMP_parallel`` in torch's libraries; 0 if they have none or ``GEO3D_THREADS`` is ``own``."""
    if os.environ.get("GEO3D_THREADS") == "own":
        return 0
    try:
        torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / f"libtorch_cpu{_suffix()}"))
        return ctypes.cast(torch_cpu.GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


def _library() -> ctypes.CDLL | None:
    return None if _switched_off else _instead or _load()[0]


def name() -> str | None:
    """The name of the build in use; None when the torch references run."""
    library = _library()
    return library.geo3d_name().decode() if library is not None else None


def usable(*tensors: Tensor) -> bool:
    """Whether the library can work on these tensors: float32 or uint8 codes, on the CPU."""
    if _library() is None:
        return False
    return all(t.device.type == "cpu" and t.dtype in (torch.float32, torch.uint8) for t in tensors)


@torch.compiler.assume_constant_result
def _present() -> bool:
    return _library() is not None


def runs(*tensors: Tensor) -> bool:
    """As :func:`usable` for float32 tensors; ``torch.compile`` may trace it, and keeps the answer of the first time."""
    return _present() and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


@contextmanager
def disabled() -> Iterator[None]:
    """Context in which the torch references run."""
    global _switched_off
    _switched_off += 1
    try:
        yield
    finally:
        _switched_off -= 1


@contextmanager
def using(build: str) -> Iterator[None]:
    """Context in which this build runs; for tests and comparisons.

    Raises:
        ConfigError: If the build is not installed or this processor cannot run it.
    """
    global _instead
    if build not in builds():
        raise ConfigError(f"build must be one of {', '.join(builds())}; found {build}")
    before, _instead = _instead, _prepared(build)
    try:
        yield
    finally:
        _instead = before


def builds() -> list[str]:
    """The builds that are installed and can run here."""
    try:
        return list(BUILDS[: _open("portable").geo3d_level() + 1])
    except OSError:
        return []


@cache
def _prepared(build: str) -> ctypes.CDLL:
    library = _open(build)
    region = _openmp_region()
    if region:
        library.geo3d_use_openmp(ctypes.c_void_p(region))
    for kernel in KERNELS.values():
        getattr(library, kernel.symbol).argtypes = [ctypes.c_int32, *kernel.types]
    return library


def status() -> list[str]:
    """Lines for the user: which build runs, and why."""
    library, why = _load()
    if library is None:
        return [f"native kernels: none ({why}); the torch references run"]
    return [f"native kernels: {name() or 'switched off'} ({why})", f"library: {library._name}"]


def error(fault: int, what: str) -> Exception:
    """The exception for a kernel's status ``fault`` on the data ``what``."""
    if fault == OUT_OF_MEMORY:
        return MemoryError(f"{what}: not enough memory")
    return (NotFiniteError if fault == NOT_FINITE else CloudError)(f"{what} {FAULTS[fault]}")


def call(function: str, *arguments: Any, what: str = "input") -> None:
    """Call ``geo3d_<function>`` on torch's number of threads; tensors are passed as pointers, None as null.

    The interpreter's lock is released during the call.

    Args:
        function: Name of its declaration in :mod:`geo3d.ops.native.kernels`.
        arguments: Tensors, ints, floats and None, in the declared order.
        what: How an error message names the data.

    Raises:
        ArgumentError: If a tensor does not match the declaration; the kernel is then not called.
        CloudError: If the values do not allow the operation.
        MemoryError: If there is not enough memory.
    """
    library, kernel = _library(), KERNELS[function]
    assert library is not None
    fault = getattr(library, kernel.symbol)(torch.get_num_threads(), *kernel.bound(arguments))
    if fault:
        raise error(fault, what)


def bound(function: str, threads: int, *arguments: Any, what: str = "input") -> Callable[[], None]:
    """A function that repeats one :func:`call` with the library in use now; it converts the arguments only once.

    Arguments may also be places (:class:`~geo3d.ops.native.pointers.Place`), whose tensors come later. The function
    keeps all its arguments alive.
    """
    library, kernel = _library(), KERNELS[function]
    assert library is not None
    # library[...] is a new function object without argtypes, so that ctypes does not convert again at every call.
    converted = (
        value if isinstance(value, ctypes.c_void_p | ctypes.Array) else make(value)
        for make, value in zip(kernel.types, kernel.bound(arguments), strict=True)
    )
    run = partial(library[kernel.symbol], ctypes.c_int32(threads), *converted)

    def run_checked(_kept: tuple[Any, ...] = arguments) -> None:
        if fault := run():
            raise error(fault, what)

    return run_checked
