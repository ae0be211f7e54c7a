"""Ownership of folders, and the removal of files that killed processes left."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from geo3d.errors import ConfigError
from geo3d.io import owner
from geo3d.io.files import draft_folder, replacing
from geo3d.io.owner import DRAFT, LOCK, held, owned, sweep

HOLD = """
import sys, time
from geo3d.io.owner import owned
with owned(sys.argv[1]):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that owns ``tmp_path / "out"``."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_until_the_first_one_is_gone(other, tmp_path):
    with (
        pytest.raises(ConfigError, match=rf"out=.*out: process {other.pid} of .* works in this folder") as raised,
        owned(tmp_path / "out"),
    ):
        pytest.fail("two owners")
    assert "\n" not in str(raised.value)
    other.send_signal(signal.SIGKILL)
    other.wait()
    with owned(tmp_path / "out") as out:
        assert str(os.getpid()) in (out / LOCK).read_text()


def test_another_thread_is_refused_and_the_same_one_is_not(tmp_path):
    said = []

    def try_it():
        try:
            with owned(tmp_path):
                said.append("two owners")
        except ConfigError as error:
            said.append(str(error))

    with owned(tmp_path), owned(tmp_path):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(said) == 1 and "another thread works in this folder" in said[0]
    with owned(tmp_path):  # free again
        pass


def test_a_forked_child_does_not_keep_the_folder(tmp_path):
    with owned(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        words = [sys.executable, "-c", HOLD.replace("time.sleep(60)", "pass"), str(tmp_path)]
        assert subprocess.run(words, capture_output=True, text=True).stdout == "mine\n"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_of_processes_that_train_together_the_first_owns_for_all(other, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with owned(tmp_path / "out") as out:
        assert out == tmp_path / "out"


def test_where_no_folder_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for place, message in (("file", "expected a folder, found a file"), ("file/in/it", "cannot be made")):
        with pytest.raises(ConfigError, match=message), owned(tmp_path / place):
            pytest.fail("no folder there")


def test_drafts_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    dead, living = tmp_path / f"{DRAFT}0-a.json", tmp_path / f"{DRAFT}1-a.json"
    for path in (dead, living, tmp_path / "a.json"):
        path.write_text("x")
    (tmp_path / f"{DRAFT}2-b.d").mkdir()
    with held(living):
        sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "a.json"]
        with replacing(tmp_path / "a.json") as draft:
            draft.write_text("y")
        assert living.exists()
    with replacing(tmp_path / "a.json") as draft:  # nobody holds it any more
        draft.write_text("z")
        assert not living.exists()
    with draft_folder(tmp_path, "c") as folder:
        sweep(tmp_path)
        assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *words, name=name, real=real: (events.append(name), real(*words))[1])
    with replacing(tmp_path / "a") as draft:
        draft.write_text("x")
    assert events == ["fsync", "replace", "fsync"]


def test_where_the_system_knows_no_locks_everybody_gets_one(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "fcntl", None)
    with owned(tmp_path / "run") as folder:
        assert owner.lock(-1) and folder.is_dir()
