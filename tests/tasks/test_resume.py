"""The file from which a run continues: verified as a whole, and bound to its run."""

import json
import shutil
import threading

import pytest
import torch
from support.blobs import Blobs

from geo3d import objectives
from geo3d.checkpoint import load_encoder
from geo3d.encoders import DGCNN
from geo3d.errors import CheckpointError
from geo3d.invariance import SO3
from geo3d.jobs import finetune, pretrain
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.resume import FORM, HEADER, ResumeFile, identity


def run(out, epochs=2, **keywords):
    with seeded(1, "encoder"):
        encoder = DGCNN(k=4, channels=(8,), embedding=8)
    data = DataModule(Blobs, batch_size=8, num_points=16, size=16, holdout=0.0)
    trainer = {"max_epochs": epochs, "progress": False, "accelerator": "cpu"}
    keywords = {"projector": (8,), "trainer": trainer} | keywords
    return pretrain(encoder, objectives.InfoNCE(), SO3(), data, out=out, **keywords)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of one epoch that is to have two."""
    out = tmp_path_factory.mktemp("run")
    run(out, epochs=1)
    return out


def copied(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "run")


def test_every_region_of_the_file_is_verified(begun, tmp_path):
    out = copied(begun, tmp_path)
    last = out / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    places = sorted({*range(HEADER), *range(HEADER, len(content), len(content) // 300), len(content) - 1})
    for place in places:
        last.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match=r"last\.ckpt: (damaged|belongs)"):
            ResumeFile(out).load_checkpoint(last)
    for damaged in (b"", content[:50], content[:-1], content + b"x", b"\x80\x04N."):
        last.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged or cut off; delete it to start anew") as raised:
            run(out)
        assert "\n" not in str(raised.value)


def test_without_damage_it_continues(begun, tmp_path):
    straight = tmp_path / "straight"
    run(straight)
    out = copied(begun, tmp_path)
    run(out)
    one, two = (load_encoder(each).state_dict() for each in (straight, out))
    assert one.keys() == two.keys()
    again = tmp_path / "again"
    run(again, epochs=2)
    assert all(torch.equal(one[key], value) for key, value in load_encoder(again).state_dict().items())


def test_the_file_of_another_run_is_refused(begun, tmp_path):
    other = tmp_path / "other"
    run(other, epochs=1, lr=0.5)
    out = copied(begun, tmp_path)
    shutil.copy(other / "checkpoints" / "last.ckpt", out / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match="belongs to another run"):
        run(out)


def test_a_file_without_a_checksum_is_refused(begun, tmp_path):
    out = copied(begun, tmp_path)
    last = out / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": {}}, last)
    with pytest.raises(CheckpointError, match="has no checksum, as before geo3d 0.2.0, and cannot be continued"):
        run(out)


class Touch:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("content", ["hostile", "list", "empty", "other shapes"])
def test_a_file_with_a_right_sum_and_a_wrong_content_is_refused_in_one_line(content, begun, tmp_path):
    out = copied(begun, tmp_path)
    last = out / "checkpoints" / "last.ckpt"
    state = ResumeFile(out).load_checkpoint(last)
    if content == "other shapes":
        state["state_dict"] = {key: torch.zeros(3) for key in state["state_dict"]}
    wrong = {"hostile": {"x": Touch(tmp_path / "touched")}, "list": [1], "empty": {}, "other shapes": state}[content]
    ResumeFile(out).save_checkpoint(wrong, last)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: (cannot be read|expected|does not fit)") as raised:
        run(out)
    assert "\n" not in str(raised.value) and not (tmp_path / "touched").exists()


def test_the_header_names_the_run(begun):
    header = (begun / "checkpoints" / "last.ckpt").read_bytes()[:HEADER]
    assert header.startswith(FORM + identity(begun).encode() + b" ") and header.endswith(b"\n")


def test_the_history_of_a_finished_run_is_written_again(begun, tmp_path):
    out = copied(begun, tmp_path)
    before = (out / "metrics.csv").read_bytes()
    (out / "metrics.csv").unlink()
    with pytest.warns(UserWarning, match="nothing was left to train"):
        run(out, epochs=1)
    assert (out / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("job", ["pretrain", "finetune"])
def test_a_run_in_another_thread_ends_well(job, tmp_path):
    found = {}

    def work():
        if job == "pretrain":
            found["metrics"] = run(tmp_path, epochs=1)
            return
        data = DataModule(Blobs, batch_size=8, num_points=16, size=24)
        trainer = {"max_steps": 2, "progress": False, "accelerator": "cpu"}
        found["metrics"] = finetune(data, out=tmp_path, encoder=DGCNN(k=4, channels=(8,), embedding=8), trainer=trainer)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert json.loads((tmp_path / "metrics.json").read_text()) == found["metrics"]
    assert load_encoder(tmp_path).k == 4
