import os
import signal
import threading
import time
from contextlib import suppress

import pytest

import geo3d.jobs
from geo3d.cli.__main__ import main
from geo3d.cli.interrupts import heeded


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)


def turned():
    try:
        interrupt()
    except KeyboardInterrupt:
        raise ValueError("Invalid bounding box") from None


def swallowed():
    with suppress(KeyboardInterrupt):
        interrupt()


@pytest.fixture(autouse=True)
def pythons_own(monkeypatch):
    """The handler that Python sets, and a check that it is there again in the end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


@pytest.mark.parametrize("work", [interrupt, turned, swallowed])
def test_ctrl_c_ends_in_an_interruption_whatever_a_library_makes_of_it(work):
    with pytest.raises(KeyboardInterrupt), heeded():
        work()


@pytest.mark.parametrize("work", [interrupt, turned, swallowed])
def test_the_command_says_that_it_was_interrupted(work, monkeypatch, capsys, tmp_path):
    def probe(checkpoint: str, data: object, *, out: str) -> dict:
        work()
        return {}

    monkeypatch.setattr(geo3d.jobs, "probe", probe)
    assert main(["probe", "checkpoint=x", "data=folder", f"data.root={tmp_path}", f"out={tmp_path / 'run'}"]) == 130
    said = capsys.readouterr().err
    assert said == "geo3d: error: interrupted; finished work is kept\n"
    assert not list(tmp_path.rglob("traceback.txt"))


def test_a_real_library_that_turns_it_into_another_error():
    path = pytest.importorskip("matplotlib.path")

    class Box:
        def __array__(self, *given, **named):
            interrupt()

    with pytest.raises(KeyboardInterrupt), heeded():
        path.Path([[0, 0], [1, 1]]).clip_to_bbox(Box())


def test_errors_that_nobody_interrupted_stay_what_they_are():
    with pytest.raises(ValueError, match="^mine$"), heeded():
        raise ValueError("mine")


def test_a_handler_of_somebody_else_and_other_threads_are_left_alone():
    own = []
    signal.signal(signal.SIGINT, lambda *_: own.append(1))
    with heeded():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    assert own == [1]
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def elsewhere():
        with heeded():
            own.append(2)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert own == [1, 2]
