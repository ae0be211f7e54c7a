"""A description of the machine on which a measurement was made."""

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

import geo3d
from geo3d.version import commit, short

WORTH_NAMING = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "amx_bf16", "asimd", "asimddp", "bf16", "sve", "sve2",
)  # fmt: skip


def processor() -> tuple[str, list[str]]:
    """Model name of the processor, and its instruction sets that are in ``WORTH_NAMING``."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    cpuinfo = dict(re.findall(r"^(model name|flags|Features)\s*: (.*)$", text, re.MULTILINE))
    flags = (cpuinfo.get("flags") or cpuinfo.get("Features") or "").split()
    model = cpuinfo.get("model name") or platform.processor() or platform.machine()
    return model, [name for name in WORTH_NAMING if name in flags]


def cores() -> int:
    """The number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float | None:
    """Size of the main memory in GB; None if the system does not report it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def blas() -> str:
    """The library behind torch's matrix products.

    Example:
        >>> len(blas()) > 0
        True
    """
    match = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return match[1] if match else "unknown"


def machine(kernels: str) -> dict[str, Any]:
    """Processor, memory, system and versions, ready for JSON.

    Args:
        kernels: Which native kernels are in use.
    """
    model, sets = processor()
    return {
        "processor": model,
        "cores": cores(),
        "instruction sets": " ".join(sets) or "not known",
        "threads": torch.get_num_threads(),
        "memory": f"{memory_gb() or '?'} GB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "torch": f"{torch.__version__}, BLAS {blas()}, uses {torch.backends.cpu.get_cpu_capability()}",
        "geo3d": f"{geo3d.__version__}, commit {short(commit())}, native kernels {kernels}",
    }
