import pytest
import torch

from geo3d.cli.__main__ import main
from geo3d.cli.config import choices


@pytest.fixture
def clouds(tmp_path):
    for label in ("cup", "lamp"):
        for split in ("train", "test"):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(2):
                pos = torch.randn(20, 3, generator=torch.Generator().manual_seed(index))
                text = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in pos.tolist())
                (tmp_path / split / label / f"{index}.xyz").write_text(text)
    return tmp_path


def test_the_list_names_what_data_may_be(capsys):
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == choices("data")


def test_a_folder_is_checked(clouds, capsys):
    assert main(["data", "check", "folder", f"root={clouds}", "split=test", "up=z"]) == 0
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert printed["clouds"] == "4"
    assert printed["split"] == "test"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rot=x", "root=x"], "rot: geo3d.data.Folder takes no 'rot'; did you mean 'root'?"),
        (["batch_size=3", "root=x"], "batch_size: geo3d.data.Folder takes no 'batch_size'"),
        (["root=3"], "3: no such folder"),
        (["root=[3]", "up=3"], "root: [3] is not a str"),
        (["root=x", "up=3"], "up: 3 is not y or z"),
        (["root=x", "_target_=geo3d.data.Shapes"], "_target_=geo3d.data.Shapes: expected KEY=VALUE"),
        (["root=x", "_up=y"], "_up=y: expected KEY=VALUE"),
        (["root"], "root: expected KEY=VALUE"),
    ],
)
def test_wrong_options_of_a_check(words, message, capsys):
    assert main(["data", "check", "folder", *words]) == 2
    assert capsys.readouterr().err.startswith(f"geo3d: error: {message}")


def test_a_broken_file_is_named(clouds, capsys):
    (clouds / "train" / "cup" / "0.xyz").write_text("1 2 nan\n")
    assert main(["data", "check", "folder", f"root={clouds}"]) == 2
    said = capsys.readouterr()
    assert "0.xyz" in said.err and said.err.count("\n") == 1
    rows = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert rows["clouds"] == "4" and "0.xyz" in rows["broken"]


def test_a_file_is_no_folder(clouds, capsys):
    assert main(["data", "check", "folder", f"root={clouds / 'test' / 'cup' / '0.xyz'}"]) == 2
    assert "0.xyz: expected a folder, found a file" in capsys.readouterr().err
