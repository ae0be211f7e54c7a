import ctypes
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.dense.matrix import linear

needs_library = pytest.mark.skipif(not native.builds(), reason="the compiled kernels are not installed")


def in_new_process(code: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, timeout=60
    )


@needs_library
def test_best_build_is_chosen_and_switched():
    best = native.builds()[-1]
    chosen = os.environ.get("GEO3D_NATIVE") or best
    assert native.name() == (None if chosen == "off" else chosen)
    with native.using("portable"):
        assert native.name() == "portable"
        with native.disabled():
            assert native.name() is None and not native.usable(torch.zeros(1))
        assert native.name() == "portable"


@needs_library
def test_unknown_build_is_refused():
    with pytest.raises(ConfigError, match="sse9"), native.using("sse9"):
        pass


def test_missing_library_is_said_once_and_all_goes_on(tmp_path: Path):
    code = (
        "import torch, warnings\n"
        "from geo3d.cloud import Layout\n"
        "from geo3d.ops.search.knn import knn\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    x = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])\n"
        "    for _ in range(2): table = knn(x, Layout(torch.tensor([0, 3])), 2)\n"
        "assert table.tolist() == [[0, 1], [1, 0], [2, 1]], table\n"
        "print([str(w.message) for w in said if 'geo3d' in str(w.message)])\n"
    )
    done = in_new_process(code, GEO3D_NATIVE_FOLDER=str(tmp_path), GEO3D_NATIVE="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("slower torch path") == 1 and "no compiled kernels are installed" in done.stdout


@pytest.mark.parametrize(("value", "said"), [("off", "None"), ("nonsense", "GEO3D_NATIVE must be off or one of")])
def test_environment_decides(value: str, said: str):
    done = in_new_process("from geo3d.ops import native; print(native.name())", GEO3D_NATIVE=value)
    assert said in done.stdout + done.stderr


@needs_library
def test_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch):
    folder = Path(native._open("portable")._name).parent
    monkeypatch.delenv("GEO3D_NATIVE_FOLDER", raising=False)
    monkeypatch.setattr(native, "fingerprint", lambda: "0" * 16)
    monkeypatch.setattr(native, "folders", lambda: [folder])
    with pytest.raises(OSError, match="built from other sources; install geo3d again"):
        native._open("portable")


@needs_library
def test_torch_decides_how_many_threads_run():
    x = torch.randn(500, 40, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(linear(x, x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)


@needs_library
def test_faults_become_errors_that_say_what_to_do():
    with native.using("portable"), pytest.raises(CloudError, match="ptr has offsets that do not rise"):
        pooled, winner = torch.empty(1, 32), torch.empty(1, 16, dtype=torch.int64)
        native.call(
            "pool", 4, 16, 1, torch.tensor([0, 3]), torch.zeros(4, 16), torch.ones(16), torch.ones(16), 0.2, pooled,
            winner, what="ptr",
        )  # fmt: skip


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("threads", ["own", ""])
def test_forked_process_works(threads: str):
    code = (
        "import os, torch\n"
        "from geo3d.cloud import Layout\n"
        "from geo3d.ops.search.knn import knn\n"
        "torch.set_num_threads(2)\n"
        "pos, ptr = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)), torch.arange(0, 2001, 500)\n"
        "expected = knn(pos, Layout(ptr), 4)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    again = knn(pos, Layout(ptr), 4)\n"  # torch's own threads hang here
        "    os._exit(0 if again.tolist() == expected.tolist() else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
    )
    build = os.environ.get("GEO3D_NATIVE", "").replace("off", "")  # torch alone would hang
    done = in_new_process(code, GEO3D_THREADS=threads, GEO3D_NATIVE=build)
    assert done.returncode == 0, done.stderr


@needs_library
def test_library_needs_no_torch():
    code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).geo3d_level())"
    path = native._open("portable")._name
    done = subprocess.run([sys.executable, "-S", "-c", code, path], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in "012" and done.returncode == 0
    assert isinstance(native._open("portable"), ctypes.CDLL)


def test_status_says_which_build_and_why():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "native kernels:" in native.status()[0]
