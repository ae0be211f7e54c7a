import subprocess
import sys
import warnings

import torch

from geo3d.cli.notes import as_notes

WARNING = """
import sys, warnings
from geo3d.cli.notes import as_notes
words = {"__name__": sys.argv[1], "warnings": warnings}
with as_notes():
    for _ in range(2):
        exec("warnings.warn('first\\\\nsecond', stacklevel=2)", words)
    exec("warnings.warn('other')", words)
"""


def said(name: str, *options: str) -> list[str]:
    done = subprocess.run([sys.executable, *options, "-c", WARNING, name], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_a_warning_of_geo3d_is_one_line_said_once():
    assert said("geo3d.jobs.probing") == ["geo3d: note: first second", "geo3d: note: other"]


def test_warnings_of_libraries_are_shown_to_those_who_ask():
    assert said("geo3dx.trainer") == []
    assert any("UserWarning: other" in line for line in said("lightning.trainer", "-W", "always"))
    assert said("geo3d.jobs", "-W", "ignore") == []


def test_a_warning_that_torch_puts_on_a_line_of_geo3d_is_not_a_note(capsys):
    namespace = {"__name__": "geo3d.ops.somewhere", "torch": torch}
    with as_notes():
        exec("torch.zeros(2, 3, 4).T", namespace)
    assert capsys.readouterr().err == ""


def test_a_note_is_said_once_by_the_first_process(capsys, monkeypatch):
    namespace = {"__name__": "geo3d.ops.somewhere", "warnings": warnings}
    for rank, expected in (("0", "geo3d: note: few points\n"), ("1", "")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with as_notes():
            warnings.simplefilter("always")
            for _ in range(3):
                exec("warnings.warn('few points')", namespace)
        assert capsys.readouterr().err == expected


def test_the_display_of_warnings_is_put_back():
    before = warnings.showwarning
    with as_notes():
        assert warnings.showwarning is not before
    assert warnings.showwarning is before


def test_the_command_tells_what_the_data_set_warns_of(tmp_path):
    import numpy as np

    from geo3d.checkpoint import save_encoder
    from geo3d.encoders import DGCNN

    save_encoder(DGCNN(k=2, channels=(4,), embedding=4), tmp_path / "encoder")
    (tmp_path / "clouds").mkdir()
    for i in range(2):
        np.save(tmp_path / "clouds" / f"{i}.npy", np.random.default_rng(i).normal(size=(9, 3)))
    words = ["embed", f"checkpoint={tmp_path / 'encoder'}", "data=folder", f"data.root={tmp_path / 'clouds'}"]
    done = subprocess.run(
        [sys.executable, "-m", "geo3d", *words, "data.num_points=16", f"out={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "geo3d: note: data.num_points=16, but the first cloud has only 9 points; all are used"
    ]
    assert (tmp_path / "run" / "features.npz").exists()
