"""Without a GPU the kernels are interpreted (in a process of its own) and compiled, but not run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geo3d.ops.triton import available
from geo3d.ops.triton.language import power_of_2

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TESTS = [str(HERE / f"test_triton_{name}.py") for name in ("knn", "fps", "edge")]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

needs_triton = pytest.mark.skipif(not available(), reason="Triton is not installed (pip install triton)")


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available() or INTERPRETED, reason="the tests themselves run here")
def test_kernels_are_right_in_the_interpreter():
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout


POINTERS = {"neighbors": "*i64", "slot": "*u8", "last": "*i32", "ptr": "*i64", "edges": "*i64", "first": "*i64"}
FLOATS = {"x", "b", "best", "total", "grad_max", "grad_sum", "pos", "distances"}

KNN = {"QUERIES": 8, "TILE": 64, "KEPT": 32, "FIRST": True}
DOT = {"QUERIES": 16, "TILE": 32, "KEPT": 64, "FIRST": False}
GATHER = {"CHANNELS": 64, "ROWS": 16}
SCATTER = {"EDGES": 8, "CHANNELS": 64}
NEITHER = {"SLOT": False, "SUM": False, "slot": None, "total": None}
NO_MAX = {"MAX": False, "grad_max": None, "slot": None}
CASES = [
    ("knn", "_knn_kernel", "*i64", 1, {"C": 3, **KNN}),
    ("knn", "_knn_kernel", "*i64", 1, {"C": 70, **DOT}),
    ("knn", "_knn_kernel", "*i64", 1, {"C": 2, **KNN, "rows": 1, "clouds": 1, "k": 1, "number": 1}),
    ("fps", "_farthest_kernel", "*i64", 4, {"TILE": 1024, "RESIDENT": True}),
    ("fps", "_farthest_kernel", "*i64", 16, {"TILE": 4096, "RESIDENT": False}),
    ("fps", "_farthest_kernel", "*i64", 1, {"TILE": 1, "RESIDENT": True, "rows": 1, "num_samples": 1}),
    ("edge", "_gather_kernel", "", 4, {"C": 70, **GATHER, "SLOT": True, "SUM": True}),
    ("edge", "_gather_kernel", "", 4, {"C": 64, **GATHER, **NEITHER, "k": 1}),
    ("edge", "_scatter_kernel", "*fp32", 1, {"C": 70, **SCATTER, "MAX": True, "SUM": True}),
    ("edge", "_scatter_kernel", "*fp32", 1, {"C": 64, **SCATTER, **NO_MAX, "SUM": True}),
]  # fmt: skip


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="an interpreted kernel cannot be compiled")
@pytest.mark.parametrize(("module", "name", "out", "num_warps", "constants"), CASES)
def test_kernels_compile_for_a_gpu(module, name, out, num_warps, constants, monkeypatch, tmp_path):
    """The interpreter takes more than the compiler does: types in loops, global names, sizes."""
    from importlib import import_module

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(import_module(f"geo3d.ops.triton.{module}"), name)
    types = {**POINTERS, **dict.fromkeys(FLOATS, "*fp32"), "out": out}
    signature = {word: "constexpr" if word in constants else types.get(word, "i32") for word in kernel.arg_names}
    places = {(kernel.arg_names.index(word),): value for word, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": num_warps})
    assert made.asm["cubin"] and made.metadata.shared <= 48 << 10


WITHOUT_TRITON = """
import sys
from importlib.machinery import ModuleSpec

class OnlyAFolder:  # what is found of Triton where a folder of that name lies about and Triton is not installed
    def find_spec(name, path=None, target=None):
        return ModuleSpec("triton", None, is_package=True) if name == "triton" else None

sys.meta_path.insert(0, OnlyAFolder)
import geo3d.ops.triton.edge, geo3d.ops.triton.fps, geo3d.ops.triton.knn
print(geo3d.ops.triton.available())
"""


def test_kernels_can_be_imported_without_triton():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TRITON], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_asking_for_triton_does_not_import_it():
    code = "import sys; from geo3d.ops.triton import available; available(); print('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("n", [1, 2, 3, 1023, 1024, 1025])
def test_power_of_2_is_the_smallest_one(n):
    power = power_of_2(n)
    assert power // 2 < n <= power and power & (power - 1) == 0
