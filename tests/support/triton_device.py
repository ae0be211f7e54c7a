"""The device for tests of the Triton kernels: a GPU, otherwise Triton's interpreter in a separate process.

Triton decides on its first import, once and for all, whether it interprets kernels, so the interpreter needs a process.
"""

import os

import pytest
import torch

from geo3d.ops.triton import available

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
MISSING = "Triton is not installed (pip install triton)"

if not available():
    pytest.skip(MISSING, allow_module_level=True)
if not torch.cuda.is_available() and not INTERPRETED:
    pytest.skip("no GPU: test_triton_without_gpu.py runs these tests in the interpreter", allow_module_level=True)

DEVICE = "cpu" if INTERPRETED else "cuda"


def offsets(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)
