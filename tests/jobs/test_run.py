"""The run folder: what makes a run finished, and what is refused."""

import json
import subprocess
import warnings

import pytest
import torch

import geo3d
from geo3d.errors import ConfigError
from geo3d.io.owner import DRAFT
from geo3d.jobs import run
from geo3d.jobs.run import FINISHED, finish_run, is_finished, reopen_run, run_folder, start_run, versions
from geo3d.version import commit


def test_a_run_is_finished_when_the_last_file_says_so_and_all_results_are_whole(tmp_path):
    start_run(tmp_path, {"a": 1})
    assert not is_finished(tmp_path)
    (tmp_path / "metrics.csv").write_text("epoch\n1\n")
    finish_run(tmp_path, {"accuracy": 0.5})
    assert is_finished(tmp_path) and list(json.loads((tmp_path / FINISHED).read_text())["sha256"])
    for name in ("metrics.json", "metrics.csv"):
        before = (tmp_path / name).read_bytes()
        for damaged in (before[:-2] + bytes([before[-2] ^ 1]) + before[-1:], None):
            (tmp_path / name).write_bytes(damaged) if damaged else (tmp_path / name).unlink()
            with pytest.warns(UserWarning, match=f"{name}: damaged or missing; it is made again"):
                assert not is_finished(tmp_path)
        (tmp_path / name).write_bytes(before)
    assert is_finished(tmp_path)
    for text in ("", "{", "[]", '{"sha256": 3}', '{"sha256": {}}', '{"sha256": {"metrics.csv": 1}}'):
        (tmp_path / FINISHED).write_text(text)
        with pytest.warns(UserWarning, match="damaged or missing"):
            assert not is_finished(tmp_path)
    reopen_run(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_finished(tmp_path)


def test_the_folder_is_swept_and_reopened(tmp_path):
    left = [tmp_path / f"{DRAFT}0-metrics.csv", tmp_path / "checkpoints" / f"{DRAFT}1-last.ckpt"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    with run_folder(tmp_path, {}, {"lr": 1}) as out:
        assert not any(path.exists() for path in left)
        finish_run(out, {})
    with run_folder(tmp_path, {}, {"lr": 1}, reopen=False) as out:
        assert is_finished(out)
    with run_folder(tmp_path, {}, {"lr": 1}) as out:
        assert not is_finished(out)


def test_results_of_other_settings_or_of_none_are_not_overwritten(tmp_path):
    start_run(tmp_path, {"data": 1}, {"lr": 1})
    start_run(tmp_path, {"data": 2}, {"lr": 2})  # nothing to lose yet
    finish_run(tmp_path, {})
    with pytest.raises(ConfigError, match="holds a run on other data"):
        start_run(tmp_path, {"data": 1}, {"lr": 2})
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        start_run(tmp_path, {"data": 2}, {"lr": 1})
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ConfigError, match=r"holds results, but settings\.json is missing"):
        start_run(tmp_path, {"data": 2}, {"lr": 2})
    (tmp_path / "settings.json").write_bytes(b"\xff{")
    with pytest.raises(ConfigError, match=r"settings\.json: damaged"):
        start_run(tmp_path, {"data": 2}, {"lr": 2})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_dtype_is_refused_before_anything_is_made(dtype, tmp_path):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with pytest.raises(ConfigError, match=f"default dtype is {dtype}"), run_folder(tmp_path / "run", {}):
            pytest.fail("began")
    finally:
        torch.set_default_dtype(before)
    assert not (tmp_path / "run").exists()


def test_the_commit_says_whether_files_differ(tmp_path, monkeypatch):
    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *names, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    file = tmp_path / "geo3d" / "__init__.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(geo3d, "__file__", str(file))
    assert commit() is None
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "x")
    assert commit() == git("rev-parse", "HEAD").strip()
    file.write_text("x = 1")
    assert commit() == git("rev-parse", "HEAD").strip() + "+"


def test_versions_name_the_commit(monkeypatch):
    monkeypatch.setattr(run, "commit", lambda: "abc+")
    names = versions()
    assert names["git"] == "abc+" and names["geo3d"] == geo3d.__version__ and {"torch", "numpy"} <= {*names}
