"""The small form of every campaign; `make torture` runs the large one."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"


@pytest.mark.parametrize("name", ["commands", "damage", "files", "kills"])
def test_no_attack_finds_a_fault(name):
    done = subprocess.run([sys.executable, str(RUN), name], capture_output=True, text=True, cwd=RUN.parents[2])
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr[-2000:]}"
