import errno
import json

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from geo3d import compress, encoders, heads
from geo3d.checkpoint import (
    CARD,
    HEAD,
    WEIGHTS,
    build_encoder,
    card_sum,
    files,
    fingerprint,
    load_encoder,
    load_head,
    open_checkpoint,
    read_card,
    save_encoder,
    save_head,
)
from geo3d.checkpoint.quantized import as_codes
from geo3d.decoders import FeaturePropagation, GlobalConcat
from geo3d.decoders.build import decoder_for
from geo3d.encoders import DGCNN, PointNet
from geo3d.errors import CheckpointError
from geo3d.heads import Classifier
from geo3d.seeds import generator, seeded
from geo3d.testing import tiny_batch


def small():
    return DGCNN(k=4, channels=(8, 8), embedding=16)


def signed(card):
    """The card with a sum that is right."""
    said = {key: value for key, value in card.items() if key != "card_sha256"}
    return said | {"card_sha256": card_sum(said)}


def forge(folder, card, state=None):
    """Another card, in both places, with a sum that is right: what only somebody who means it can make."""
    state = safetensors.torch.load((folder / WEIGHTS).read_bytes()) if state is None else state
    safetensors.torch.save_file(state, folder / WEIGHTS, {"card": json.dumps(signed(card))})
    (folder / CARD).write_text(json.dumps(signed(card)))


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


def test_the_sum_of_a_card_does_not_depend_on_the_order_of_its_lines():
    card = {"class": "DGCNN", "keywords": {"k": 4, "channels": [8]}, "card_sha256": "x"}
    other = {"keywords": {"channels": (8,), "k": 4}, "class": "DGCNN"}
    assert card_sum(card) == card_sum(other) != card_sum(other | {"class": "PointNet"})


def test_the_fingerprint_is_of_names_types_shapes_and_values():
    one = {"a": torch.zeros(2), "b": torch.ones(2)}
    others = [
        {"a": one["b"], "b": one["a"]},
        {"a": one["a"], "c": one["b"]},
        {"a": one["a"].double(), "b": one["b"]},
        {"a": one["a"].view(2, 1), "b": one["b"]},
    ]
    assert len({fingerprint(state) for state in [one, *others]}) == 5
    assert fingerprint(dict(reversed(one.items()))) == fingerprint(one)


def test_another_class_than_asked_for_is_refused(tmp_path):
    save_encoder(small(), tmp_path)
    with pytest.raises(CheckpointError, match="expected a PointNet, found a DGCNN"):
        load_encoder(tmp_path, PointNet)


def test_missing_and_damaged_checkpoints_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        load_encoder(tmp_path / "nowhere")
    for i in range(12):
        (tmp_path / "other" / f"{i:02}").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="found 00, 01, 02, 03, 04, 05, 06, 07; give the encoder's folder"):
        load_encoder(tmp_path / "other")
    save_encoder(small(), tmp_path / "half")
    (tmp_path / "half" / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"expected {WEIGHTS} and {CARD}; found {CARD}; give"):
        load_encoder(tmp_path / "half")
    save_encoder(small(), tmp_path)
    blob = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(blob[: len(blob) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_encoder(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(blob)
    card = json.loads((tmp_path / CARD).read_text())
    for change, message in (
        ({"class": "DGCN"}, "did you mean 'DGCNN'"),
        ({"keywords": {"kk": 3}}, "do not fit"),
        ({"keywords": card["keywords"] | {"embedding": 8}}, "do not fit"),
    ):
        forge(tmp_path, card | change)
        with pytest.raises(CheckpointError, match=message):
            load_encoder(tmp_path)
    forge(tmp_path, card)
    assert load_encoder(tmp_path).k == 4
    (tmp_path / WEIGHTS).write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="damaged"):
        load_encoder(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(blob)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(CheckpointError, match="encoder.json: damaged.*JSONDecodeError"):
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


RECIPES = {
    "w8": {"quantize": {}},
    "w2": {"quantize": {"weights": 2, "activations": 2}},
    "mixed": {"quantize": {"weights": 3, "layers": {"embed": [2, 4]}}},
    "structured_w4": {"structure": {"min_channels": 16}, "quantize": {"weights": 4, "activations": 4}},
    "low_rank": {"structure": {"min_channels": 16, "low_rank": True}},
    "channels": {"prune": {"kept": 0.5, "shrink_output": True, "one_shot": True}},
    "zeros_w4": {"prune": {"group": "weight", "one_shot": True}, "quantize": {"weights": 4}},
    "soft": {"prune": {"kept": 0.6}},
    "adaptive_w4": {
        "quantize": {"weights": 4},
        "adapt": {"widths": [0.5, 1], "depths": [2], "ks": [2, 4], "points": [16, 32]},
    },
}


def apply_recipe(recipe, channels=(16, 16), embedding=32):
    """A compressed DGCNN whose norms have scales of both signs, after a training step."""
    with seeded("encoder"):
        encoder = DGCNN(k=4, channels=channels, embedding=embedding)
        for norm in (encoder.norm, *(layer.norm for layer in encoder.layers)):
            torch.nn.init.normal_(norm.weight)
    encoder.train()(tiny_batch())
    encoder = compress.apply(encoder, recipe)
    encoder.train()(tiny_batch())
    return encoder


@pytest.mark.parametrize("name", RECIPES)
def test_compressed_encoders_come_back_and_go_on_learning(name, tmp_path):
    encoder = apply_recipe(RECIPES[name])
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    assert type(again) is type(encoder) and read_card(tmp_path)["compression"] == compress.records(again)
    one, two = as_codes(encoder), as_codes(again)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    batch = tiny_batch(num_points=[20, 32, 30])
    with torch.no_grad():
        assert torch.equal(encoder.eval()(batch).cloud, again(batch).cloud)
    before = {key: value.clone() for key, value in again.named_parameters()}
    learned = [p for p in again.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, 1e-2)
    again.train()(batch).cloud.square().mean().backward()
    assert sum(p.grad is not None for p in learned) > len(learned) / 2
    optimizer.step()
    assert sum(not torch.equal(before[key], p) for key, p in again.named_parameters()) > len(before) / 3
    save_encoder(again, tmp_path)  # and is stored once more
    assert torch.equal(load_encoder(tmp_path)(batch).cloud, again.eval()(batch).cloud)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_files_are_as_small_as_their_bits(bits, tmp_path):
    encoder = apply_recipe({"quantize": {"weights": bits, "first": bits}}, channels=(32, 64), embedding=256)
    blob = (save_encoder(encoder, tmp_path / "small") / WEIGHTS).read_bytes()
    weights = 32 * 6 + 64 * 64 + 256 * 96
    rounded = ("embed.weight", "linear.weight")
    rest = sum(value.nbytes for key, value in encoder.state_dict().items() if not key.endswith(rounded))
    head = 8 + int.from_bytes(blob[:8], "little")
    assert len(blob) - head == -(-weights * bits // 8) + rest
    # steps of every output channel and of the tables, norms: less than a fifth of what the weights took
    assert rest < 4 * weights / 5
    plain = save_encoder(apply_recipe({}, channels=(32, 64), embedding=256), tmp_path / "plain") / WEIGHTS
    assert len(blob) < plain.stat().st_size * (bits / 32 + 0.2)


def card_with(tmp_path, **changes):
    """The card on disk, changed."""
    card = json.loads((tmp_path / CARD).read_text())
    forge(tmp_path, {k: v for k, v in (card | changes).items() if v is not None})
    return card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda steps: [{"step": "distil"}], "names a compression step 'distil'; known: structure, prune"),
        (lambda steps: None, "the weights do not fit DGCNN: .*embed.codes|embed.weight"),
        (lambda steps: steps[:1], "the weights do not fit DGCNN"),
        (lambda steps: steps[1:], "layers.1.linear.codes: .* codes of 4 bits take"),
        (lambda steps: [steps[0] | {"ranks": {"embed": 8}}, steps[1]], "do not fit DGCNN: layers.1.linear.codes"),
        (lambda steps: [steps[0] | {"ranks": {"embed": 99}}, steps[1]], "structure does not fit .*rank must be"),
        (lambda steps: [steps[0] | {"ranks": {"levels.0": 8}}, steps[1]], "structure does not fit"),
        (lambda steps: [steps[0], {"step": "quantize"}], "quantize does not fit"),
        (lambda steps: [steps[0], steps[1] | {"bits": {"embed": [4, 4]}}], "do not fit DGCNN"),
        (lambda steps: [steps[0], steps[1] | {"per_channel": False}], "do not fit DGCNN"),
        (lambda steps: [steps[0], steps[1] | {"bits": dict.fromkeys(steps[1]["bits"], [3, 4])}], "codes of 3 bits"),
        (lambda steps: "quantize", "must be a list"),
        (lambda steps: [*steps, {"step": "adapt"}], "adapt does not fit"),
    ],
)
def test_an_edited_card_is_refused_in_one_line(change, message, tmp_path):
    save_encoder(apply_recipe(RECIPES["structured_w4"]), tmp_path)
    card_with(tmp_path, compression=change(read_card(tmp_path)["compression"]))
    with pytest.raises(CheckpointError, match=message) as raised:
        load_encoder(tmp_path)
    said = str(raised.value)
    assert "\n" not in said and str(tmp_path) in said and len(said) < 600


def test_the_record_of_another_encoder_is_refused(tmp_path):
    save_encoder(compress.calibrate(compress.quantize(PointNet(embedding=16, width=0.125)), [tiny_batch()]), tmp_path)
    record = read_card(tmp_path)["compression"]
    save_encoder(apply_recipe(RECIPES["w8"]), tmp_path)
    card_with(tmp_path, compression=record)
    with pytest.raises(CheckpointError, match="quantize does not fit the encoder"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("change", ["truncated", "missing", "of another type"])
def test_codes_that_are_not_those_of_the_card_are_refused(change, tmp_path):
    encoder = apply_recipe(RECIPES["w8"])
    save_encoder(encoder, tmp_path)
    state = safetensors.torch.load_file(tmp_path / WEIGHTS)
    codes = state.pop("embed.codes")
    if change != "missing":
        state["embed.codes"] = codes[:-3] if change == "truncated" else codes.float()
    forge(tmp_path, read_card(tmp_path) | {"sha256": fingerprint(state)}, state)
    with pytest.raises(CheckpointError, match="do not fit DGCNN.*embed") as raised:
        load_encoder(tmp_path)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)


def test_a_checkpoint_of_before_compression_loads(tmp_path):
    encoder = small()
    save_encoder(encoder, tmp_path)
    card = read_card(tmp_path)
    assert "compression" not in card and not any(key.endswith("codes") for key in as_codes(encoder))
    blob = {key: value.contiguous() for key, value in encoder.state_dict().items()}
    safetensors.torch.save_file(blob, tmp_path / WEIGHTS, {"card": json.dumps(card)})
    assert torch.equal(load_encoder(tmp_path)(tiny_batch()).cloud, encoder.eval()(tiny_batch()).cloud)
    assert compress.records(load_encoder(tmp_path)) == [] and load_head(tmp_path) is None


HEADS = {
    "published": {},
    "plain": {"hidden": ()},
    "first": {"hidden": (12, 8), "bias": True, "dropout": (0.0, 0.4), "negative_slope": 0.0, "dropout_first": True},
}


@pytest.mark.parametrize("bits", [None, 8, 3])
@pytest.mark.parametrize("name", HEADS)
def test_heads_come_back_as_they_were(name, bits, tmp_path):
    save_encoder(small(), tmp_path)
    x = torch.randn(9, 32, generator=generator("head"))
    head = Classifier(32, 3, **HEADS[name])
    if bits:
        head = compress.calibrate(compress.quantize(head, bits, bits), [x])
    save_head(head, tmp_path)
    again = load_head(tmp_path)
    assert torch.equal(head.eval()(x), again(x)) and not again.training
    for key in ("in_channels", "num_classes", "hidden", "bias", "dropout", "negative_slope", "dropout_first"):
        assert getattr(again, key) == getattr(head, key), key


def test_damaged_heads_are_named(tmp_path):
    save_encoder(small(), tmp_path)
    head = compress.calibrate(compress.quantize(Classifier(32, 3, hidden=(8,)), 4, 4), [torch.randn(9, 32)])
    save_head(head, tmp_path)
    blob = (tmp_path / HEAD).read_bytes()
    metadata = safe_open(tmp_path / HEAD, "pt").metadata()
    state = safetensors.torch.load(blob)  # a mapped file would follow what is written below
    card = json.loads(metadata["card"])

    def said(write):
        write()
        with pytest.raises(CheckpointError) as raised:
            load_head(tmp_path)
        assert "\n" not in str(raised.value) and str(tmp_path / HEAD) in str(raised.value)
        return str(raised.value)

    def stored(card):
        safetensors.torch.save_file(state, tmp_path / HEAD, {"card": json.dumps(card)})

    assert "damaged" in said(lambda: (tmp_path / HEAD).write_bytes(blob[: len(blob) // 2]))
    assert "damaged" in said(lambda: (tmp_path / HEAD).write_bytes(blob[:-1] + bytes([blob[-1] ^ 1])))
    assert "damaged" in said(lambda: stored({k: v for k, v in card.items() if k not in ("sha256", "card_sha256")}))
    assert "the card is damaged" in said(lambda: stored(card | {"num_classes": 4}))
    assert "another encoder" in said(lambda: stored(signed(card | {"encoder": "0" * 64})))
    assert "damaged" in said(lambda: safetensors.torch.save_file(state, tmp_path / HEAD))
    assert "do not fit" in said(lambda: stored(signed(card | {"compression": []})))
    assert "distil" in said(lambda: stored(signed(card | {"compression": [{"step": "distil"}]})))
    assert "width" in said(lambda: stored(signed(card | {"keywords": card["keywords"] | {"width": 3}})))
    assert "do not fit" in said(lambda: stored(signed(card | {"keywords": card["keywords"] | {"num_classes": 4}})))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    encoder = apply_recipe(RECIPES["w8"])
    with torch.no_grad():
        encoder.norm.bias[3] = float("nan")
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        save_encoder(encoder, tmp_path)
    head = Classifier(32, 3)
    with torch.no_grad():
        head.layers[0].weight[0, 0] = float("inf")
    with pytest.raises(CheckpointError, match="the head has NaN or infinite weights"):
        save_head(head, tmp_path)
    assert not (tmp_path / HEAD).exists()


def test_everything_is_written_with_the_encoder_and_read_once(tmp_path, monkeypatch):
    encoder = encoders.PointNet2(num_samples=(8, 4), width=0.1)
    with seeded(0, "parts"):
        head = Classifier(encoder.cloud_channels, 3, hidden=(8,)).eval()
        decoder = decoder_for(encoder, FeaturePropagation, channels=((8,), (8,), (4,))).eval()
    save_encoder(encoder, tmp_path, head=head, decoder=decoder, note="all")
    opened: list[str] = []
    real = files.safe_open
    monkeypatch.setattr(files, "safe_open", lambda path, *rest: opened.append(path.name) or real(path, *rest))
    found = open_checkpoint(tmp_path)
    assert sorted(opened) == ["decoder.safetensors", "encoder.safetensors", "head.safetensors"]
    assert found.card["note"] == "all" and found.folder == tmp_path
    for one, other in ((found.encoder, encoder), (found.head, head), (found.decoder, decoder)):
        assert type(one) is type(other) and not one.training
        state = other.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


def test_nothing_is_written_if_a_part_cannot_be(tmp_path):
    head = Classifier(32, 3)
    with torch.no_grad():
        head.layers[0].weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="the head has NaN"):
        save_encoder(small(), tmp_path, head=head)
    with pytest.raises(CheckpointError, match="cannot save a .*Linear: not one of geo3d.heads"):
        save_encoder(small(), tmp_path, head=torch.nn.Linear(3, 3))
    assert not list(tmp_path.iterdir())


def test_parts_that_read_other_channels_are_refused(tmp_path):
    encoder = small()
    width = encoder.cloud_channels
    for parts, message in (
        ({"head": Classifier(99, 3)}, f"head: the Classifier reads 99 channels, but there are cloud_channels={width}"),
        ({"decoder": GlobalConcat(99, 77)}, "decoder: the GlobalConcat reads point_channels=99, but the encoder has"),
        ({"decoder": FeaturePropagation((3, 5), 8, channels=((4,), (4,)))}, r"reads cloud_channels=8, but"),
    ):
        with pytest.raises(CheckpointError, match=message):
            save_encoder(encoder, tmp_path / "new", **parts)
    assert not (tmp_path / "new").exists()
    with pytest.raises(CheckpointError, match="the card can hold only what JSON has"):
        save_encoder(encoder, tmp_path / "new", note=object())
    assert not (tmp_path / "new").exists()


def test_parts_of_the_checkpoint_that_was_there_are_removed(tmp_path):
    encoder, other = small(), small()
    width = encoder.cloud_channels
    with torch.no_grad():
        next(other.parameters()).add_(1)
    decoder = decoder_for(encoder, GlobalConcat)
    save_encoder(encoder, tmp_path, head=Classifier(width, 3), decoder=decoder)
    save_encoder(other, tmp_path, head=Classifier(width, 4))
    found = open_checkpoint(tmp_path)
    assert found.head.num_classes == 4 and found.decoder is None
    save_encoder(other, tmp_path)
    assert open_checkpoint(tmp_path).head is None


@pytest.mark.parametrize("kind", ["Projector", "Predictor"])
def test_heads_are_saved_by_class_name(kind, tmp_path):
    head = getattr(heads, kind)(small().cloud_channels).eval()
    save_encoder(small(), tmp_path, head=head)
    again = load_head(tmp_path)
    assert type(again) is type(head)
    x = torch.randn(4, small().cloud_channels, generator=generator("heads"))
    assert torch.equal(again(x), head(x))


def test_a_head_of_an_unknown_class_is_named(tmp_path, monkeypatch):
    save_encoder(small(), tmp_path, head=heads.Predictor(small().cloud_channels))
    monkeypatch.setattr(heads, "__all__", ["Projector"])
    with pytest.raises(CheckpointError, match="head.safetensors: holds a Predictor, which this geo3d does not know"):
        load_head(tmp_path)
