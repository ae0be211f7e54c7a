import errno
import json

import pytest
import torch

from geo3d import encoders
from geo3d.checkpoint import CARD, WEIGHTS, build_encoder, load_encoder, read_card, save_encoder
from geo3d.encoders import DGCNN, PointNet
from geo3d.errors import CheckpointError
from geo3d.testing import tiny_batch


def small():
    return DGCNN(k=4, channels=(8, 8), embedding=16)


@pytest.mark.parametrize("name", encoders.__all__)
def test_every_encoder_comes_back_as_it_was(name, tmp_path):
    encoder = getattr(encoders, name)()
    batch = tiny_batch()
    encoder.train()(batch)
    encoder.eval()
    save_encoder(encoder, tmp_path / "run" / "encoder", note="kept")
    again = load_encoder(tmp_path / "run")
    assert torch.equal(encoder(batch).cloud, again(batch).cloud)
    assert read_card(tmp_path / "run")["note"] == "kept"
    assert type(build_encoder(read_card(tmp_path / "run"))) is type(encoder)


def test_another_class_than_asked_for_is_refused(tmp_path):
    save_encoder(small(), tmp_path)
    with pytest.raises(CheckpointError, match="expected a PointNet, found a DGCNN"):
        load_encoder(tmp_path, PointNet)


def test_missing_and_damaged_checkpoints_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        load_encoder(tmp_path / "nowhere")
    save_encoder(small(), tmp_path)
    blob = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(blob[: len(blob) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_encoder(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(blob)
    card = json.loads((tmp_path / CARD).read_text())
    for change, message in (
        ({"class": "DGCN"}, "did you mean DGCNN"),
        ({"keywords": {"kk": 3}}, "do not fit"),
        ({"keywords": card["keywords"] | {"embedding": 8}}, "do not fit"),
    ):
        (tmp_path / CARD).write_text(json.dumps(card | change))
        with pytest.raises(CheckpointError, match=message):
            load_encoder(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="damaged"):
        load_encoder(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(blob)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_encoder(tmp_path)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path, monkeypatch):
    first = small()
    save_encoder(first, tmp_path)

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_encoder(small(), tmp_path)
    monkeypatch.undo()
    kept = load_encoder(tmp_path).state_dict()
    assert all(torch.equal(kept[key], value) for key, value in first.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([WEIGHTS, CARD])


def test_killed_between_the_two_files_the_checkpoint_still_loads(tmp_path):
    save_encoder(small(), tmp_path, note="old")
    card = (tmp_path / CARD).read_bytes()
    second = small()
    save_encoder(second, tmp_path, note="new")
    (tmp_path / CARD).write_bytes(card)
    assert read_card(tmp_path)["note"] == "new"
    loaded = load_encoder(tmp_path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in second.state_dict().items())
