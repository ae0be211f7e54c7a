"""``geo3d data prepare``: complete or not at all, the same files however it is run, one line about what is wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from geo3d.cli.__main__ import main
from geo3d.data import Shapes, Store
from geo3d.data.store import build_store
from geo3d.data.store.shard import about_shard, write_array
from geo3d.show.progress import progress

WORDS = ["data", "prepare", "shapes", "size=10", "num_points=16", "clouds_per_shard=2"]


def content(root: Path) -> dict[str, bytes]:
    """Every file of a store but the lock, which holds the number of a process."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def said(words, capsys) -> str:
    """The one line of a command that ends with status 2."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("geo3d: error: ")
    return error


@pytest.fixture
def scans(tmp_path):
    """A folder of five scans; the third is damaged."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for index in range(5):
        points = torch.rand(6, 3, generator=torch.Generator().manual_seed(index)).tolist()
        rows = [" ".join(f"{value:.5f}" for value in point) for point in points]
        (folder / f"{index}.xyz").write_text("\n".join(rows if index != 2 else [*rows, "1 2 nan"]) + "\n")
    return folder


def test_the_files_do_not_depend_on_the_workers(tmp_path, capsys):
    stores = []
    for workers in (1, 2, 3):
        assert main([*WORDS, f"out={tmp_path / str(workers)}", f"workers={workers}"]) == 0
        printed = capsys.readouterr()
        assert printed.out.splitlines()[0].startswith("train  10 clouds, 160 points, 5 shards, ") and not printed.err
        stores.append(content(tmp_path / str(workers)))
    assert len(stores[0]) == 2 + 2 * 5 * 8 and stores[0] == stores[1] == stores[2]


def test_the_folder_does_not_tell_where_the_data_were(scans, tmp_path):
    (scans / "2.xyz").unlink()
    for name in ("a", "b"):
        scans.rename(tmp_path / name)
        scans.mkdir()
    (tmp_path / "b").rmdir()
    (tmp_path / "b").mkdir()
    for file in (tmp_path / "a").iterdir():
        (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
    for name in ("a", "b"):
        root = tmp_path / name / ".." / name
        assert main(["data", "prepare", "folder", f"root={root}", f"out={tmp_path / f'of_{name}'}", "workers=1"]) == 0
    one, other = content(tmp_path / "of_a"), content(tmp_path / "of_b")
    assert one["train/000000/name.npy"] == other["train/000000/name.npy"]
    assert str(tmp_path).encode() not in b"".join(one.values())


def test_a_split_alone(tmp_path):
    assert main([*WORDS, f"out={tmp_path / 'store'}", "split=test", "workers=1"]) == 0
    assert len(Store(tmp_path / "store", "test")) == 10
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock", "plan.json", "store.json", "test"]


def test_a_damaged_cloud_stops_it(scans, tmp_path, capsys):
    words = ["data", "prepare", "folder", f"root={scans}", f"out={tmp_path / 'store'}", "clouds_per_shard=2"]
    for workers in (1, 2):
        line = said([*words, f"workers={workers}"], capsys)
        assert "2.xyz" in line and "NaN or infinite" in line
    assert main(["data", "check", "store", f"root={tmp_path / 'store'}"]) == 2
    assert "the store is not finished; run the same geo3d data prepare again" in capsys.readouterr().err


def test_damaged_clouds_are_skipped_and_counted(scans, tmp_path, capsys):
    out = tmp_path / "store"
    words = ["data", "prepare", "folder", f"root={scans}", f"out={out}", "clouds_per_shard=2", "workers=2"]
    said(words, capsys)
    assert main([*words, "damaged=skip"]) == 0  # what is done stays
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("train    4 clouds, 24 points, 3 shards")
    assert printed[1] == "skipped  1 damaged cloud of train" and "2.xyz" in printed[2]
    stored = Store(out)
    assert [Path(stored.source(i).split("(")[1]).stem for i in range(4)] == ["0", "1", "3", "4"]
    described = json.loads((out / "store.json").read_text())["splits"]["train"]
    assert described["skipped"] == 1 and "2.xyz" in described["messages"][0] and stored.manifest()["skipped"] == 1
    assert main(["data", "check", "store", f"root={out}"]) == 0


def test_clouds_that_were_skipped_are_not_taken_in_silence(scans, tmp_path, capsys):
    out = tmp_path / "store"
    words = ["data", "prepare", "folder", f"root={scans}", f"out={out}", "clouds_per_shard=2", "workers=1"]
    assert main([*words, "damaged=skip"]) == 0
    capsys.readouterr()
    assert "damaged=skip leaves such clouds out, as before" in said(words, capsys)
    (out / "store.json").unlink()
    assert "damaged=skip leaves such clouds out, as before" in said(words, capsys)


def test_nothing_but_damaged_clouds(scans, tmp_path, capsys):
    for index in (0, 1, 3, 4):
        (scans / f"{index}.xyz").write_text("0 0 nan\n")
    line = said(["data", "prepare", "folder", f"root={scans}", f"out={tmp_path / 'store'}", "damaged=skip"], capsys)
    assert "NaN or infinite" in line


def test_a_whole_shard_may_be_damaged(scans, tmp_path, capsys):
    words = ["data", "prepare", "folder", f"root={scans}", f"out={tmp_path / 'store'}", "workers=1"]
    assert main([*words, "clouds_per_shard=1", "damaged=skip"]) == 0
    stored = Store(tmp_path / "store")
    assert len(stored) == 4 and [len(stored[i].pos) for i in range(4)] == [6] * 4


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("num_points=17", "options.num_points: 16 there, 17 here"),
        ("seed=3", "options.seed: 0 there, 3 here"),
        ("clouds_per_shard=3", "splits.train.clouds_per_shard: 2 there, 3 here"),
        ("split=train", "splits.test.clouds_per_shard: 2 there, not given here"),
    ],
)
def test_other_settings_are_refused(other, message, tmp_path, capsys):
    words = [*WORDS, f"out={tmp_path / 'store'}", "workers=1"]
    assert main(words) == 0
    before = content(tmp_path / "store")
    capsys.readouterr()
    key = other.partition("=")[0]
    line = said([*(word for word in words if not word.startswith(f"{key}=")), other], capsys)
    assert "holds a store of other settings" in line and message in line and "give another out=DIR" in line
    assert main(words) == 0 and content(tmp_path / "store") == before


def test_other_data_are_refused(scans, tmp_path, capsys):
    words = ["data", "prepare", "folder", f"root={scans}", f"out={tmp_path / 'store'}", "workers=1", "damaged=skip"]
    assert main(words) == 0
    capsys.readouterr()
    (scans / "5.xyz").write_text("0 0 0\n1 1 1\n")
    assert "holds a store of other settings (splits.train.read: 5 there, 6 here)" in said(words, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "out: a value is needed; give out=DIR"),
        (["out=x", "workers=0"], "workers: 0 is not an int from 1 to 256 or null"),
        (["out=x", "damaged=drop"], "damaged: 'drop' is not stop or skip"),
        (["out=x", "split=val"], "split: 'val' is not train or test"),
        (["out=x", "worker=2"], "worker: data prepare shapes takes no 'worker'; did you mean 'workers'?"),
        (["out=x", "watch=2"], "watch: data prepare shapes takes no 'watch'"),
    ],
)
def test_wrong_options(words, message, capsys):
    assert message in said(["data", "prepare", "shapes", *words], capsys)


def test_names_that_do_not_exist(capsys):
    assert "data prepare shape: no such data set; did you mean 'shapes'?" in said(["data", "prepare", "shape"], capsys)
    assert "write geo3d data prepare shapes" in said(["data", "prepare", "data=shapes", "out=x"], capsys)


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert "expected an empty folder, found notes.txt" in said([*WORDS, f"out={tmp_path}"], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_with_one_line(workers, tmp_path, capsys, monkeypatch):
    out = tmp_path / "store"
    assert main([*WORDS, f"out={tmp_path / 'whole'}"]) == 0
    capsys.readouterr()

    def full(file, array):
        if "000003" in file.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_array(file, array)

    monkeypatch.setattr("geo3d.data.store.shard.write_array", full)
    line = said([*WORDS, f"out={out}", f"workers={workers}"], capsys)
    assert f"{out}: could not be written, the disk is full; free space, run again" in line
    shards = sorted(path.name for path in (out / "train").iterdir())
    assert shards[:3] == ["000000", "000001", "000002"] and "000003" not in shards
    assert not any(name.startswith(".") for name in shards)
    monkeypatch.undo()
    assert main([*WORDS, f"out={out}", f"workers={workers}"]) == 0
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_may_not_be_written_is_named(workers, tmp_path, capsys, monkeypatch):
    def refused(file, array):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "elsewhere/pos.npy")

    monkeypatch.setattr("geo3d.data.store.shard.write_array", refused)
    line = said([*WORDS, f"out={tmp_path / 'store'}", f"workers={workers}"], capsys)
    assert line == "geo3d: error: elsewhere/pos.npy: permission denied\n"


@pytest.mark.parametrize("file", ["plan.json", "store.json"])
def test_a_full_disk_at_the_descriptions(file, tmp_path, capsys, monkeypatch):
    from geo3d.io.files import write_json

    def full(path, obj):
        if path.name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_json(path, obj)

    monkeypatch.setattr("geo3d.data.store.build.write_json", full)
    line = said([*WORDS, f"out={tmp_path / 'store'}", "workers=1"], capsys)
    assert f"{tmp_path / 'store'}: could not be written, the disk is full" in line


def test_arrays_tell_why_they_cannot_be_written(tmp_path):
    resource = pytest.importorskip("resource", reason="the system has no limits of a process")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError) as raised, open(tmp_path / "pos.npy", "wb") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # a full disk in small
        try:
            write_array(file, np.zeros(100_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG


def started(out: Path) -> subprocess.Popen:
    """The command in a process group of its own, after it has written some of its 60 shards."""
    # a shell that starts jobs in the background lets them ignore Ctrl-C
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from geo3d.cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    words = [*LONG, f"out={out}", "workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 120
    while len(list((out / "train").glob("0*"))) < 3 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    return process


LONG = ["data", "prepare", "shapes", "size=240", "num_points=512", "clouds_per_shard=4", "split=train"]


def written(out: Path) -> dict[str, int]:
    """The shards that are there, each of which must be whole, with the time at which their arrays were written."""
    shards = sorted((out / "train").glob("0*"))
    return {folder.name: (about_shard(folder), (folder / "pos.npy").stat().st_mtime_ns)[1] for folder in shards}


def test_a_killed_run_is_continued(tmp_path, capsys):
    out = tmp_path / "store"
    process = started(out)
    os.kill(process.pid, signal.SIGKILL)  # not its workers, which must end by themselves
    assert process.wait(60) == -signal.SIGKILL
    until = time.monotonic() + 60
    while alive(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(process.pid)
    before = written(out)
    assert 3 <= len(before) < 60 and not (out / "store.json").exists()
    (out / "train" / f".geo3d-0123-{len(before):06d}.d").mkdir()  # as a worker that was killed, too, would leave it
    assert main([*LONG, f"out={out}", "workers=2"]) == 0
    after = written(out)
    assert len(after) == 60 and {name: after[name] for name in before} == before
    assert main([*LONG, f"out={tmp_path / 'whole'}", "workers=1"]) == 0
    assert content(out) == content(tmp_path / "whole")
    assert not list(out.rglob(".geo3d-*"))


def test_space_that_killed_workers_took_is_freed_first(tmp_path):
    (tmp_path / "train" / ".geo3d-0123-000007.d").mkdir(parents=True)
    (tmp_path / "train" / ".geo3d-0123-000007.d" / "pos.npy").write_bytes(b"half")
    plan = tmp_path / "plan.json"
    build_store(Shapes, tmp_path / "other", workers=1, splits=["train"], size=4, num_points=8)
    plan.write_bytes((tmp_path / "other" / "plan.json").read_bytes())
    left = []
    watch = lambda done, total: left.append((done, len(list((tmp_path / "train").glob(".geo3d-*")))))  # noqa: E731
    build_store(Shapes, tmp_path, workers=1, splits=["train"], size=4, num_points=8, watch=watch)
    assert left == [(0, 0), (4, 0)]


def alive(group: int) -> bool:
    """Whether a process of the group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    process = started(tmp_path / "store")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the workers, too
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == "geo3d: error: interrupted; finished work is kept\n"
    assert 3 <= len(written(tmp_path / "store")) < 60 and not list((tmp_path / "store").rglob(".geo3d-*"))


def test_progress_is_shown_on_a_terminal_only(tmp_path, capsys, monkeypatch):
    assert main([*WORDS, f"out={tmp_path / 'a'}", "workers=1"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress("clouds") as watch:
        assert watch is not None
        watch(3, 7)
    assert "3/7" in capsys.readouterr().err
