import errno
import subprocess
import sys
import time

import pytest

import geo3d
import geo3d.jobs
from geo3d.cli.__main__ import explain, figures, main
from geo3d.errors import CloudError


def fail_with(error):
    def probe(checkpoint: str, data: object, *, out: str) -> dict:
        raise error

    return probe


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """Runs the real command line over a job that fails in a way that cannot be brought about from outside."""

    def run(error):
        monkeypatch.setattr(geo3d.jobs, "probe", fail_with(error))
        return main(["probe", "checkpoint=x", "data=folder", f"data.root={tmp_path}", f"out={tmp_path / 'run'}"])

    return run


def line(capsys):
    (only,) = capsys.readouterr().err.splitlines()
    return only


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"geo3d {geo3d.__version__}\n"
    assert main([]) == main(["--help"]) == main(["help"]) == 0
    assert capsys.readouterr().out.count("usage: geo3d COMMAND") == 3


@pytest.mark.parametrize("words", [[], ["--help"], ["pretrain", "--help"], ["finetune", "--help"], ["data", "--help"]])
def test_help_imports_no_torch_and_is_quick(words):
    code = (
        "import sys; from geo3d.cli.__main__ import main; s = main(sys.argv[1:]); sys.exit(s or 'torch' in sys.modules)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: geo3d" in done.stdout
    assert time.perf_counter() - start < 5  # a second on an idle machine


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "geo3d", "pretrian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("geo3d: error: pretrian: no such command; did you mean 'pretrain'?")
    assert len(done.stderr.splitlines()) == 1


def test_a_command_that_has_another_name_now_is_refused_with_it(capsys):
    assert main(["series", "out=run"]) == 2
    assert capsys.readouterr().err == "geo3d: error: series: is now geo3d sweep; its options are the same\n"


def test_whoever_reads_the_output_may_stop_early():
    done = subprocess.run(
        f"{sys.executable} -m geo3d probe --help | head -n 1", shell=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("usage")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "encoder=dgcn"], "encoder=dgcn: no such encoder; did you mean 'dgcnn'?"),
        (["pretrain", "out=x", "encoder=pointnet", "encoder.widht=2"], "did you mean 'width'?"),
        (["pretrain", "out=x", "encoder=pointnet", "trainer.max_epoch=2"], "did you mean 'max_epochs'?"),
        (["pretrain", "out=x", "encoder=pointnet", "lr=abc"], "lr: 'abc' is not a float"),
        (["pretrain", "encoder=pointnet"], "out: a value is needed; give out=DIR"),
        (["pretrain", "encoder=pointnet", "out="], "out: a value is needed; give out=DIR"),
        (["probe", "checkpoint=", "out=x"], "checkpoint: a value is needed; give checkpoint=DIR/encoder"),
        (["probe", "checkpoint=x", "out=x", "data=folder", "data.root="], "data.root: a value is needed; give"),
        (["embed", "checkpoint=x", "", "out=x"], "'': expected KEY=VALUE; a cloud file is written cloud=FILE"),
        (
            ["embed", "checkpoint=x", "a/b=c.ply", "out=x"],
            "a/b=c.ply: expected KEY=VALUE; a cloud file is written",
        ),
        (["embed", "checkpoint=x", "cloud=", "out=x"], "cloud: a value is needed; give cloud=FILE"),
        (["probe", "checkpoint=x", "out=x", "episodes=[5,10]"], "for example [[5,10]]"),
        (["probe", "checkpoint=x", "out=x", "data.size=["], "data.size=[: its value cannot be understood; a list is"),
        (["probe", "checkpoint=x", "out=x", "data=modelnet"], "data.root: a value is needed; give data.root=PATH"),
        (["probe", "x.ply", "out=x"], "x.ply: expected KEY=VALUE"),
        (["probe", "--verbose", "out=x"], "--verbose: expected KEY=VALUE"),
        (["data", "lst"], "data lst: expected data list, data check NAME root=PATH, or data prepare NAME"),
        (["data", "check", "modlnet"], "did you mean 'modelnet'?"),
        (["data", "check", "modelnet"], "root: a value is needed; give root=PATH"),
    ],
)
def test_mistakes_are_one_line_and_status_2(words, message, capsys):
    assert main(words) == 2
    said = line(capsys)
    assert said.startswith("geo3d: error: ")
    assert message in said


def test_an_unreadable_experiment_is_the_users(capsys):
    assert main(["pretrain", "experiment=nowhere"]) == 2
    assert "experiment=nowhere: no such experiment" in line(capsys)


def test_the_configuration_can_be_printed_without_running(capsys, tmp_path):
    words = ["pretrain", "encoder=pointnet", f"out={tmp_path / 'run'}", "seed=7", "--cfg"]
    assert main(words) == 0
    assert "seed: 7" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_geo3d_error_is_one_line(failing, capsys):
    assert failing(CloudError("x.ply: empty")) == 2
    assert line(capsys) == "geo3d: error: x.ply: empty"


def test_a_full_disk_is_one_line_also_when_a_library_only_says_so(failing, capsys, tmp_path):
    out = tmp_path / "run"
    full = f"geo3d: error: out={out}: could not be written, the disk is full"
    assert failing(OSError(errno.ENOSPC, "No space left on device", str(out / ".config.0123.yaml"))) == 2
    assert line(capsys) == f"{full}; free space, run again"
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / "last.ckpt").write_text("")
    assert failing(RuntimeError("IoError(StorageFull, 'No space left on device')")) == 2
    assert line(capsys) == f"{full}; the previous checkpoint is intact; free space, run again"
    assert failing(OSError(errno.ENOSPC, "No space left on device", "elsewhere/.x.0123.json")) == 2
    assert line(capsys) == "geo3d: error: elsewhere: could not be written, the disk is full; free space, run again"


def test_a_place_that_may_not_be_written_is_the_users(failing, capsys):
    assert failing(PermissionError(errno.EACCES, "Permission denied", "/x")) == 2
    assert line(capsys) == "geo3d: error: /x: permission denied"


@pytest.mark.parametrize("word", ["out=\udcff", "a\nb=1", "out=a\0b", "lr=\x1b[31m", "\udcff"])
@pytest.mark.parametrize("command", [["pretrain"], ["data", "check"], ["bench"], ["export"], ["doctor"], []])
def test_words_that_cannot_be_printed_or_stored_are_refused(command, word, capsys):
    assert main([*command, word]) == 2
    assert line(capsys).endswith("expected text in UTF-8 without control characters, such as line breaks")


def test_a_line_stays_readable_whatever_was_given(capsys):
    for words in (
        ["x" * 10**6],
        ["pretrain", "x" * 10**6],
        ["pretrain", f"encoder={'x' * 10**6}"],
        ["export", "x" * 10**6],
    ):
        assert main(words) == 2
        assert 20 < len(line(capsys)) < 700


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_to_lower(error, failing, capsys):
    assert failing(error) == 2
    assert "not enough memory; lower data.batch_size" in line(capsys)


def test_the_traceback_of_a_tool_does_not_lie_where_its_file_should(monkeypatch, capsys, tmp_path):
    def fail(words):
        raise ZeroDivisionError

    monkeypatch.setattr("geo3d.cli.export.export", fail)
    assert main(["export", f"out={tmp_path / 'encoder.onnx'}"]) == 1
    assert not list(tmp_path.iterdir())


def test_an_interruption(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert "interrupted" in line(capsys)


def test_a_termination(failing, capsys):
    from geo3d.tasks.trainer import StoppedError

    assert failing(StoppedError("stopped by SIGTERM; run it again")) == 143
    assert "stopped by SIGTERM" in line(capsys)


def test_what_the_system_refuses_is_named_with_its_file(failing, capsys):
    assert failing(PermissionError(errno.EACCES, "Permission denied", "clouds/a.ply")) == 2
    assert line(capsys) == "geo3d: error: clouds/a.ply: permission denied"


def test_our_fault_keeps_its_traceback_in_the_run_folder(failing, capsys, tmp_path):
    assert failing(ZeroDivisionError("a\nb")) == 1
    assert line(capsys).endswith(f"ZeroDivisionError: a; the traceback is in {tmp_path / 'run' / 'traceback.txt'}")
    assert "fail_with" not in (text := (tmp_path / "run" / "traceback.txt").read_text())
    assert text.startswith("Traceback") and "raise error" in text


def test_figures_are_the_single_values():
    result = {"a": 1, "b": {"c": 0.123456, "d": {"e": 1}}, "f": [1], "g": True, "h": None, "features": "x/features.npz"}
    assert list(figures(result)) == ["a  1", "b.c  0.1235", "g  True", "features  x/features.npz"]


def test_a_copy_that_does_not_fit_is_named_by_where_it_went(tmp_path):
    from geo3d.cli.__main__ import full_place

    error = OSError(28, "No space left on device", "/elsewhere/part", None, str(tmp_path / "checkpoints" / "last"))
    assert full_place(error, str(tmp_path)).startswith(f"out={tmp_path}: could not be written")


def test_the_error_of_a_worker_is_one_line(capsys):
    text = "Caught CloudError in DataLoader worker process 0.\nOriginal Traceback:\n  File ...\n"
    assert explain(CloudError(f"{text}geo3d.errors.CloudError: a.ply: the cloud is empty; remove it\n"), []) == 2
    assert capsys.readouterr().err == "geo3d: error: a.ply: the cloud is empty; remove it\n"
