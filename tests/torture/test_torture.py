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


def test_a_campaign_that_is_ended_says_how_far_it_came():
    command = [sys.executable, str(RUN), "commands", "--only", "values", "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=RUN.parents[2]) as running:
        first = running.stdout.readline()
        running.terminate()
        rest = running.stdout.read()
    assert running.returncode == 143
    assert first.startswith("values/") and " tried, " in rest and " not tried\n" in rest
