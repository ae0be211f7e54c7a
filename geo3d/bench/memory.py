"""The memory that a contender needs beyond its weights and inputs, measured in a separate process."""

import ctypes
import gc
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from geo3d.bench.case import Make
from geo3d.bench.inputs import surfaces
from geo3d.encoders import DGCNN, PointNet2

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(make: Make, name: str, threads: int) -> int:
    """Bytes by which the first call of the contender ``name`` raises the peak of a fresh process.

    It is a lower bound on systems where a process cannot reset its peak.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_rise, make, name, threads).result()


def _rise(make: Make, name: str, threads: int) -> int:
    warnings.simplefilter("ignore")  # the parent process has already shown the warnings
    torch.set_num_threads(threads)
    _wake()
    call = make().calls[name]
    gc.collect()
    _give_back()
    with suppress(OSError):
        RESET.write_text("5")
    before = _resident("VmRSS") or _resident("VmHWM")
    call()
    return max(0, _resident("VmHWM") - before)


def _wake() -> None:
    """Run small training steps, so that threads, libraries and operators allocate what they keep."""
    x, batch = torch.ones(2, 4, 8, 8), surfaces(2, 16)
    nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(512, 2))(x).sum().backward()
    for encoder in (DGCNN(k=2, channels=(8, 8), embedding=8), PointNet2(num_samples=(4, 2), width=0.125)):
        encoder(batch).cloud.sum().backward()
        with torch.no_grad():
            encoder.eval()(batch)


def _give_back() -> None:
    """Return freed memory to the system; if it were reused, the measurement would miss it."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> int:
    """Bytes of VmRSS (resident memory now) or VmHWM (its peak so far) of this process."""
    if STATUS.is_file():
        line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0 if field == "VmRSS" else most * (1 if sys.platform == "darwin" else 1024)
